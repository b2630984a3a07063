//! The composition root: opens the components that the settings name, connects the stages, and ends
//! them in the order in which data flows.

mod background;
mod components;
mod data_dir;
mod ingest;
mod instance;
mod lake_repair;
mod listeners;
mod open_files;
mod opened;
mod options;
mod status;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use acuvim_control::Control;
use acuvim_processor::{Dependencies, Duties, Processor};
use acuvim_query::System;
use anyhow::Context as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::settings::{Role, Settings};
use ingest::{Endpoints, Ingest, bridge_options, downlink, intake};
use instance::Instance;
use listeners::{Addresses, Listeners, MqttListeners};
use opened::Opened;
use options::{ApiAddress, app, processor_options};
use status::Stages;

pub use background::{PROCESS_LEASES, REPARTITION_LEASE};
pub use components::{AnyLog, control, damage, engine, lake};

/// Time limit for most parts to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit for the processor to end: its last flush may write a full tail.
const LAST_FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// The consumer group of all processors.
const PROCESSORS: &str = "processor";

/// Runs until SIGINT or SIGTERM; a second signal ends the process at once.
pub async fn serve(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    // A process that is stopped while it waits for a component has nothing to end in order.
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
    /// Ends HTTP and the background tasks.
    end: CancellationToken,
    background_tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Opens and starts everything. While it waits for components that are unavailable, `/readyz`
    /// names them.
    pub async fn start(mut settings: Settings) -> anyhow::Result<Self> {
        data_dir::prepare(&settings.data.dir)?;
        let roles = settings.process.roles()?;
        let listeners = Listeners::bind(&settings, &roles).await?;
        let addresses = listeners.addresses()?;
        open_files::raise_limit(&mut settings);
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
        let opened = opened::open(&settings, &roles, &instance, &end, &stages).await;
        waiting.cancel();
        let http = TcpListener::from_std(std_http)?;

        let mut starting = Starting {
            settings: Arc::new(settings),
            roles,
            opened: opened?,
            instance,
            stages,
            end,
            background_tasks: Vec::new(),
        };
        let ingest = starting.ingest(listeners.mqtt).await?;
        let processor = starting.processor().await?;
        starting.upkeep(metrics);
        let http = starting.http(http, listeners.devices, addresses, system).await?;
        early.abort();
        starting.stages.serving();
        let Starting { opened, end, mut background_tasks, .. } = starting;
        background_tasks.push(opened.lease_renewal);
        let Opened { log, control, .. } = opened;
        Ok(Self { addresses, log, control, ingest, processor, http, end, background_tasks })
    }

    /// Serves until it is stopped or the stream fails, then ends in order: ingest takes no more
    /// messages and appends those it has, the processor flushes the tail, HTTP finishes its requests.
    pub async fn run_until(self, stop: CancellationToken) -> anyhow::Result<()> {
        let failure = tokio::select! {
            () = stop.cancelled() => None,
            reason = stream_failed(self.processor.as_ref()) => Some(reason),
            reason = self.log.failed() => Some(reason),
        };
        if let Some(ingest) = self.ingest {
            ingest.stop(DRAIN_TIMEOUT).await;
        }
        if let Some(processor) = self.processor {
            processor.stop(LAST_FLUSH_TIMEOUT).await;
        }
        self.end.cancel();
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.http).await;
        for task in self.background_tasks {
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, task).await;
        }
        self.control.close().await;
        self.log.close().await;
        tracing::info!("stopped");
        match failure {
            Some(reason) => Err(anyhow::anyhow!(reason)),
            None => Ok(()),
        }
    }
}

/// What the stages are started from.
struct Starting {
    settings: Arc<Settings>,
    roles: BTreeSet<Role>,
    opened: Opened,
    instance: Arc<Instance>,
    stages: Stages,
    end: CancellationToken,
    background_tasks: Vec<JoinHandle<()>>,
}

impl Starting {
    /// Starts the built-in broker or the bridge, if this process has the ingest role.
    async fn ingest(&self, listeners: Option<MqttListeners>) -> anyhow::Result<Option<Ingest>> {
        if !self.roles.contains(&Role::Ingest) {
            return Ok(None);
        }
        let Self { settings, opened: Opened { log, control, .. }, instance, stages, .. } = self;
        let intake = Arc::new(intake(settings, log.log()));
        stages.intake(intake.state());
        let ingest = match (bridge_options(settings)?, listeners) {
            (Some(options), _) => {
                let cursor = format!("bridge:{}", options.client_id);
                let downlink = downlink(settings, log, &cursor, true);
                let endpoints = Endpoints { intake, downlink };
                Ingest::bridge(options, endpoints, control.clone(), &instance.id, stages)
            }
            (None, Some(listeners)) => {
                // If the log is shared, a device may be connected to the broker of another process.
                let alone = !log.is_shared();
                let name = if alone { "broker" } else { &instance.id };
                let downlink = downlink(settings, log, &format!("broker:{name}"), alone);
                let endpoints = Endpoints { intake, downlink };
                let end = self.end.clone();
                Ingest::broker(settings, endpoints, control, listeners, end).await?
            }
            (None, None) => anyhow::bail!("the ingest role has neither a broker nor a bridge"),
        };
        Ok(Some(ingest))
    }

    /// Starts the stream: it writes partitions for the processor role, and follows them for queries.
    async fn processor(&self) -> anyhow::Result<Option<Processor>> {
        let Self { settings, roles, opened, instance, stages, .. } = self;
        let Opened { control, facts, log, lake: Some(lake), .. } = opened else { return Ok(None) };
        let claim = match roles.contains(&Role::Processor) {
            true => Some(log.log().claim(PROCESSORS).await?),
            false => None,
        };
        let duties = Duties { claim, follow: roles.contains(&Role::Query) };
        let dependencies = Dependencies {
            log: log.log(),
            lake: Arc::clone(lake),
            control: control.clone(),
            epoch: facts.epoch,
            holder: instance.id.clone(),
        };
        if roles.contains(&Role::Processor) {
            let defaults = acuvim_rules::default_rules().context("the default rules")?;
            control.load_rules(&defaults, chrono::Utc::now()).await?;
        }
        let options = processor_options(settings, log.is_shared())?;
        let processor = Processor::start(options, dependencies, duties);
        stages.stream(processor.state());
        Ok(Some(processor))
    }

    fn upkeep(&mut self, metrics: PrometheusHandle) {
        let log = self.opened.log.clone();
        let upkeep = background::upkeep(log, Arc::clone(&self.settings), metrics, self.end.clone());
        self.background_tasks.push(tokio::spawn(upkeep));
    }

    /// Starts HTTP: the API for the query role, health and metrics alone for the others.
    async fn http(
        &mut self,
        listener: TcpListener,
        devices: Option<TcpListener>,
        addresses: Addresses,
        system: System,
    ) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
        let Opened { control, log, lake, .. } = &self.opened;
        let Some(lake) = lake.as_ref().filter(|_| self.roles.contains(&Role::Query)) else {
            return Ok(tokio::spawn(acuvim_query::serve_system(
                listener,
                system,
                self.end.clone(),
            )));
        };
        let (settings, end) = (&self.settings, &self.end);
        let at = addresses.devices.unwrap_or(addresses.http).to_string();
        let place = ApiAddress { holder: &self.instance.id, at: &at };
        let app = app(settings, control, lake, log.log(), system, &place).await?;
        if let Some(listener) = devices {
            self.background_tasks.push(serve_devices(listener, Arc::clone(&app), end.clone()));
        }
        let rollouts = acuvim_query::run_rollouts(Arc::clone(&app), end.clone());
        self.background_tasks.push(tokio::spawn(rollouts));
        let live = acuvim_query::run_live(Arc::clone(&app), end.clone());
        self.background_tasks.push(tokio::spawn(live));
        Ok(tokio::spawn(acuvim_query::serve(listener, app, end.clone())))
    }
}

/// Serves firmware to devices over plain HTTP.
fn serve_devices(
    listener: TcpListener,
    app: Arc<acuvim_query::Api>,
    end: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = acuvim_query::serve_devices(listener, app, end).await {
            tracing::error!(%error, "devices are not served over plain HTTP any more");
        }
    })
}

/// Resolves with the reason when the stream has failed for good.
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
