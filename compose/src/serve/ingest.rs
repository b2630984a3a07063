//! The ingest role: the built-in broker, or the bridge to another while its lease is held.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use acuvim_control::Control;
use acuvim_ingest::{
    AcceptLimits, Bridge, BridgeOptions, BridgeState, Broker, BrokerOptions, Credentials,
    CredentialsWatch, DailyLimits, Downlink, Intake, MqttVersion,
};
use acuvim_log::Log;
use anyhow::Context as _;
use chrono::{TimeDelta, Utc};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{components::AnyLog, listeners::MqttListeners, status::Stages};
use crate::settings::{self, Settings};

/// The bridge's lease. Several renewals fit into it, so that a short outage of control changes nothing.
const LEASE: TimeDelta = TimeDelta::seconds(15);
const RENEW_INTERVAL: Duration = Duration::from_secs(3);

/// Commands stop this long before the lease ends, in case the clocks of two processes differ.
const LEASE_MARGIN: TimeDelta = TimeDelta::seconds(2);

/// Time limit for the bridge to hand over what it has received.
const BRIDGE_DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// How often the devices' secrets are checked for changes, and the shortest time between two checks.
const SECRETS_INTERVAL: Duration = Duration::from_secs(1);
const MIN_SECRETS_INTERVAL: Duration = Duration::from_millis(100);

/// Where devices' messages go, and where commands for devices come from.
pub struct Endpoints {
    pub intake: Arc<Intake>,
    pub downlink: Downlink,
}

/// The running ingest role.
pub enum Ingest {
    /// Devices connect to the built-in broker.
    Broker(Broker),
    /// Devices connect to another broker.
    Bridge {
        /// Holds the lease, and runs the bridge while it does.
        task: tokio::task::JoinHandle<()>,
        stop: CancellationToken,
    },
}

impl Ingest {
    /// Starts the built-in broker.
    pub async fn broker(
        settings: &Settings,
        endpoints: Endpoints,
        control: &Control,
        listeners: MqttListeners,
        end: CancellationToken,
    ) -> anyhow::Result<Self> {
        let anonymous = settings.mqtt.anonymous_on_loopback;
        let credentials = watch_credentials(anonymous, control.clone(), end).await?;
        let options = broker_options(settings);
        let MqttListeners { tcp, websocket } = listeners;
        let Endpoints { intake, downlink } = endpoints;
        Ok(Self::Broker(Broker::start(&options, tcp, websocket, intake, credentials, &downlink)))
    }

    /// Starts to bridge, while no other process holds the lease of the same client id.
    pub fn bridge(
        options: BridgeOptions,
        endpoints: Endpoints,
        control: Control,
        holder: &str,
        stages: &Stages,
    ) -> Self {
        let (state, watched) = watch::channel(BridgeState::Away("not connected yet".into()));
        stages.bridge(watched);
        let stop = CancellationToken::new();
        let bridge = LeasedBridge { options, endpoints, control, holder: holder.to_owned(), state };
        let task = tokio::spawn(bridge.run(stop.clone()));
        Self::Bridge { task, stop }
    }

    /// Stops taking messages, and waits at most this long until those received are acknowledged or
    /// given up.
    pub async fn stop(self, within: Duration) {
        match self {
            Self::Broker(broker) => broker.stop(within).await,
            Self::Bridge { task, stop } => {
                stop.cancel();
                let _ = tokio::time::timeout(within, task).await;
            }
        }
    }
}

/// The way of messages into the log, the same for broker and bridge.
pub fn intake(settings: &Settings, log: Arc<dyn Log>) -> Intake {
    let limits = AcceptLimits {
        topic_prefix: settings.mqtt.topic_prefix.clone(),
        max_payload: settings.mqtt.max_payload_kb << 10,
    };
    let daily = DailyLimits {
        bytes: settings.mqtt.device_mb_per_day << 20,
        alerts: settings.mqtt.device_alerts_per_day,
    };
    Intake::new(log, limits, daily, Duration::from_secs(settings.mqtt.patience_seconds))
}

/// The source of commands. `cursor` names the position in the log's commands: each bridge client id
/// and each broker has its own.
pub fn downlink(settings: &Settings, log: &AnyLog, cursor: &str, alone: bool) -> Downlink {
    Downlink {
        log: log.log(),
        cursor: format!("commands:{cursor}"),
        alone,
        topic_prefix: settings.mqtt.topic_prefix.clone(),
        held_until: None,
    }
}

/// The bridge's options; `None` if the built-in broker is used.
pub fn bridge_options(settings: &Settings) -> anyhow::Result<Option<BridgeOptions>> {
    let Some(broker) = settings.mqtt.remote_broker()? else { return Ok(None) };
    let mqtt = &settings.mqtt;
    let password = mqtt.password.clone().unwrap_or_default();
    Ok(Some(BridgeOptions {
        host: broker.host,
        port: broker.port,
        tls: broker.tls.then(|| trust(settings)).transpose()?,
        login: mqtt.username.clone().map(|user| (user, password)),
        client_id: mqtt.client_id.clone(),
        share_group: mqtt.share_group.clone(),
        receive_maximum: mqtt.receive_maximum,
        session_expiry: Duration::from_secs(mqtt.session_expiry_hours * 3600),
        version: match mqtt.version {
            settings::MqttVersion::Auto => MqttVersion::Auto,
            settings::MqttVersion::V5 => MqttVersion::V5,
            settings::MqttVersion::V311 => MqttVersion::V311,
        },
        pulse: pulse(settings),
    }))
}

/// How the built-in broker treats its clients.
pub fn broker_options(settings: &Settings) -> BrokerOptions {
    BrokerOptions {
        max_connections: settings.mqtt.max_connections,
        max_silent: settings.mqtt.max_silent_connections,
        unfinished_bytes: settings.mqtt.unfinished_mb << 20,
        origins: settings::listed(&settings.http.cors_origins),
        messages_per_second: settings.mqtt.messages_per_client,
        pulse: pulse(settings),
    }
}

/// Interval of ingest's pulse records. Silent devices are looked for as often, and can't be noticed
/// sooner.
fn pulse(settings: &Settings) -> Duration {
    Duration::from_secs(settings.health_monitor.check_interval_seconds)
}

/// The TLS configuration: trusts the system's certificates and those of `mqtt.ca_file`.
fn trust(settings: &Settings) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &settings.mqtt.ca_file {
        let name = || format!("{} (mqtt.ca_file)", path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(name)? {
            roots.add(certificate.with_context(name)?).with_context(name)?;
        }
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

/// A bridge that runs only while its lease is held. The broker ends the older of two connections with
/// the same client id, so without the lease two bridges would keep disconnecting each other.
struct LeasedBridge {
    options: BridgeOptions,
    endpoints: Endpoints,
    control: Control,
    holder: String,
    state: watch::Sender<BridgeState>,
}

impl LeasedBridge {
    async fn run(self, stop: CancellationToken) {
        let Self { options, endpoints, control, holder, state } = self;
        let lease = format!("bridge:{}", options.client_id);
        let held_until = Arc::new(AtomicI64::new(0));
        let Endpoints { intake, downlink } = endpoints;
        let downlink = Downlink { held_until: Some(Arc::clone(&held_until)), ..downlink };
        let mut bridge: Option<Bridge> = None;
        loop {
            if bridge.as_ref().is_some_and(Bridge::has_ended) {
                tracing::error!("the bridge has ended; it is started again");
                bridge = None;
                state.send_replace(BridgeState::Away("the bridge has ended".into()));
            }
            let held = control.hold_lease(&lease, &holder, Utc::now(), LEASE).await;
            if let Ok(held) = &held {
                let until = held.map_or(0, |lease| (lease.until - LEASE_MARGIN).timestamp_micros());
                held_until.store(until, Ordering::Relaxed);
            }
            match held {
                Ok(Some(_)) if bridge.is_none() => {
                    let started = Bridge::start(options.clone(), Arc::clone(&intake), &downlink);
                    tokio::spawn(forward(started.state(), state.clone()));
                    bridge = Some(started);
                }
                Ok(None) => {
                    if let Some(bridge) = bridge.take() {
                        tracing::info!(lease, "another process has the bridge now");
                        bridge.stop(RENEW_INTERVAL).await;
                    }
                    // A process that stands by is ready.
                    state.send_replace(BridgeState::Connected);
                }
                // While control is unavailable, readings still come in but no commands go out. If
                // another process gets the lease meanwhile, the broker ends the older connection,
                // and no message is lost.
                Ok(Some(_)) | Err(_) => {}
            }
            if stop.run_until_cancelled(tokio::time::sleep(RENEW_INTERVAL)).await.is_none() {
                break;
            }
        }
        if let Some(bridge) = bridge {
            bridge.stop(BRIDGE_DRAIN_TIMEOUT).await;
            let _ = control.drop_lease(&lease, &holder, Utc::now()).await;
        }
    }
}

async fn forward(mut from: watch::Receiver<BridgeState>, to: watch::Sender<BridgeState>) {
    loop {
        let state = from.borrow_and_update().clone();
        to.send_replace(state);
        if from.changed().await.is_err() {
            return;
        }
    }
}

/// Watches the devices' secrets: their version is read every second and after a refused login, and the
/// secrets only if it has changed.
async fn watch_credentials(
    anonymous: bool,
    control: Control,
    end: CancellationToken,
) -> anyhow::Result<CredentialsWatch> {
    let mut version = control.credentials_version().await?;
    let secrets = Arc::new(control.device_secrets().await?);
    let (sender, values) = watch::channel(Credentials { anonymous, secrets });
    let look = Arc::new(Notify::new());
    let asked = Arc::clone(&look);
    tokio::spawn(end.run_until_cancelled_owned(async move {
        loop {
            // Many refused logins must not cause as many reads.
            tokio::time::sleep(MIN_SECRETS_INTERVAL).await;
            let _ = tokio::time::timeout(SECRETS_INTERVAL, asked.notified()).await;
            let read = async {
                let newest = control.credentials_version().await?;
                if newest == version {
                    return Ok(None);
                }
                Ok::<_, acuvim_control::Error>(Some((newest, control.device_secrets().await?)))
            };
            // While control is unavailable the secrets read last stay valid.
            if let Ok(Some((newest, secrets))) = read.await {
                version = newest;
                sender.send_replace(Credentials { anonymous, secrets: Arc::new(secrets) });
            }
        }
    }));
    Ok(CredentialsWatch { values, look })
}
