//! The hook of the broker crate: gives messages to the intake and acknowledges them as it answers,
//! keeps track of the connections, and publishes last wills.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use bytes::Bytes;
use mqtt5::{
    QoS,
    broker::{
        BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent, ClientPublishEvent,
        ClientSubscribeEvent, ClientUnsubscribeEvent, MessageDeliveredEvent, PublishAction,
        router::MessageRouter,
    },
    packet::publish::PublishPacket,
};
use tokio::sync::watch;

use super::{
    client_limits::ClientLimits,
    connections::{Connections, LastWill, device_of},
    login::Login,
    outbound::Outbound,
    sessions::{Sessions, outdated},
};
use crate::{
    accept::Incoming,
    clock::now,
    credentials::{Credentials, Identity},
    intake::{Intake, Taken},
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(super) struct Hook {
    intake: Arc<Intake>,
    /// Weak, because the router holds this hook.
    router: OnceLock<Weak<MessageRouter>>,
    connections: Mutex<Connections>,
    sessions: Mutex<Sessions>,
    credentials: watch::Receiver<Credentials>,
    outbound: Arc<Outbound>,
    client_limits: ClientLimits,
}

impl Hook {
    pub fn new(
        intake: Arc<Intake>,
        credentials: watch::Receiver<Credentials>,
        outbound: Arc<Outbound>,
        client_limits: ClientLimits,
    ) -> Self {
        Self {
            intake,
            router: OnceLock::new(),
            connections: Mutex::default(),
            sessions: Mutex::default(),
            credentials,
            outbound,
            client_limits,
        }
    }

    pub fn attach(&self, router: &Arc<MessageRouter>) {
        let _ = self.router.set(Arc::downgrade(router));
        self.outbound.attach(router);
    }

    fn router(&self) -> Option<Arc<MessageRouter>> {
        self.router.get().and_then(Weak::upgrade)
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prefix(&self) -> &str {
        &self.intake.limits().topic_prefix
    }

    /// Disconnects the clients that the credentials of a device do not allow any more.
    pub async fn revoke(&self, device: &str) {
        let valid = self.credentials.borrow().secrets.get(device).cloned().flatten();
        let subscribers = self.outbound.subscribers(device);
        let clients = self.sessions().revoke(device, valid.as_deref(), subscribers);
        let Some(router) = self.router() else { return };
        for client in clients {
            tracing::info!(device, "the credentials have changed: the connection ends");
            router.unregister_client(&client).await;
        }
    }

    /// Whether an anonymous client publishes for a device that has credentials.
    fn is_not_own(&self, login: Option<&Login>, topic: &str, payload: &[u8]) -> bool {
        let is_anonymous = login.is_some_and(|login| login.identity == Identity::Anonymous);
        let not_own = is_anonymous
            && !self.credentials.borrow().anyone_may_publish(self.prefix(), topic, payload);
        if not_own {
            metrics::counter!("acuvim_ingest_dropped_total", "reason" => "not_own_topic")
                .increment(1);
        }
        not_own
    }

    async fn publish(&self, event: ClientPublishEvent) -> PublishAction {
        // Before anything else: a flood of messages that are dropped costs as much as one of good ones.
        self.client_limits.wait(&event.client_id).await;
        if event.qos == QoS::AtMostOnce {
            metrics::counter!("acuvim_mqtt_qos0_total").increment(1);
        }
        let login = Login::from_user(event.user_id.as_deref());
        if self.is_not_own(login.as_ref(), &event.topic, &event.payload) {
            return PublishAction::Handled;
        }
        if login.as_ref().and_then(Login::device).is_none()
            && let Some(device) = device_of(self.prefix(), &event.topic)
        {
            self.connections().published_for(&event.client_id, device);
        }
        let message = Incoming {
            topic: &event.topic,
            // A copy, because the original keeps the whole read buffer of the connection in memory.
            payload: Bytes::copy_from_slice(&event.payload),
            retained: false,
            received_at: now(),
            sender: login.as_ref().and_then(Login::device),
        };
        match self.intake.take(message).await {
            Taken::Stored | Taken::Dropped => PublishAction::Handled,
            Taken::Withheld => self.withhold(&event.client_id).await,
        }
    }

    /// MQTT 3.1.1 has no negative acknowledgement, so the connection ends: the device reconnects later and
    /// sends again what has no PUBACK. Replacing the message by a QoS 0 packet is the only way to keep the
    /// broker crate from acknowledging it.
    async fn withhold(&self, client_id: &str) -> PublishAction {
        if let Some(router) = self.router() {
            router.unregister_client(client_id).await;
        }
        PublishAction::Transform(PublishPacket::new("$withheld", Bytes::new(), QoS::AtMostOnce))
    }

    async fn publish_last_will(&self, will: &LastWill, user: Option<&str>) {
        let login = Login::from_user(user);
        if self.is_not_own(login.as_ref(), &will.topic, &will.payload) {
            return;
        }
        if !will.of_newest {
            metrics::counter!("acuvim_mqtt_stale_wills_total").increment(1);
            tracing::debug!(
                topic = &*will.topic,
                "the will of an older connection is stored as retained"
            );
        }
        let message = Incoming {
            topic: &will.topic,
            payload: Bytes::copy_from_slice(&will.payload),
            // A retained message is stored but changes no state, which is right for an outdated will.
            retained: !will.of_newest,
            received_at: now(),
            sender: login.as_ref().and_then(Login::device),
        };
        if self.intake.take(message).await == Taken::Withheld {
            metrics::counter!("acuvim_mqtt_lost_wills_total").increment(1);
        }
    }
}

impl BrokerEventHandler for Hook {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> BoxFuture<'a, ()> {
        let login = Login::from_user(event.user_id.as_deref());
        let will = event.will_topic.clone().zip(event.will_payload.clone());
        let device = login.as_ref().and_then(Login::device);
        self.connections().connected(&event.client_id, device, will, self.prefix());
        let identity = login.map(|login| login.identity);
        let surplus = identity
            .clone()
            .and_then(|identity| self.sessions().connected(&event.client_id, identity));
        Box::pin(async move {
            if let Some((client, router)) = surplus.zip(self.router()) {
                tracing::info!(%client, "the device has too many connections: the oldest one ends");
                router.unregister_client(&client).await;
            }
            // The credentials may have changed between the login and this event.
            let device = identity.and_then(|identity| {
                outdated(&event.client_id, &identity, &self.credentials.borrow())
            });
            if let Some(device) = device {
                self.revoke(&device).await;
            }
        })
    }

    fn on_client_subscribe<'a>(&'a self, event: ClientSubscribeEvent) -> BoxFuture<'a, ()> {
        for subscription in &event.subscriptions {
            let (filter, result) = (&subscription.topic_filter, subscription.result);
            self.outbound.subscribed(&event.client_id, filter, result);
        }
        Box::pin(std::future::ready(()))
    }

    fn on_client_unsubscribe<'a>(&'a self, event: ClientUnsubscribeEvent) -> BoxFuture<'a, ()> {
        for filter in &event.topic_filters {
            self.outbound.unsubscribed(&event.client_id, filter);
        }
        Box::pin(std::future::ready(()))
    }

    fn on_message_delivered<'a>(&'a self, event: MessageDeliveredEvent) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.outbound.acknowledged(&event.client_id).await })
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> BoxFuture<'a, PublishAction> {
        Box::pin(self.publish(event))
    }

    fn on_client_disconnect<'a>(&'a self, event: ClientDisconnectEvent) -> BoxFuture<'a, ()> {
        if let Some(login) = Login::from_user(event.user_id.as_deref()) {
            self.sessions().disconnected(&event.client_id, login.identity);
        }
        self.outbound.disconnected(&event.client_id);
        // Or a device with random client ids would leave a limiter behind with each connection.
        self.client_limits.forget(&event.client_id);
        let will = self.connections().ended(&event.client_id, event.unexpected, self.prefix());
        Box::pin(async move {
            if let Some(will) = will {
                self.publish_last_will(&will, event.user_id.as_deref()).await;
            }
        })
    }
}

#[cfg(test)]
mod tests;
