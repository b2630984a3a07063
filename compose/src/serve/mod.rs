//! The composition root: opens what the settings name, wires the stages by hand, and ends them in
//! the order in which data flows.

mod beside;
mod data_dir;
mod files;
mod ingest;
mod instance;
mod mend;
mod options;
mod parts;
mod status;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use acuvim_control::{Control, LogFacts};
use acuvim_lakehouse::Lake;
use acuvim_processor::{Duties, Parts, Processor};
use acuvim_query::System;
use anyhow::Context as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::settings::{Role, Settings};
pub use beside::{PROCESS_LEASES, REPARTITION_LEASE};
use beside::{enter, lease_name, say_alive, upkeep};
use ingest::{Ingest, bridge_options, downlink, intake};
use instance::Instance;
use mend::{log_is_whole, mend};
use options::{Place, app, processor_options};
use parts::bind;
pub use parts::{AnyLog, control, damage, engine, lake};
use status::Stages;

/// How long each part may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// The last flush may write a full tail.
const LAST_FLUSH: Duration = Duration::from_secs(60);

/// The group of all processes that turn the log into tables.
const PROCESSORS: &str = "processor";

/// Where a running server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub http: SocketAddr,
    /// For devices that fetch firmware over plain HTTP, where that is switched on.
    pub devices: Option<SocketAddr>,
    /// The built-in broker, where there is one.
    pub mqtt: Option<SocketAddr>,
    pub websocket: Option<SocketAddr>,
}

/// Runs until SIGINT or SIGTERM; a second one ends the process at once.
pub async fn serve(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    // Told to stop while it waits for a component, it has nothing to end in order.
    let Some(server) =
        stop.run_until_cancelled(Box::pin(Server::start(settings))).await.transpose()?
    else {
        return Ok(());
    };
    let at = server.addresses;
    let shown = |at: Option<SocketAddr>| at.map(|at| at.to_string()).unwrap_or_default();
    tracing::info!(
        http = %at.http, mqtt = shown(at.mqtt), websocket = shown(at.websocket),
        devices = shown(at.devices),
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
    log: AnyLog,
    control: Control,
    ingest: Option<Ingest>,
    processor: Option<Processor>,
    http: JoinHandle<std::io::Result<()>>,
    /// Ends HTTP and the tasks beside the stages.
    end: CancellationToken,
    beside: Vec<JoinHandle<()>>,
}

/// The sockets, taken before anything else: a port in use is said at once.
struct Listeners {
    http: TcpListener,
    /// For devices that fetch firmware over plain HTTP.
    devices: Option<TcpListener>,
    mqtt: Option<(TcpListener, Option<TcpListener>)>,
}

impl Listeners {
    async fn bind(settings: &Settings, roles: &BTreeSet<Role>) -> anyhow::Result<Self> {
        let http = bind(&settings.http.listen, "http.listen", "--http-listen").await?;
        let devices = match settings.firmware.device_listen.as_str() {
            at if !at.is_empty() && roles.contains(&Role::Query) => {
                Some(bind(at, "firmware.device_listen", "--set firmware.device_listen=...").await?)
            }
            _ => None,
        };
        if !roles.contains(&Role::Ingest) || settings.mqtt.url.is_some() {
            return Ok(Self { http, devices, mqtt: None });
        }
        let mqtt = bind(&settings.mqtt.listen, "mqtt.listen", "--mqtt-listen").await?;
        let websocket = match settings.mqtt.websocket_listen.as_str() {
            "" => None,
            at => Some(bind(at, "mqtt.websocket_listen", "--mqtt-websocket-listen").await?),
        };
        Ok(Self { http, devices, mqtt: Some((mqtt, websocket)) })
    }

    fn addresses(&self) -> std::io::Result<Addresses> {
        let at = |listener: &TcpListener| listener.local_addr();
        let (mqtt, websocket) = match &self.mqtt {
            Some((mqtt, websocket)) => (Some(at(mqtt)?), websocket.as_ref().map(at).transpose()?),
            None => (None, None),
        };
        let devices = self.devices.as_ref().map(at).transpose()?;
        Ok(Addresses { http: at(&self.http)?, devices, mqtt, websocket })
    }
}

impl Server {
    /// Opens and starts everything; waits for components that are away, and says so at `/readyz`.
    pub async fn start(mut settings: Settings) -> anyhow::Result<Self> {
        data_dir::prepare(&settings.data.dir)?;
        let roles = settings.roles()?;
        let listeners = Listeners::bind(&settings, &roles).await?;
        let addresses = listeners.addresses()?;
        files::make_room(&mut settings);
        let (metrics, stages) = (recorder()?, Stages::default());
        let system = system(&stages, &metrics);

        let std_http = listeners.http.into_std()?;
        let waiting = CancellationToken::new();
        let early = TcpListener::from_std(std_http.try_clone()?)?;
        let early =
            tokio::spawn(acuvim_query::serve_system(early, system.clone(), waiting.clone()));
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let instance = Arc::new(Instance::of(&settings.data.dir, &names.join("-"))?);
        let end = CancellationToken::new();
        let opened = Opened::open(&settings, &roles, &instance, &end, &stages).await;
        waiting.cancel();
        let http = TcpListener::from_std(std_http)?;
        let (opened, alive) = opened?;

        let settings = Arc::new(settings);
        let Opened { control, facts, log, lake } = opened;
        let ingest = match roles.contains(&Role::Ingest) {
            true => Some(
                start_ingest(&settings, &log, &control, listeners.mqtt, &instance, &stages, &end)
                    .await?,
            ),
            false => None,
        };
        let processor = match &lake {
            Some(lake) => Some(
                start_processor(&settings, &roles, &log, lake, &control, facts, &stages).await?,
            ),
            None => None,
        };
        let mut beside = vec![
            tokio::spawn(upkeep(log.clone(), Arc::clone(&settings), metrics, end.clone())),
            alive,
        ];
        let http = match (&lake, roles.contains(&Role::Query)) {
            (Some(lake), true) => {
                let at = addresses.devices.unwrap_or(addresses.http).to_string();
                let place = Place { holder: &instance.id, at: &at };
                let app = app(&settings, &control, lake, log.log(), system, &place).await?;
                if let Some(listener) = listeners.devices {
                    beside.push(serve_devices(listener, Arc::clone(&app), end.clone()));
                }
                let rollouts = acuvim_query::run_rollouts(Arc::clone(&app), end.clone());
                beside.push(tokio::spawn(rollouts));
                beside.push(tokio::spawn(acuvim_query::run_live(Arc::clone(&app), end.clone())));
                tokio::spawn(acuvim_query::serve(http, app, end.clone()))
            }
            _ => tokio::spawn(acuvim_query::serve_system(http, system, end.clone())),
        };
        early.abort();
        stages.serving();
        Ok(Self { addresses, log, control, ingest, processor, http, end, beside })
    }

    /// Serves until told to stop or until the stream can't go on, then ends in order: no more
    /// messages, what was taken appended, the tail flushed, HTTP closed.
    pub async fn run_until(self, stop: CancellationToken) -> anyhow::Result<()> {
        let fatal = tokio::select! {
            () = stop.cancelled() => None,
            fatal = stream_failed(self.processor.as_ref()) => Some(fatal),
            failed = self.log.failed() => Some(failed),
        };
        if let Some(ingest) = self.ingest {
            ingest.stop(DRAIN).await;
        }
        if let Some(processor) = self.processor {
            processor.stop(LAST_FLUSH).await;
        }
        self.end.cancel();
        let _ = tokio::time::timeout(DRAIN, self.http).await;
        for task in self.beside {
            let _ = tokio::time::timeout(DRAIN, task).await;
        }
        self.control.close().await;
        self.log.close().await;
        tracing::info!("stopped");
        match fatal {
            Some(fatal) => Err(anyhow::anyhow!(fatal)),
            None => Ok(()),
        }
    }
}

/// What the stages work on.
struct Opened {
    control: Control,
    facts: LogFacts,
    log: AnyLog,
    /// For the processor and query roles.
    lake: Option<Arc<Lake>>,
}

impl Opened {
    async fn open(
        settings: &Settings,
        roles: &BTreeSet<Role>,
        instance: &Arc<Instance>,
        end: &CancellationToken,
        stages: &Stages,
    ) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let passing =
            |e: &acuvim_control::Error| e.kind() == acuvim_control::ErrorKind::Unavailable;
        let control = stages.wait("control", passing, async || control(settings).await).await?;
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let names = names.join(",");
        stages.wait("control", passing, async || enter(&control, &names, instance).await).await?;
        // From here on, however long the other components are waited for.
        let alive = say_alive(control.clone(), names.clone(), Arc::clone(instance), end.clone());
        let alive = tokio::spawn(alive);
        let own = lease_name(&names, instance);
        match Self::open_stages(settings, roles, control, &own, stages).await {
            Ok(opened) => Ok((opened, alive)),
            Err(error) => {
                // It runs no more, and nobody need wait until that is noticed.
                end.cancel();
                let _ = alive.await;
                Err(error)
            }
        }
    }

    /// Opens log and lake; `own` is this process's lease.
    async fn open_stages(
        settings: &Settings,
        roles: &BTreeSet<Role>,
        control: Control,
        own: &str,
        stages: &Stages,
    ) -> anyhow::Result<Self> {
        let passing =
            |e: &acuvim_control::Error| e.kind() == acuvim_control::ErrorKind::Unavailable;
        let facts = async || control.log_facts(settings.log.partitions).await;
        let facts = stages.wait("control", passing, facts).await?;
        let log_passing = |e: &acuvim_log::Error| e.kind() == acuvim_log::ErrorKind::Unavailable;
        let (log, identity) = stages
            .wait("log", log_passing, async || {
                let log = AnyLog::open(settings, facts).await?;
                let identity = log.identity().await?;
                Ok((log, identity))
            })
            .await?;
        stages.wait("control", passing, async || control.check_log(&identity).await).await?;
        let lake = match roles.contains(&Role::Processor) || roles.contains(&Role::Query) {
            true => {
                let engine = engine(settings)?;
                let passing = |e: &acuvim_lakehouse::Error| {
                    e.kind() == acuvim_lakehouse::ErrorKind::Unavailable
                };
                if roles.contains(&Role::Processor) {
                    let mend = async || mend(settings, facts, &log, &control, own).await;
                    stages.wait("lake", passing, mend).await?;
                }
                let open = async || lake(settings, facts, engine.clone()).await;
                let lake = stages.wait("lake", passing, open).await?;
                log_is_whole(&log, &lake, facts).await?;
                Some(Arc::new(lake))
            }
            false => None,
        };
        Ok(Self { control, facts, log, lake })
    }
}

/// Serves firmware to devices over plain HTTP.
fn serve_devices(
    listener: TcpListener,
    app: Arc<acuvim_query::App>,
    end: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = acuvim_query::serve_devices(listener, app, end).await {
            tracing::error!(%error, "devices are not served over plain HTTP any more");
        }
    })
}

async fn start_ingest(
    settings: &Settings,
    log: &AnyLog,
    control: &Control,
    listeners: Option<(TcpListener, Option<TcpListener>)>,
    instance: &Instance,
    stages: &Stages,
    end: &CancellationToken,
) -> anyhow::Result<Ingest> {
    let intake = Arc::new(intake(settings, log.log()));
    stages.intake(intake.state());
    match (bridge_options(settings)?, listeners) {
        (Some(options), _) => {
            let down = downlink(settings, log, &format!("bridge:{}", options.client_id), true);
            Ok(Ingest::bridge(options, (intake, down), control.clone(), &instance.id, stages))
        }
        (None, Some(listeners)) => {
            // On a log that others share, a device may be connected to another ingest.
            let alone = !log.is_shared();
            let name = if alone { "broker" } else { &instance.id };
            let down = downlink(settings, log, &format!("broker:{name}"), alone);
            Ingest::broker(settings, (intake, down), control, listeners, end.clone()).await
        }
        (None, None) => anyhow::bail!("the ingest role has neither a broker nor a bridge"),
    }
}

async fn start_processor(
    settings: &Settings,
    roles: &BTreeSet<Role>,
    log: &AnyLog,
    lake: &Arc<Lake>,
    control: &Control,
    facts: LogFacts,
    stages: &Stages,
) -> anyhow::Result<Processor> {
    let claim = match roles.contains(&Role::Processor) {
        true => Some(log.log().claim(PROCESSORS).await?),
        false => None,
    };
    let duties = Duties { claim, follow: roles.contains(&Role::Query) };
    let parts = Parts {
        log: log.log(),
        lake: Arc::clone(lake),
        control: control.clone(),
        epoch: facts.epoch,
    };
    if roles.contains(&Role::Processor) {
        let defaults = acuvim_rules::default_rules().context("the default rules")?;
        control.load_rules(&defaults, chrono::Utc::now()).await?;
    }
    let options = processor_options(settings, log.is_shared())?;
    let processor = Processor::start(options, parts, duties);
    stages.stream(processor.state());
    Ok(processor)
}

/// Resolves with the reason when the stream can't go on.
async fn stream_failed(processor: Option<&Processor>) -> String {
    let Some(processor) = processor else { return std::future::pending().await };
    let mut state = processor.state();
    let failed = state.wait_for(|state| state.fatal.is_some()).await;
    match failed.ok().and_then(|s| s.fatal.as_ref().map(ToString::to_string)) {
        Some(fatal) => fatal,
        None => std::future::pending().await,
    }
}

fn recorder() -> anyhow::Result<PrometheusHandle> {
    let seconds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
    Ok(PrometheusBuilder::new().set_buckets(&seconds)?.install_recorder()?)
}

fn system(stages: &Stages, metrics: &PrometheusHandle) -> System {
    let (stages, metrics) = (stages.clone(), metrics.clone());
    System {
        status: Arc::new(move || stages.status()),
        metrics: Arc::new(move || metrics.render()),
    }
}
