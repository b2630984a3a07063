//! What the unit tests of the broker and the bridge share.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use acuvim_wire::{
    Kind,
    command::{Command, Delivery, Outcome},
    time::HOUR,
};
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::{
    accept::AcceptLimits,
    bridge::{BridgeOptions, MqttVersion},
    clock::now,
    credentials::{Credentials, CredentialsWatch},
    daily_limits::DailyLimits,
    downlink::Downlink,
    intake::Intake,
    memory_log::MemoryLog,
};

/// An intake that waits for the log for a moment only.
pub(crate) fn intake(log: &Arc<MemoryLog>) -> Arc<Intake> {
    let limits = AcceptLimits { topic_prefix: "acuvim".into(), max_payload: 1000 };
    let patience = Duration::from_millis(30);
    Arc::new(Intake::new(Arc::clone(log) as _, limits, DailyLimits::default(), patience))
}

pub(crate) fn downlink(log: &Arc<MemoryLog>) -> Downlink {
    Downlink {
        log: Arc::clone(log) as _,
        cursor: "c".into(),
        alone: true,
        topic_prefix: "acuvim".into(),
        held_until: None,
    }
}

/// A downlink whose lease has ended.
pub(crate) fn not_held(log: &Arc<MemoryLog>) -> Downlink {
    Downlink { held_until: Some(Arc::new(AtomicI64::new(0))), ..downlink(log) }
}

/// A command that is valid for an hour.
pub(crate) fn command(device: &str, seq: i64) -> Command {
    Command {
        request_id: Uuid::from_u128(u128::try_from(seq).expect("positive")),
        device_id: device.to_owned(),
        payload: Bytes::from_static(b"{}"),
        expires_at: now() + HOUR,
        attempt: 1,
        outbox_seq: seq,
    }
}

/// Number and outcome of each command in the reports of the log, partition by partition.
pub(crate) fn reported(log: &MemoryLog) -> Vec<(u128, Outcome)> {
    let sent = log.records().into_iter().filter(|record| record.headers.kind == Kind::Sent);
    let mut all: Vec<(u128, Outcome)> = sent
        .map(|record| serde_json::from_slice::<Delivery>(&record.value).expect("JSON"))
        .map(|delivery| (delivery.request_id.as_u128(), delivery.outcome))
        .collect();
    all.sort_by_key(|(seq, _)| *seq);
    all
}

/// Credentials of these devices, and of others none: hashes of secrets, or disabled.
pub(crate) fn credentials(
    secrets: &[(&str, Option<&str>)],
) -> (watch::Sender<Credentials>, CredentialsWatch) {
    let secrets: HashMap<String, Option<String>> = secrets
        .iter()
        .map(|(device, secret)| ((*device).to_owned(), secret.map(str::to_owned)))
        .collect();
    let known = Credentials { anonymous: true, secrets: Arc::new(secrets) };
    let (sender, values) = watch::channel(known);
    (sender, CredentialsWatch { values, look: Arc::new(Notify::new()) })
}

/// A bridge to a port where nobody is.
pub(crate) fn bridge_options() -> BridgeOptions {
    BridgeOptions {
        host: "127.0.0.1".into(),
        port: 1,
        tls: None,
        login: None,
        client_id: "bridge".into(),
        share_group: None,
        receive_maximum: 100,
        session_expiry: Duration::from_secs(3600),
        version: MqttVersion::Auto,
        pulse: Duration::from_secs(10),
    }
}
