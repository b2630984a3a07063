//! What the broker does with a message: give it to the intake, and acknowledge as that answers; and
//! what it tells of its clients.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
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

use super::{auth::Session, outbound::Outbound, share::Shares};
use crate::{Credentials, Identity, Incoming, Intake, Taken, intake::now};

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A last will: topic and payload.
type Will = Option<(Arc<str>, Bytes)>;

/// See the module.
pub(super) struct Hook {
    intake: Arc<Intake>,
    router: OnceLock<Weak<MessageRouter>>,
    /// The wills of the connections of each client id, oldest first: while a device reconnects
    /// there are two.
    wills: Mutex<HashMap<Arc<str>, VecDeque<Will>>>,
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
        let (router, wills, devices) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Self { intake, router, wills, devices, credentials, outbound, shares }
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

    fn connected(&self, event: &ClientConnectEvent) {
        let will = event.will_topic.clone().zip(event.will_payload.clone());
        let mut wills = self.wills.lock().unwrap_or_else(PoisonError::into_inner);
        wills.entry(Arc::clone(&event.client_id)).or_default().push_back(will);
    }

    /// The will of the connection that ended, unless the client is back already.
    fn disconnected(&self, event: &ClientDisconnectEvent) -> Will {
        let mut wills = self.wills.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = wills.get_mut(&event.client_id)?;
        let will = of_client.pop_front().flatten();
        if !of_client.is_empty() {
            return None;
        }
        wills.remove(&event.client_id);
        will.filter(|_| event.unexpected)
    }

    async fn last_will(&self, topic: &str, payload: Bytes, user: Option<&str>) {
        let session = Session::from_user(user);
        let message = Incoming {
            topic,
            payload: Bytes::copy_from_slice(&payload),
            retained: false,
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
        Box::pin(async move {
            if let Some((topic, payload)) = self.disconnected(&event) {
                self.last_will(&topic, payload, event.user_id.as_deref()).await;
            }
        })
    }
}
