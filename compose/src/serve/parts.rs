//! Opens what the settings name: log, control, lake, listeners.

use std::{sync::Arc, time::Duration};

use acuvim_control::{Control, LogFacts};
use acuvim_lakehouse::{Damage, Engine, EngineLimits, Lake, LakeOptions};
use acuvim_log::{
    EmbeddedLog, EmbeddedOptions, ErrorKind as LogErrorKind, KafkaLog, KafkaOptions, Log, Retention,
};
use tokio::net::TcpListener;

use crate::settings::Settings;

/// The log in either shape: what is asked of one alone is asked by its name.
#[derive(Debug, Clone)]
pub enum AnyLog {
    /// In this process.
    Embedded(Arc<EmbeddedLog>),
    /// On Kafka.
    Kafka(Arc<KafkaLog>),
}

impl AnyLog {
    /// Opens the log of an epoch.
    pub async fn open(settings: &Settings, facts: LogFacts) -> Result<Self, acuvim_log::Error> {
        let setup =
            |e: anyhow::Error| acuvim_log::Error::new(LogErrorKind::Setup, format!("{e:#}"));
        match settings.kafka().map_err(setup)? {
            Some(place) => {
                let options = KafkaOptions {
                    login: place.login,
                    prefix: settings.log.topic_prefix.clone(),
                    session_timeout: Duration::from_secs(settings.log.session_timeout_seconds),
                    partitions: facts.partitions,
                    epoch: facts.epoch,
                    retention: Duration::from_secs(settings.log.retention_hours * 3600),
                    ..KafkaOptions::at(place.brokers)
                };
                KafkaLog::open(options).await.map(|log| Self::Kafka(Arc::new(log)))
            }
            None => {
                let folder = match facts.epoch {
                    0 => "log".to_owned(),
                    epoch => format!("log-e{epoch}"),
                };
                let options = EmbeddedOptions {
                    partitions: facts.partitions,
                    min_free_bytes: settings.log.min_free_mb << 20,
                    ..EmbeddedOptions::at(settings.data.dir.join(folder))
                };
                EmbeddedLog::open(options).await.map(|log| Self::Embedded(Arc::new(log)))
            }
        }
    }

    /// The log as every stage sees it.
    pub fn log(&self) -> Arc<dyn Log> {
        match self {
            Self::Embedded(log) => Arc::clone(log) as _,
            Self::Kafka(log) => Arc::clone(log) as _,
        }
    }

    /// Which log it is, so that offsets of another are not taken for its own.
    pub async fn identity(&self) -> Result<String, acuvim_log::Error> {
        match self {
            Self::Embedded(log) => Ok(format!("the embedded log {}", log.id())),
            Self::Kafka(log) => Ok(format!("the Kafka cluster {}", log.cluster().await?)),
        }
    }

    /// Whether other processes may use it too.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }

    /// Resolves with the reason when it can't be used until it is opened again.
    pub async fn failed(&self) -> String {
        let Self::Embedded(log) = self else { return std::future::pending().await };
        let mut failed = log.failed();
        let reason = failed.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => format!("the log must be opened again: {reason}"),
            None => std::future::pending().await,
        }
    }

    /// Lets go of what the settings allow; Kafka does so by itself.
    pub async fn retain(&self, settings: &Settings) -> Result<u64, acuvim_log::Error> {
        let Self::Embedded(log) = self else { return Ok(0) };
        let keep = Retention {
            max_age: Duration::from_secs(settings.log.retention_hours * 3600),
            max_bytes: settings.log.retention_mb << 20,
        };
        log.retain(std::time::SystemTime::now(), keep).await
    }

    /// Ends it once everything handed over is durable.
    pub async fn close(self) {
        if let Self::Embedded(log) = self
            && let Some(log) = Arc::into_inner(log)
        {
            log.close().await;
        }
    }
}

/// Opens the control database.
pub async fn control(settings: &Settings) -> Result<Control, acuvim_control::Error> {
    match &settings.control.url {
        Some(url) => Control::open_postgres(url).await,
        None => Control::open_sqlite(&settings.data.dir.join("control.db")).await,
    }
}

/// The engine that queries and merges run on.
pub fn engine(settings: &Settings) -> anyhow::Result<Engine> {
    Ok(Engine::new(&EngineLimits {
        memory: settings.sql.memory_mb << 20,
        spill: settings.sql.spill_mb << 20,
        ..EngineLimits::default()
    })?)
}

/// Where the lake of a log with these facts is.
/// What is damaged of the lake's newest commits; none if nothing is.
pub async fn damage(
    settings: &Settings,
    facts: LogFacts,
) -> Result<Option<Damage>, acuvim_lakehouse::Error> {
    Damage::find(&lake_options(settings, facts)?).await
}

pub fn lake_options(
    settings: &Settings,
    facts: LogFacts,
) -> Result<LakeOptions, acuvim_lakehouse::Error> {
    let url = settings.lake_url().map_err(|e| {
        acuvim_lakehouse::Error::new(acuvim_lakehouse::ErrorKind::Setup, format!("{e:#}"))
    })?;
    Ok(LakeOptions {
        url,
        partitions: facts.partitions,
        epoch: facts.epoch,
        skip_by_offset: true,
        fence: true,
        max_ahead: settings.telemetry.max_ahead_seconds * acuvim_schemas::time::SECOND,
    })
}

/// Opens the lake of a log with these facts.
pub async fn lake(
    settings: &Settings,
    facts: LogFacts,
    engine: Engine,
) -> Result<Lake, acuvim_lakehouse::Error> {
    Lake::open(lake_options(settings, facts)?, engine).await
}

/// Listens at an address; who can't is told which setting to change.
pub async fn bind(address: &str, setting: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            let variable = setting.to_uppercase().replace('.', "__");
            anyhow::anyhow!("{address} ({setting}) is in use; set ACUVIM__{variable} or {flag}")
        } else {
            anyhow::anyhow!("{address} ({setting}): {error}")
        }
    })
}
