//! What the broker does with a message: give it to the intake, and acknowledge as that answers; and
//! what it tells of its clients.

use std::{
    collections::HashMap,
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
    auth::Session,
    connections::{Connections, Left, device_of},
    outbound::Outbound,
    share::Shares,
};
use crate::{Credentials, Identity, Incoming, Intake, Taken, intake::now};

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// See the module.
pub(super) struct Hook {
    intake: Arc<Intake>,
    router: OnceLock<Weak<MessageRouter>>,
    /// All connections, with their wills.
    connections: Mutex<Connections>,
    /// The clients of each device that has shown its secret.
    devices: Mutex<HashMap<String, Vec<Arc<str>>>>,
    credentials: watch::Receiver<Credentials>,
    outbound: Arc<Outbound>,
    shares: Shares,
}

impl Hook {
    pub(super) fn new(
        intake: Arc<Intake>,
        credentials: watch::Receiver<Credentials>,
        outbound: Arc<Outbound>,
        shares: Shares,
    ) -> Self {
        let (router, connections, devices) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Self { intake, router, connections, devices, credentials, outbound, shares }
    }

    /// Tells it the router, which in turn holds it.
    pub(super) fn attach(&self, router: &Arc<MessageRouter>) {
        let _ = self.router.set(Arc::downgrade(router));
        self.outbound.attach(router);
    }

    /// Ends the connections of a device whose right to connect is another now.
    pub(super) async fn turn_out(&self, device: &str) {
        let clients = {
            let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
            devices.remove(device).unwrap_or_default()
        };
        let Some(router) = self.router.get().and_then(Weak::upgrade) else { return };
        for client in clients {
            tracing::info!(device, "its credentials have changed: its connection ends");
            router.unregister_client(&client).await;
        }
    }

    /// The device of a connection whose secret is no longer good.
    fn has_old_secret(&self, user: Option<&str>) -> Option<String> {
        match Session::from_user(user)?.identity {
            Identity::Anonymous => None,
            Identity::Device { id, secret } => {
                let good = self.credentials.borrow().secrets.get(&id).cloned().flatten();
                (good.as_deref() != Some(&secret)).then_some(id)
            }
        }
    }

    /// The device of a connection that had to show a secret.
    fn note_device(&self, client: &Arc<str>, user: Option<&str>, connected: bool) {
        let session = Session::from_user(user);
        let Some(device) = session.as_ref().and_then(Session::device) else { return };
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if connected {
            devices.entry(device.to_owned()).or_default().push(Arc::clone(client));
        } else if let Some(clients) = devices.get_mut(device) {
            // One of them: while a device reconnects it has two.
            if let Some(place) = clients.iter().position(|c| c == client) {
                clients.swap_remove(place);
            }
            if clients.is_empty() {
                devices.remove(device);
            }
        }
    }

    async fn publish(&self, event: ClientPublishEvent) -> PublishAction {
        self.shares.wait(&event.client_id).await;
        if event.qos == QoS::AtMostOnce {
            metrics::counter!("acuvim_mqtt_qos0_total").increment(1);
        }
        let session = Session::from_user(event.user_id.as_deref());
        if session.as_ref().and_then(Session::device).is_none()
            && let Some(device) = device_of(self.prefix(), &event.topic)
        {
            self.connections().spoke(&event.client_id, device);
        }
        let message = Incoming {
            topic: &event.topic,
            // A copy: the original keeps the connection's whole read buffer alive.
            payload: Bytes::copy_from_slice(&event.payload),
            retained: false,
            received_at: now(),
            sender: session.as_ref().and_then(Session::device),
        };
        match self.intake.take(message).await {
            Taken::Stored | Taken::Dropped => PublishAction::Handled,
            Taken::Withheld => self.withhold(&event.client_id).await,
        }
    }

    /// There is no negative acknowledgement that every client knows, so the connection ends
    /// instead: the device reconnects later and sends again what has no PUBACK. A QoS 0 packet
    /// in place of the message is what keeps the broker crate from acknowledging.
    async fn withhold(&self, client_id: &str) -> PublishAction {
        if let Some(router) = self.router.get().and_then(Weak::upgrade) {
            router.unregister_client(client_id).await;
        }
        PublishAction::Transform(PublishPacket::new("$withheld", Bytes::new(), QoS::AtMostOnce))
    }

    fn prefix(&self) -> &str {
        &self.intake.limits().topic_prefix
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self, event: &ClientConnectEvent) {
        let will = event.will_topic.clone().zip(event.will_payload.clone());
        let session = Session::from_user(event.user_id.as_deref());
        let device = session.as_ref().and_then(Session::device);
        self.connections().connected(&event.client_id, device, will, self.prefix());
    }

    async fn last_will(&self, left: &Left, user: Option<&str>) {
        let session = Session::from_user(user);
        if !left.of_newest {
            metrics::counter!("acuvim_mqtt_stale_wills_total").increment(1);
            tracing::debug!(topic = &*left.topic, "the will of an older connection is only noted");
        }
        let message = Incoming {
            topic: &left.topic,
            payload: Bytes::copy_from_slice(&left.payload),
            // As what a broker had kept: it stays in the log, and is no sign of anything.
            retained: !left.of_newest,
            received_at: now(),
            sender: session.as_ref().and_then(Session::device),
        };
        if self.intake.take(message).await == Taken::Withheld {
            metrics::counter!("acuvim_mqtt_lost_wills_total").increment(1);
        }
    }
}

impl BrokerEventHandler for Hook {
    fn on_client_connect<'a>(&'a self, event: ClientConnectEvent) -> Answer<'a, ()> {
        self.connected(&event);
        self.note_device(&event.client_id, event.user_id.as_deref(), true);
        Box::pin(async move {
            // Its secret may have become another between its login and this moment.
            if let Some(device) = self.has_old_secret(event.user_id.as_deref()) {
                self.turn_out(&device).await;
            }
        })
    }

    fn on_client_subscribe<'a>(&'a self, event: ClientSubscribeEvent) -> Answer<'a, ()> {
        for subscription in &event.subscriptions {
            let (filter, result) = (&subscription.topic_filter, subscription.result);
            self.outbound.subscribed(&event.client_id, filter, result);
        }
        Box::pin(std::future::ready(()))
    }

    fn on_client_unsubscribe<'a>(&'a self, event: ClientUnsubscribeEvent) -> Answer<'a, ()> {
        for filter in &event.topic_filters {
            self.outbound.unsubscribed(&event.client_id, filter);
        }
        Box::pin(std::future::ready(()))
    }

    fn on_message_delivered<'a>(&'a self, event: MessageDeliveredEvent) -> Answer<'a, ()> {
        Box::pin(async move { self.outbound.acknowledged(&event.client_id).await })
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Answer<'a, PublishAction> {
        Box::pin(self.publish(event))
    }

    fn on_client_disconnect<'a>(&'a self, event: ClientDisconnectEvent) -> Answer<'a, ()> {
        self.note_device(&event.client_id, event.user_id.as_deref(), false);
        self.outbound.gone(&event.client_id);
        self.shares.forget(&event.client_id);
        let left = self.connections().ended(&event.client_id, event.unexpected, self.prefix());
        Box::pin(async move {
            if let Some(left) = left {
                self.last_will(&left, event.user_id.as_deref()).await;
            }
        })
    }
}
