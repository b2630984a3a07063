//! The login of a connection, in the form in which the broker crate can store it.

use crate::credentials::Identity;

/// Protocol version and identity of a connection. The events of the broker crate carry only a user
/// name, so both are encoded in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub v5: bool,
    pub identity: Identity,
}

impl Login {
    pub(super) fn to_user(&self) -> String {
        let version = if self.v5 { '5' } else { '4' };
        match &self.identity {
            Identity::Anonymous => format!("{version}"),
            Identity::Device { id, secret } => format!("{version}:{id}:{secret}"),
        }
    }

    /// Decodes a user name that [`Self::to_user`] has made.
    pub(super) fn from_user(user: Option<&str>) -> Option<Self> {
        let user = user?;
        let mut parts = user.split(':');
        let version = parts.next()?;
        let identity = match (parts.next(), parts.next()) {
            (Some(id), Some(secret)) => {
                Identity::Device { id: id.to_owned(), secret: secret.to_owned() }
            }
            _ => Identity::Anonymous,
        };
        Some(Self { v5: version == "5", identity })
    }

    /// The device that it is authenticated as.
    pub(super) fn device(&self) -> Option<&str> {
        match &self.identity {
            Identity::Anonymous => None,
            Identity::Device { id, .. } => Some(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_survives_as_a_user_name() {
        let device = Identity::Device { id: "ACV-1".into(), secret: "0a1b".into() };
        for identity in [Identity::Anonymous, device] {
            for v5 in [true, false] {
                let login = Login { v5, identity: identity.clone() };
                assert_eq!(Login::from_user(Some(&login.to_user())), Some(login));
            }
        }
        assert_eq!(Login::from_user(None), None, "a connection that has not logged in");
        let anonymous = Login::from_user(Some("4")).expect("a login");
        assert_eq!((anonymous.device(), anonymous.v5), (None, false));
    }
}
