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
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;

use super::{AnyLog, status::Stages};
use crate::settings::{self, Settings};

/// How long before the end of the lease no more commands are published.
const MARGIN: TimeDelta = TimeDelta::seconds(2);

/// How long the bridge's lease is held without being renewed, and how often it is.
const LEASE: TimeDelta = TimeDelta::seconds(15);
const RENEWED: Duration = Duration::from_secs(3);

/// How often devices' secrets are looked at, and how soon again at the earliest.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The running role.
pub enum Ingest {
    /// Devices connect to us.
    Broker(Broker),
    /// Devices connect to another broker.
    Bridge {
        /// Holds the lease, and runs the bridge while it does.
        task: tokio::task::JoinHandle<()>,
        /// Ends it.
        stop: CancellationToken,
    },
}

impl Ingest {
    /// Starts the built-in broker on its listeners.
    pub async fn broker(
        settings: &Settings,
        (intake, downlink): (Arc<Intake>, Downlink),
        control: &Control,
        (tcp, websocket): (TcpListener, Option<TcpListener>),
        end: CancellationToken,
    ) -> anyhow::Result<Self> {
        let anonymous = settings.mqtt.anonymous_on_loopback;
        let credentials = watch_credentials(anonymous, control.clone(), end).await?;
        let options = BrokerOptions {
            max_connections: settings.mqtt.max_connections,
            max_silent: settings.mqtt.max_silent_connections,
            unfinished_bytes: settings.mqtt.unfinished_mb << 20,
            origins: settings::listed(&settings.http.cors_origins),
            messages_per_second: settings.mqtt.messages_per_client,
            pulse: pulse(settings),
        };
        Ok(Self::Broker(Broker::start(&options, tcp, websocket, intake, credentials, &downlink)))
    }

    /// Starts to bridge to a broker whenever no other process does so under this client id.
    pub fn bridge(
        options: BridgeOptions,
        ways: (Arc<Intake>, Downlink),
        control: Control,
        holder: &str,
        stages: &Stages,
    ) -> Self {
        let (state, watched) = watch::channel(BridgeState::Away("not connected yet".into()));
        stages.bridge(watched);
        let stop = CancellationToken::new();
        let task = tokio::spawn(hold_bridge(
            options,
            ways,
            control,
            holder.to_owned(),
            state,
            stop.clone(),
        ));
        Self::Bridge { task, stop }
    }

    /// Stops taking messages; answers when what was taken has its fate, or when the time is over.
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

/// The step that both shapes share.
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

/// How commands come down. The cursor is the bridge's client id's, or the broker's own.
pub fn downlink(settings: &Settings, log: &AnyLog, cursor: &str, alone: bool) -> Downlink {
    Downlink {
        log: log.log(),
        cursor: format!("commands:{cursor}"),
        alone,
        topic_prefix: settings.mqtt.topic_prefix.clone(),
        held_until: None,
    }
}

/// What the settings say of a bridge; none without one.
pub fn bridge_options(settings: &Settings) -> anyhow::Result<Option<BridgeOptions>> {
    let Some((host, port, tls)) = settings.broker()? else { return Ok(None) };
    let mqtt = &settings.mqtt;
    let password = mqtt.password.clone().unwrap_or_default();
    Ok(Some(BridgeOptions {
        host,
        port,
        tls: tls.then(|| trust(settings)).transpose()?,
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

/// How often ingest says that it hears devices: silence is looked at as often, and known no sooner.
fn pulse(settings: &Settings) -> Duration {
    Duration::from_secs(settings.health_monitor.check_interval_seconds)
}

/// Whose certificates a broker may show: those that the system trusts, and those of `mqtt.ca_file`.
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

/// Runs the bridge while its lease is held: the broker ends the older of two connections with the
/// same client id, so that two bridges would only push each other out.
async fn hold_bridge(
    options: BridgeOptions,
    (intake, downlink): (Arc<Intake>, Downlink),
    control: Control,
    holder: String,
    state: watch::Sender<BridgeState>,
    stop: CancellationToken,
) {
    let lease = format!("bridge:{}", options.client_id);
    let held_until = Arc::new(AtomicI64::new(0));
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
            let until = held.map_or(0, |lease| (lease.until - MARGIN).timestamp_micros());
            held_until.store(until, Ordering::Relaxed);
        }
        match held {
            Ok(Some(_)) if bridge.is_none() => {
                let started = Bridge::start(options.clone(), Arc::clone(&intake), &downlink);
                tokio::spawn(pass_on(started.state(), state.clone()));
                bridge = Some(started);
            }
            Ok(None) => {
                if let Some(bridge) = bridge.take() {
                    tracing::info!(lease, "another process has the bridge now");
                    bridge.stop(RENEWED).await;
                }
                // Standing by is all that this one is to do.
                state.send_replace(BridgeState::Connected);
            }
            // While control is away readings still come in, but no commands go out. Should another
            // process get the lease meanwhile, the broker ends the older connection: nothing is lost
            // by that.
            Ok(Some(_)) | Err(_) => {}
        }
        if stop.run_until_cancelled(tokio::time::sleep(RENEWED)).await.is_none() {
            break;
        }
    }
    if let Some(bridge) = bridge {
        bridge.stop(Duration::from_secs(8)).await;
        let _ = control.drop_lease(&lease, &holder, Utc::now()).await;
    }
}

async fn pass_on(mut from: watch::Receiver<BridgeState>, to: watch::Sender<BridgeState>) {
    loop {
        let state = from.borrow_and_update().clone();
        to.send_replace(state);
        if from.changed().await.is_err() {
            return;
        }
    }
}

/// The devices' secrets, looked at every second and when one is refused: a cheap question as long as
/// nothing changed.
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
            // Not at every refused login of a crowd.
            tokio::time::sleep(LOOK_PAUSE).await;
            let _ = tokio::time::timeout(LOOK, asked.notified()).await;
            let read = async {
                let newest = control.credentials_version().await?;
                if newest == version {
                    return Ok(None);
                }
                Ok::<_, acuvim_control::Error>(Some((newest, control.device_secrets().await?)))
            };
            // While control is away the last ones hold.
            if let Ok(Some((newest, secrets))) = read.await {
                version = newest;
                sender.send_replace(Credentials { anonymous, secrets: Arc::new(secrets) });
            }
        }
    }));
    Ok(CredentialsWatch { values, look })
}
