//! Errors of rollouts.

/// Why a round of rollouts failed. The next round tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum RolloutError {
    #[error("the control database: {0}")]
    Control(#[from] acuvim_control::Error),
    #[error("the firmware store: {0}")]
    Firmware(#[from] acuvim_firmware_registry::Error),
}

impl RolloutError {
    /// Whether it is an internal fault, which does not pass by itself.
    fn is_fault(&self) -> bool {
        match self {
            Self::Control(error) => {
                use acuvim_control::ErrorKind;
                matches!(error.kind(), ErrorKind::Setup | ErrorKind::Internal)
            }
            Self::Firmware(error) => {
                use acuvim_firmware_registry::ErrorKind;
                matches!(error.kind(), ErrorKind::Setup | ErrorKind::Internal)
            }
        }
    }

    /// Logs it, with its consequence.
    pub fn log(&self, what: &str) {
        match self.is_fault() {
            true => tracing::error!(error = %self, "{what}"),
            false => tracing::info!(error = %self, "{what}"),
        }
    }
}
