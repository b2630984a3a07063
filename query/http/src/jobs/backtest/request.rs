//! What a backtest is to do, and what it works with.

use std::{collections::HashSet, sync::Arc};

use acuvim_control::Control;
use acuvim_lakehouse::{Engine, Lake};
use acuvim_model::DeviceScope;
use acuvim_rules::Compiled;
use acuvim_wire::Micros;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::error::BacktestError;

/// The parts that backtests work with.
pub(crate) struct BacktestParts {
    pub control: Control,
    pub lake: Arc<Lake>,
    pub engine: Engine,
    /// The threads for queries.
    pub threads: Handle,
    /// Why the tail can't be read now; none if it can.
    pub tail_fault: Arc<dyn Fn() -> Option<String> + Send + Sync>,
    /// How far ahead of its arrival a reading's time may be.
    pub max_ahead: Micros,
    /// Makes the text of a failure that the caller is shown.
    pub describe: fn(BacktestError) -> String,
}

impl std::fmt::Debug for BacktestParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BacktestParts").finish_non_exhaustive()
    }
}

/// A backtest to start.
#[derive(Debug)]
pub(crate) struct NewBacktest {
    /// The user or key that may follow it.
    pub owner: Uuid,
    pub rule: Compiled,
    /// The stored rule whose recorded alerts it is compared with.
    pub stored: Option<Uuid>,
    /// The devices that the rule judges.
    pub scope: DeviceScope,
    /// The devices that the caller sees; none: all.
    pub seen: Option<HashSet<String>>,
    pub from: Micros,
    pub to: Micros,
}

impl NewBacktest {
    /// Whether the caller sees a device.
    pub(super) fn sees(&self, device: &str) -> bool {
        self.seen.as_ref().is_none_or(|seen| seen.contains(device))
    }
}
