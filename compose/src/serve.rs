//! The composition root: opens what the settings name, wires the stages by hand, and ends them in
//! the order in which data flows.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use acuvim_control::{Control, LogFacts};
use acuvim_ingest::{AcceptLimits, Broker, BrokerOptions, Credentials, Intake, IntakeState};
use acuvim_lakehouse::{CompactionPolicy, Engine, EngineLimits, Lake, LakeOptions};
use acuvim_log::{EmbeddedLog, EmbeddedOptions, Log, Retention};
use acuvim_processor::{FlushPolicy, Parts, Processor, ProcessorOptions, StateWatch};
use acuvim_query::{App, AppOptions, Component, Jwt, SqlLimits, Status};
use acuvim_schemas::{telemetry::Limits, time};
use anyhow::Context as _;
use chrono::TimeDelta;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{admin, settings::Settings};

/// How long each part may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// The last flush may write a full tail.
const LAST_FLUSH: Duration = Duration::from_secs(60);

/// Where a running server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub http: SocketAddr,
    pub mqtt: SocketAddr,
    pub websocket: Option<SocketAddr>,
}

/// Runs until SIGINT or SIGTERM; a second one ends the process at once.
pub async fn serve(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    let server = Server::start(settings).await?;
    let at = server.addresses;
    tracing::info!(
        http = %at.http, mqtt = %at.mqtt, websocket = ?at.websocket,
        "acuvim serves; see http://{}/swagger", at.http
    );
    server.run_until(stop).await
}

async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for first in [true, false] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if first {
            tracing::info!("stopping; a second signal ends the process at once");
            stop.cancel();
        }
    }
    std::process::exit(130);
}

/// The running stages.
pub struct Server {
    pub addresses: Addresses,
    log: Arc<EmbeddedLog>,
    control: Control,
    broker: Broker,
    processor: Processor,
    http: tokio::task::JoinHandle<std::io::Result<()>>,
    /// Ends HTTP and the tasks beside the stages.
    end: CancellationToken,
}

impl Server {
    /// Opens and starts everything.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let dir = &settings.data.dir;
        std::fs::create_dir_all(dir).with_context(|| format!("{} (data.dir)", dir.display()))?;
        let http = bind(&settings.http.listen, "http.listen", "--http-listen").await?;
        let mqtt = bind(&settings.mqtt.listen, "mqtt.listen", "--mqtt-listen").await?;
        let websocket = match settings.mqtt.websocket_listen.as_str() {
            "" => None,
            at => Some(bind(at, "mqtt.websocket_listen", "--mqtt-websocket-listen").await?),
        };
        let addresses = Addresses {
            http: http.local_addr()?,
            mqtt: mqtt.local_addr()?,
            websocket: websocket.as_ref().map(TcpListener::local_addr).transpose()?,
        };

        let metrics = recorder()?;
        let control = Control::open_sqlite(&dir.join("control.db")).await?;
        let facts = control.log_facts(settings.log.partitions).await?;
        admin::first_admin(&settings, &control).await?;
        let log = open_log(&settings).await?;
        let engine = Engine::new(&EngineLimits {
            memory: settings.sql.memory_mb << 20,
            spill: settings.sql.spill_mb << 20,
            ..EngineLimits::default()
        })?;
        let lake = Arc::new(Lake::open(lake_options(&settings, facts)?, engine.clone()).await?);

        let end = CancellationToken::new();
        let parts = Parts {
            log: Arc::clone(&log) as Arc<dyn Log>,
            lake: Arc::clone(&lake),
            control: control.clone(),
            epoch: facts.epoch,
        };
        let processor = Processor::start(processor_options(&settings), parts);
        let intake = Arc::new(intake(&settings, &log));
        let anonymous = settings.mqtt.anonymous_on_loopback;
        let credentials = watch_credentials(anonymous, control.clone(), end.clone()).await?;
        let options = BrokerOptions { max_connections: settings.mqtt.max_connections };
        let broker = Broker::start(&options, mqtt, websocket, Arc::clone(&intake), credentials);
        let status = status(intake.state(), processor.state());
        let app = app(&settings, &control, &lake, engine, status, metrics.clone())?;
        let http = tokio::spawn(acuvim_query::serve(http, app, end.clone()));
        tokio::spawn(upkeep(Arc::clone(&log), retention(&settings), metrics, end.clone()));
        Ok(Self { addresses, log, control, broker, processor, http, end })
    }

    /// Serves until told to stop or until the stream can't go on, then ends in order: no more
    /// messages, what was taken appended, the tail flushed, HTTP closed.
    pub async fn run_until(self, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut state, mut failed) = (self.processor.state(), self.log.failed());
        let fatal = tokio::select! {
            () = stop.cancelled() => None,
            state = state.wait_for(|state| state.fatal.is_some()) => {
                state.ok().and_then(|s| s.fatal.as_ref().map(ToString::to_string))
            }
            failed = failed.wait_for(Option::is_some) => {
                let reason = failed.ok().and_then(|reason| reason.clone());
                reason.map(|reason| format!("the log must be opened again: {reason}"))
            }
        };
        self.broker.stop(DRAIN).await;
        self.processor.stop(LAST_FLUSH).await;
        self.end.cancel();
        let _ = tokio::time::timeout(DRAIN, self.http).await;
        self.control.close().await;
        if let Some(log) = Arc::into_inner(self.log) {
            log.close().await;
        }
        tracing::info!("stopped");
        match fatal {
            Some(fatal) => Err(anyhow::anyhow!(fatal)),
            None => Ok(()),
        }
    }
}

async fn bind(address: &str, setting: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            let variable = setting.to_uppercase().replace('.', "__");
            anyhow::anyhow!("{address} ({setting}) is in use; set ACUVIM__{variable} or {flag}")
        } else {
            anyhow::anyhow!("{address} ({setting}): {error}")
        }
    })
}

fn recorder() -> anyhow::Result<PrometheusHandle> {
    let seconds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
    Ok(PrometheusBuilder::new().set_buckets(&seconds)?.install_recorder()?)
}

/// Opens the embedded log as the settings say.
pub async fn open_log(settings: &Settings) -> anyhow::Result<Arc<EmbeddedLog>> {
    let options = EmbeddedOptions {
        partitions: settings.log.partitions,
        min_free_bytes: settings.log.min_free_mb << 20,
        ..EmbeddedOptions::at(settings.data.dir.join("log"))
    };
    Ok(Arc::new(EmbeddedLog::open(options).await?))
}

/// Where the lake is, for a log with these facts.
pub fn lake_options(settings: &Settings, facts: LogFacts) -> anyhow::Result<LakeOptions> {
    Ok(LakeOptions {
        url: settings.lake_url()?,
        storage: std::collections::HashMap::new(),
        partitions: facts.partitions,
        epoch: facts.epoch,
        skip_by_offset: settings.proof.skip_by_offset,
    })
}

fn processor_options(settings: &Settings) -> ProcessorOptions {
    let lake = &settings.lake;
    if !settings.proof.dedup || !settings.proof.skip_by_offset {
        tracing::info!(proof = ?settings.proof, "guards are switched off: rows will be stored twice");
    }
    ProcessorOptions {
        flush: FlushPolicy {
            interval: Duration::from_millis(lake.flush_interval_ms),
            rows: lake.flush_rows,
        },
        compaction: CompactionPolicy {
            fan_in: lake.compaction_fan_in,
            ..CompactionPolicy::default()
        },
        compaction_interval: Duration::from_millis(lake.compaction_interval_ms),
        keep_files: Duration::from_secs(lake.keep_files_hours * 3600),
        max_tail_bytes: lake.max_tail_mb << 20,
        limits: Limits {
            max_age: settings.telemetry.retention_days * time::DAY,
            max_future: settings.telemetry.max_future_hours * 3600 * time::SECOND,
            ..Limits::default()
        },
        dedup: settings.proof.dedup,
        ..ProcessorOptions::default()
    }
}

fn intake(settings: &Settings, log: &Arc<EmbeddedLog>) -> Intake {
    let limits = AcceptLimits {
        topic_prefix: settings.mqtt.topic_prefix.clone(),
        max_payload: settings.mqtt.max_payload_kb << 10,
    };
    let patience = Duration::from_secs(settings.mqtt.patience_seconds);
    Intake::new(Arc::clone(log) as Arc<dyn Log>, limits, patience)
}

fn app(
    settings: &Settings,
    control: &Control,
    lake: &Arc<Lake>,
    engine: Engine,
    status: Arc<dyn Fn() -> Status + Send + Sync>,
    metrics: PrometheusHandle,
) -> anyhow::Result<Arc<App>> {
    let secret = admin::jwt_secret(settings)?;
    let jwt = Jwt::new(
        secret.as_bytes(),
        &settings.jwt.issuer,
        TimeDelta::hours(settings.jwt.expiry_hours),
        TimeDelta::days(settings.jwt.refresh_days),
    );
    let app = App::new(AppOptions {
        control: control.clone(),
        lake: Arc::clone(lake),
        engine,
        jwt,
        sql: SqlLimits {
            timeout: Duration::from_millis(settings.sql.timeout_ms),
            max_rows: settings.sql.max_rows,
            concurrent: settings.sql.concurrent,
            ..SqlLimits::default()
        },
        status,
        metrics: Arc::new(move || metrics.render()),
    })?;
    Ok(app)
}

/// How the stages are doing, in the words of the API.
fn status(
    intake: watch::Receiver<IntakeState>,
    stream: StateWatch,
) -> Arc<dyn Fn() -> Status + Send + Sync> {
    Arc::new(move || {
        let stream = stream.borrow().clone();
        let withholding = match &*intake.borrow() {
            IntakeState::Taking => None,
            IntakeState::Withholding(reason) => Some(reason.clone()),
        };
        let troubles = [
            ("log", withholding.or(stream.log_trouble.clone())),
            ("lake", stream.lake_trouble.clone()),
            ("control", stream.control_trouble.clone()),
        ];
        let not_ready = troubles
            .into_iter()
            .filter_map(|(component, reason)| {
                Some(Component { component: component.to_owned(), reason: reason? })
            })
            .collect();
        Status { not_ready, not_hot: stream.not_hot() }
    })
}

/// The devices' secrets, looked at every second: a cheap question as long as nothing changed.
async fn watch_credentials(
    anonymous: bool,
    control: Control,
    end: CancellationToken,
) -> anyhow::Result<watch::Receiver<Credentials>> {
    let mut version = control.credentials_version().await?;
    let secrets = Arc::new(control.device_secrets().await?);
    let (sender, receiver) = watch::channel(Credentials { anonymous, secrets });
    tokio::spawn(end.run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
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
    Ok(receiver)
}

fn retention(settings: &Settings) -> Retention {
    Retention {
        max_age: Duration::from_secs(settings.log.retention_hours * 3600),
        max_bytes: settings.log.retention_mb << 20,
    }
}

/// What is done now and then beside the stages.
async fn upkeep(
    log: Arc<EmbeddedLog>,
    keep: Retention,
    metrics: PrometheusHandle,
    end: CancellationToken,
) {
    let work = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        for tick in 0_u64.. {
            ticks.tick().await;
            metrics.run_upkeep();
            if tick % 12 == 6 {
                match log.retain(SystemTime::now(), keep).await {
                    Ok(0) => {}
                    Ok(bytes) => tracing::info!(bytes, "the log let go of old segments"),
                    Err(error) => tracing::warn!(%error, "the log's retention failed"),
                }
            }
        }
    };
    end.run_until_cancelled(work).await;
}
