//! Why a backtest failed.

use datafusion::error::DataFusionError;

/// Why a backtest failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BacktestError {
    /// The rule can't be tested like this; the text says why.
    #[error("{0}")]
    Refused(String),
    #[error("the control database: {0}")]
    Control(#[from] acuvim_control::Error),
    #[error("the lake: {0}")]
    Lake(#[from] acuvim_lakehouse::Error),
    #[error("the engine: {0}")]
    Engine(#[from] DataFusionError),
    #[error("there is no telemetry")]
    NoTelemetry,
}
