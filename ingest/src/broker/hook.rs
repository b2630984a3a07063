//! What the broker does with a message: give it to the intake, and acknowledge as that answers.

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
        PublishAction, router::MessageRouter,
    },
    packet::publish::PublishPacket,
};

use super::auth::Session;
use crate::{Incoming, Intake, Taken, intake::now};

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
}

impl Hook {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        Self { intake, router: OnceLock::new(), wills: Mutex::default() }
    }

    /// Tells it the router, which in turn holds it.
    pub(super) fn attach(&self, router: &Arc<MessageRouter>) {
        let _ = self.router.set(Arc::downgrade(router));
    }

    async fn publish(&self, event: ClientPublishEvent) -> PublishAction {
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
        Box::pin(std::future::ready(()))
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Answer<'a, PublishAction> {
        Box::pin(self.publish(event))
    }

    fn on_client_disconnect<'a>(&'a self, event: ClientDisconnectEvent) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Some((topic, payload)) = self.disconnected(&event) {
                self.last_will(&topic, payload, event.user_id.as_deref()).await;
            }
        })
    }
}
