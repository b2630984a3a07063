//! Who may connect and subscribe, in the terms of the broker crate.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use acuvim_schemas::topic;
use mqtt5::{
    broker::{AuthProvider, AuthResult},
    packet::connect::ConnectPacket,
    protocol::v5::reason_codes::ReasonCode,
};

use super::room::{Progress, SilentPlace};
use crate::{Access, CredentialsWatch, Identity, credentials::owns};

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the broker crate remembers of a connection, since its events say no more: the protocol
/// version and the identity, in its field for a user name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub v5: bool,
    pub identity: Identity,
}

impl Session {
    fn to_user(&self) -> String {
        let version = if self.v5 { '5' } else { '4' };
        match &self.identity {
            Identity::Anonymous => format!("{version}"),
            Identity::Device { id, secret } => format!("{version}:{id}:{secret}"),
        }
    }

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

    /// The device that it had to prove to be.
    pub(super) fn device(&self) -> Option<&str> {
        match &self.identity {
            Identity::Anonymous => None,
            Identity::Device { id, .. } => Some(id),
        }
    }
}

/// By what everybody is judged.
#[derive(Debug)]
pub(super) struct Judge {
    credentials: CredentialsWatch,
    prefix: String,
}

impl Judge {
    pub(super) fn new(credentials: CredentialsWatch, prefix: String) -> Arc<Self> {
        Arc::new(Self { credentials, prefix })
    }

    async fn judge(
        &self,
        connect: &ConnectPacket,
        from: SocketAddr,
        from_a_page: bool,
    ) -> AuthResult {
        let access = Access {
            client_id: &connect.client_id,
            username: connect.username.as_deref(),
            password: connect.password.as_deref(),
            from: from.ip(),
            from_a_page,
            will_topic: connect.will.as_ref().map(|w| w.topic.as_str()),
        };
        match self.credentials.admit(&access, &self.prefix).await {
            Some(identity) => {
                let session = Session { v5: connect.protocol_version == 5, identity };
                AuthResult::success_with_user(session.to_user())
            }
            None => {
                metrics::counter!("acuvim_mqtt_refused_logins_total").increment(1);
                tracing::info!(client_id = %connect.client_id, %from, "MQTT login refused");
                AuthResult::fail(ReasonCode::NotAuthorized)
            }
        }
    }
}

/// One connection's way in: how it came, and that it has logged in.
#[derive(Debug)]
pub(super) struct Door {
    judge: Arc<Judge>,
    from_a_page: bool,
    progress: Arc<Progress>,
    /// Let go of with the login.
    place: Mutex<Option<SilentPlace>>,
}

impl Door {
    pub(super) fn new(
        judge: &Arc<Judge>,
        from_a_page: bool,
        progress: &Arc<Progress>,
        place: SilentPlace,
    ) -> Self {
        let (judge, progress) = (Arc::clone(judge), Arc::clone(progress));
        Self { judge, from_a_page, progress, place: Mutex::new(Some(place)) }
    }

    fn opened(&self) {
        self.progress.logged_in();
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl AuthProvider for Door {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            let result = self.judge.judge(connect, from, self.from_a_page).await;
            if result.authenticated {
                self.opened();
            }
            Ok(result)
        })
    }

    /// MQTT 5 clients are told at once that a topic is not theirs. 3.1.1 has no word for it (the
    /// crate would send them a malformed one): they get a PUBACK, and the hook drops the message.
    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        user: Option<&'a str>,
        topic: &'a str,
    ) -> Answer<'a, bool> {
        let Judge { credentials, prefix } = self.judge.as_ref();
        let allowed = match Session::from_user(user) {
            Some(Session { v5: true, identity: Identity::Device { id, .. } }) => {
                topic == topic::REGISTER || owns(&id, topic, prefix)
            }
            Some(Session { v5: true, identity: Identity::Anonymous }) => {
                credentials.values.borrow().anyone_may_say(prefix, topic, b"")
            }
            Some(_) => true,
            None => false,
        };
        if !allowed {
            metrics::counter!("acuvim_ingest_dropped_total", "reason" => "not_own_topic")
                .increment(1);
        }
        Box::pin(std::future::ready(allowed))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        user: Option<&'a str>,
        filter: &'a str,
    ) -> Answer<'a, bool> {
        let Judge { credentials, prefix } = self.judge.as_ref();
        let allowed = match Session::from_user(user).map(|s| s.identity) {
            Some(Identity::Anonymous) => {
                credentials.values.borrow().anyone_may_hear(prefix, filter)
            }
            Some(Identity::Device { id, .. }) => filter == topic::command(prefix, &id),
            None => false,
        };
        Box::pin(std::future::ready(allowed))
    }
}
