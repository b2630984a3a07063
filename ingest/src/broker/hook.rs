//! What the broker does with a message: give it to the intake, and acknowledge as that answers; and
//! what it tells of its clients.

use std::{
    collections::{BTreeSet, HashMap},
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

/// Connections of one device at a time: its own, the one before it, and tools of whoever looks after
/// it. It can have more than one only under client ids that the broker made.
const OF_ONE_DEVICE: usize = 8;

/// A client, and the secret that it has shown.
type Shown = (Arc<str>, String);

/// See the module.
pub(super) struct Hook {
    intake: Arc<Intake>,
    router: OnceLock<Weak<MessageRouter>>,
    /// All connections, with their wills.
    connections: Mutex<Connections>,
    /// The clients of each device that has shown its secret, and which that was.
    devices: Mutex<HashMap<String, Vec<Shown>>>,
    /// Connections of each client that is nobody in particular.
    strangers: Mutex<HashMap<Arc<str>, usize>>,
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
        let (router, connections) = (OnceLock::new(), Mutex::default());
        let (devices, strangers) = (Mutex::default(), Mutex::default());
        Self { intake, router, connections, devices, strangers, credentials, outbound, shares }
    }

    /// Tells it the router, which in turn holds it.
    pub(super) fn attach(&self, router: &Arc<MessageRouter>) {
        let _ = self.router.set(Arc::downgrade(router));
        self.outbound.attach(router);
    }

    /// Ends the connections of a device whose right to connect is another now, and those of whoever
    /// listened to it, or was taken for it, while it had no secret.
    pub(super) async fn turn_out(&self, device: &str) {
        let clients = self.whom_to_turn_out(device);
        let Some(router) = self.router.get().and_then(Weak::upgrade) else { return };
        for client in clients {
            tracing::info!(device, "its credentials have changed: its connection ends");
            router.unregister_client(&client).await;
        }
    }

    fn whom_to_turn_out(&self, device: &str) -> BTreeSet<Arc<str>> {
        let good = self.credentials.borrow().secrets.get(device).cloned().flatten();
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let known = devices.remove(device).unwrap_or_default();
        // Who has shown the new one already was quicker than this.
        let (still, ended): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|(_, shown)| good.as_ref() == Some(shown));
        let listens = self.outbound.listeners(device).into_iter();
        let others = listens.filter(|client| {
            client.as_ref() != device && still.iter().all(|(own, _)| own != client)
        });
        let mut out: BTreeSet<Arc<str>> =
            ended.into_iter().map(|(client, _)| client).chain(others).collect();
        if !still.is_empty() {
            devices.insert(device.to_owned(), still);
        }
        drop(devices);
        let strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        out.extend(strangers.get_key_value(device).map(|(client, _)| Arc::clone(client)));
        out
    }

    /// The device of a connection whose secret is no longer good, or that has got one since.
    fn has_old_secret(&self, client: &str, user: Option<&str>) -> Option<String> {
        let credentials = self.credentials.borrow();
        match Session::from_user(user)?.identity {
            Identity::Anonymous => credentials.guards(client).then(|| client.to_owned()),
            Identity::Device { id, secret } => {
                let good = credentials.secrets.get(&id).cloned().flatten();
                (good.as_deref() != Some(&secret)).then_some(id)
            }
        }
    }

    /// Notes whose a new connection is. Answers with the oldest client of its device if that has too
    /// many now.
    fn came(&self, client: &Arc<str>, user: Option<&str>) -> Option<Arc<str>> {
        match Session::from_user(user)?.identity {
            Identity::Anonymous => {
                let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
                *strangers.entry(Arc::clone(client)).or_default() += 1;
                None
            }
            Identity::Device { id, secret } => {
                let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
                let clients = devices.entry(id).or_default();
                clients.push((Arc::clone(client), secret));
                let oldest = clients.iter().map(|(one, _)| one).find(|one| *one != client);
                oldest.filter(|_| clients.len() > OF_ONE_DEVICE).cloned()
            }
        }
    }

    /// Notes that a connection is over: one of its client's, which has two while it reconnects.
    fn went(&self, client: &Arc<str>, user: Option<&str>) {
        match Session::from_user(user).map(|session| session.identity) {
            Some(Identity::Anonymous) => {
                let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
                match strangers.get_mut(client) {
                    Some(connections) if *connections > 1 => *connections -= 1,
                    _ => drop(strangers.remove(client)),
                }
            }
            Some(Identity::Device { id, secret }) => {
                let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(clients) = devices.get_mut(&id) else { return };
                let is_this = |(one, shown): &(Arc<str>, String)| one == client && *shown == secret;
                if let Some(place) = clients.iter().position(is_this) {
                    clients.remove(place);
                }
                if clients.is_empty() {
                    devices.remove(&id);
                }
            }
            None => {}
        }
    }

    /// Whether a client that is nobody in particular speaks for a device that speaks for itself.
    fn is_anothers(&self, session: Option<&Session>, topic: &str, payload: &[u8]) -> bool {
        let anyone = session.is_some_and(|s| s.identity == Identity::Anonymous);
        let prefix = &self.intake.limits().topic_prefix;
        let not_own = anyone && !self.credentials.borrow().anyone_may_say(prefix, topic, payload);
        if not_own {
            metrics::counter!("acuvim_ingest_dropped_total", "reason" => "not_own_topic")
                .increment(1);
        }
        not_own
    }

    async fn publish(&self, event: ClientPublishEvent) -> PublishAction {
        self.shares.wait(&event.client_id).await;
        if event.qos == QoS::AtMostOnce {
            metrics::counter!("acuvim_mqtt_qos0_total").increment(1);
        }
        let session = Session::from_user(event.user_id.as_deref());
        if self.is_anothers(session.as_ref(), &event.topic, &event.payload) {
            return PublishAction::Handled;
        }
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
        if self.is_anothers(session.as_ref(), &left.topic, &left.payload) {
            return;
        }
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
        let one_too_many = self.came(&event.client_id, event.user_id.as_deref());
        Box::pin(async move {
            if let Some((client, router)) =
                one_too_many.zip(self.router.get().and_then(Weak::upgrade))
            {
                tracing::info!(%client, "its device has too many connections: the oldest ends");
                router.unregister_client(&client).await;
            }
            // Its secret may have become another between its login and this moment.
            let user = event.user_id.as_deref();
            if let Some(device) = self.has_old_secret(&event.client_id, user) {
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
        self.went(&event.client_id, event.user_id.as_deref());
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
