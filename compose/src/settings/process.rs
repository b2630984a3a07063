//! Sections `process`, `control`, `sql`, `data` and `logging`.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::text::{masked_url, within};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub roles: String,
}

/// A part of the system that can run in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Appends MQTT messages to the log.
    Ingest,
    /// Writes the log's records to tables and to control.
    Processor,
    /// Serves the API.
    Query,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Processor, Self::Query];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The name in settings and log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Processor => "processor",
            Self::Query => "query",
        }
    }
}

impl Process {
    /// The roles of this process; at least one.
    pub fn roles(&self) -> anyhow::Result<BTreeSet<Role>> {
        let names = self.roles.split(',').map(str::trim).filter(|name| !name.is_empty());
        let roles: Option<BTreeSet<Role>> = names.map(Role::parse).collect();
        roles.filter(|roles| !roles.is_empty()).with_context(|| {
            format!(
                "process.roles is `{}`: allowed are ingest, processor and query, separated by commas",
                self.roles
            )
        })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    pub url: Option<String>,
    pub keep_history_days: u64,
}

impl Control {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if let Some(url) = &self.url {
            ensure!(
                ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)),
                "control.url is `{}`: allowed is postgres://user:password@host/database",
                masked_url(url)
            );
        }
        within("control.keep_history_days", self.keep_history_days, 7, 36_500)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    pub timeout_ms: u64,
    pub memory_mb: usize,
    pub spill_mb: u64,
    pub max_rows: usize,
    pub max_cells: usize,
    pub concurrent: usize,
    pub exports: usize,
    pub export_stall_seconds: u64,
}

impl Sql {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        within("sql.timeout_ms", self.timeout_ms, 10, 3_600_000)?;
        within("sql.memory_mb", self.memory_mb, 16, 1 << 20)?;
        within("sql.max_rows", self.max_rows, 1, 10_000_000)?;
        within("sql.max_cells", self.max_cells, 1, 1_000_000_000)?;
        within("sql.concurrent", self.concurrent, 1, 1000)?;
        within("sql.exports", self.exports, 1, 1000)?;
        // Below the two minutes after which the server closes a connection that takes nothing.
        within("sql.export_stall_seconds", self.export_stall_seconds, 1, 110)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    pub dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    pub level: String,
    pub format: LogFormat,
}
