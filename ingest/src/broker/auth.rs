//! Authentication and authorisation, as the broker crate asks for them.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use acuvim_wire::topic;
use mqtt5::{
    broker::{AuthProvider, AuthResult},
    packet::connect::ConnectPacket,
    protocol::v5::reason_codes::ReasonCode,
};

use super::{login::Login, pending_logins::PendingLogin, unfinished::Unfinished};
use crate::credentials::{Access, CredentialsWatch, Identity, owns};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Checks logins; shared by all connections.
#[derive(Debug)]
pub(super) struct Authenticator {
    credentials: CredentialsWatch,
    prefix: String,
}

impl Authenticator {
    pub(super) fn new(credentials: CredentialsWatch, prefix: String) -> Arc<Self> {
        Arc::new(Self { credentials, prefix })
    }

    async fn authenticate(
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
                let login = Login { v5: connect.protocol_version == 5, identity };
                AuthResult::success_with_user(login.to_user())
            }
            None => {
                metrics::counter!("acuvim_mqtt_refused_logins_total").increment(1);
                tracing::info!(client_id = %connect.client_id, %from, "MQTT login refused");
                AuthResult::fail(ReasonCode::NotAuthorized)
            }
        }
    }
}

/// The login of one connection.
#[derive(Debug)]
pub(super) struct ConnectionAuth {
    authenticator: Arc<Authenticator>,
    from_a_page: bool,
    unfinished: Arc<Unfinished>,
    /// Dropped with the login.
    pending: Mutex<Option<PendingLogin>>,
}

impl ConnectionAuth {
    pub(super) fn new(
        authenticator: &Arc<Authenticator>,
        from_a_page: bool,
        unfinished: &Arc<Unfinished>,
        pending: PendingLogin,
    ) -> Self {
        Self {
            authenticator: Arc::clone(authenticator),
            from_a_page,
            unfinished: Arc::clone(unfinished),
            pending: Mutex::new(Some(pending)),
        }
    }

    fn logged_in(&self) {
        self.unfinished.logged_in();
        drop(self.pending.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl AuthProvider for ConnectionAuth {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> BoxFuture<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            let result = self.authenticator.authenticate(connect, from, self.from_a_page).await;
            if result.authenticated {
                self.logged_in();
            }
            Ok(result)
        })
    }

    /// MQTT 5 clients get an error for a topic that is not theirs. 3.1.1 has no such answer, and the crate
    /// would send a malformed packet: those clients get a PUBACK, and the hook drops the message.
    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        user: Option<&'a str>,
        topic: &'a str,
    ) -> BoxFuture<'a, bool> {
        let Authenticator { credentials, prefix } = self.authenticator.as_ref();
        let allowed = match Login::from_user(user) {
            Some(Login { v5: true, identity: Identity::Device { id, .. } }) => {
                topic == topic::REGISTER || owns(&id, topic, prefix)
            }
            Some(Login { v5: true, identity: Identity::Anonymous }) => {
                credentials.values.borrow().anyone_may_publish(prefix, topic, b"")
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
    ) -> BoxFuture<'a, bool> {
        let Authenticator { credentials, prefix } = self.authenticator.as_ref();
        let allowed = match Login::from_user(user).map(|login| login.identity) {
            Some(Identity::Anonymous) => {
                credentials.values.borrow().anyone_may_subscribe(prefix, filter)
            }
            Some(Identity::Device { id, .. }) => filter == topic::command(prefix, &id),
            None => false,
        };
        Box::pin(std::future::ready(allowed))
    }
}

#[cfg(test)]
mod tests;
