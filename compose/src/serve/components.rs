//! Opens the components that the settings name: log, control and lake.

use std::{path::Path, sync::Arc, time::Duration};

use acuvim_control::{Control, LogFacts};
use acuvim_lakehouse::{Damage, Engine, EngineLimits, Lake, LakeOptions, WriteGuards};
use acuvim_log::{
    EmbeddedLog, EmbeddedOptions, ErrorKind as LogErrorKind, KafkaLog, KafkaOptions, Log, Retention,
};

use crate::settings::Settings;

/// The log of either kind. Most code needs only the trait `Log`; what one kind alone can do is here.
#[derive(Debug, Clone)]
pub enum AnyLog {
    /// In the data directory, for this process alone.
    Embedded(Arc<EmbeddedLog>),
    /// On Kafka, shared with other processes.
    Kafka(Arc<KafkaLog>),
}

impl AnyLog {
    /// Opens the log with the layout that control knows.
    pub async fn open(settings: &Settings, facts: LogFacts) -> Result<Self, acuvim_log::Error> {
        let setup =
            |e: anyhow::Error| acuvim_log::Error::new(LogErrorKind::Setup, format!("{e:#}"));
        match settings.log.kafka().map_err(setup)? {
            Some(cluster) => {
                let options = KafkaOptions {
                    login: cluster.login,
                    prefix: settings.log.topic_prefix.clone(),
                    session_timeout: Duration::from_secs(settings.log.session_timeout_seconds),
                    partitions: facts.partitions,
                    epoch: facts.epoch,
                    retention: Duration::from_secs(settings.log.retention_hours * 3600),
                    ..KafkaOptions::at(cluster.brokers)
                };
                KafkaLog::open(options).await.map(|log| Self::Kafka(Arc::new(log)))
            }
            None => {
                let folder = match facts.epoch {
                    0 => "log".to_owned(),
                    epoch => format!("log-e{epoch}"),
                };
                // A log that has been laid out anew has other partitions than the settings say.
                let options = EmbeddedOptions {
                    partitions: facts.partitions,
                    ..embedded_options(settings, &settings.data.dir.join(folder))
                };
                EmbeddedLog::open(options).await.map(|log| Self::Embedded(Arc::new(log)))
            }
        }
    }

    /// The log as the stages use it.
    pub fn log(&self) -> Arc<dyn Log> {
        match self {
            Self::Embedded(log) => Arc::clone(log) as _,
            Self::Kafka(log) => Arc::clone(log) as _,
        }
    }

    /// Names this very log, so that offsets of another one are not mistaken for its own.
    pub async fn identity(&self) -> Result<String, acuvim_log::Error> {
        match self {
            Self::Embedded(log) => Ok(format!("the embedded log {}", log.id())),
            Self::Kafka(log) => Ok(format!("the Kafka cluster {}", log.cluster().await?)),
        }
    }

    /// Whether other processes can use the log at the same time.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }

    /// Resolves with the reason when the log has failed and must be opened again.
    pub async fn failed(&self) -> String {
        let Self::Embedded(log) = self else { return std::future::pending().await };
        let mut failed = log.failed();
        let reason = failed.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => format!("the log must be opened again: {reason}"),
            None => std::future::pending().await,
        }
    }

    /// Removes records beyond the retention of the settings; returns the bytes. Kafka does it itself.
    pub async fn retain(&self, settings: &Settings) -> Result<u64, acuvim_log::Error> {
        let Self::Embedded(log) = self else { return Ok(0) };
        log.retain(std::time::SystemTime::now(), log_retention(settings)).await
    }

    /// Closes the log once every pending append is durable.
    pub async fn close(self) {
        if let Self::Embedded(log) = self
            && let Some(log) = Arc::into_inner(log)
        {
            log.close().await;
        }
    }
}

/// The embedded log in a folder.
pub fn embedded_options(settings: &Settings, folder: &Path) -> EmbeddedOptions {
    EmbeddedOptions {
        partitions: settings.log.partitions,
        min_free_bytes: settings.log.min_free_mb << 20,
        ..EmbeddedOptions::at(folder)
    }
}

/// How much the embedded log keeps.
pub fn log_retention(settings: &Settings) -> Retention {
    Retention {
        max_age: Duration::from_secs(settings.log.retention_hours * 3600),
        max_bytes: settings.log.retention_mb << 20,
    }
}

/// Opens the control database.
pub async fn control(settings: &Settings) -> Result<Control, acuvim_control::Error> {
    match &settings.control.url {
        Some(url) => Control::open_postgres(url).await,
        None => Control::open_sqlite(&settings.data.dir.join("control.db")).await,
    }
}

/// The engine for queries and compaction.
pub fn engine(settings: &Settings) -> anyhow::Result<Engine> {
    Ok(Engine::new(&EngineLimits {
        memory: settings.sql.memory_mb << 20,
        spill: settings.sql.spill_mb << 20,
        ..EngineLimits::default()
    })?)
}

/// Damage in the lake's newest commits, if there is any.
pub async fn damage(
    settings: &Settings,
    facts: LogFacts,
) -> Result<Option<Damage>, acuvim_lakehouse::Error> {
    Damage::find(&lake_options(settings, facts)?).await
}

/// The lake's location, and the log that it is written from.
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
        guards: WriteGuards::default(),
        max_ahead: settings.telemetry.max_ahead_seconds * acuvim_wire::time::SECOND,
    })
}

/// Opens the lake.
pub async fn lake(
    settings: &Settings,
    facts: LogFacts,
    engine: Engine,
) -> Result<Lake, acuvim_lakehouse::Error> {
    Lake::open(lake_options(settings, facts)?, engine).await
}
