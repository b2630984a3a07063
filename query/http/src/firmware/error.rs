//! Problems with firmware.

use acuvim_model::problem::Code;

use crate::problem::ApiError;

impl From<acuvim_firmware_registry::Error> for ApiError {
    fn from(error: acuvim_firmware_registry::Error) -> Self {
        use acuvim_firmware_registry::ErrorKind;
        match error.kind() {
            ErrorKind::Unavailable => {
                tracing::info!(%error, "a request could not reach the firmware store");
                Self::new(Code::Unavailable, "the firmware store is away; try again")
            }
            ErrorKind::Invalid => Self::new(Code::Refused, error.to_string()),
            ErrorKind::NotFound | ErrorKind::Damaged => Self::new(Code::Damaged, error.to_string()),
            ErrorKind::Setup | ErrorKind::Internal => Self::internal(&error),
        }
    }
}

/// There is no such release, or the caller must not know of it.
pub(crate) fn no_firmware() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such firmware")
}
