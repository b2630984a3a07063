//! Answers that all kinds of resources share: that there is none, that a name is taken, that one is deleted.

use acuvim_control::ErrorKind;
use acuvim_model::problem::Code;
use axum::http::StatusCode;
use uuid::Uuid;

use crate::problem::ApiError;

/// A kind of resource, by the word for one of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resource(pub &'static str);

impl Resource {
    /// A 404: there is no resource of that id, or the caller does not see it.
    pub fn missing(self) -> ApiError {
        ApiError::new(Code::NotFound, format!("there is no such {}", self.0))
    }

    /// The id in a path. A text that is not an id gets the same answer as an unknown id.
    pub fn id(self, text: &str) -> Result<Uuid, ApiError> {
        text.parse().map_err(|_| self.missing())
    }

    /// The resource, or a 404.
    pub fn found<T>(self, found: Option<T>) -> Result<T, ApiError> {
        found.ok_or_else(|| self.missing())
    }

    /// The answer to a deletion, which says whether there was one.
    pub fn deleted(self, was_there: bool) -> Result<StatusCode, ApiError> {
        match was_there {
            true => Ok(StatusCode::NO_CONTENT),
            false => Err(self.missing()),
        }
    }

    /// An error of control on writing a resource whose name must be unique.
    pub fn taken(self, error: acuvim_control::Error) -> ApiError {
        match error.kind() {
            ErrorKind::Conflict => {
                ApiError::new(Code::Conflict, format!("there is a {} of that name", self.0))
            }
            _ => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        const RULE: Resource = Resource("rule");
        let missing = RULE.found(None::<()>).expect_err("there is none").problem;
        assert_eq!((missing.status, missing.detail.as_str()), (404, "there is no such rule"));
        assert_eq!(RULE.id("no id").expect_err("no id").problem, missing);
        assert_eq!(RULE.deleted(true).ok(), Some(StatusCode::NO_CONTENT));
        assert!(RULE.deleted(false).is_err());
    }
}
