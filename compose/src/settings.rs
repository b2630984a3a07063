//! The settings: a TOML file, environment variables over it, flags over both. Unknown keys and
//! values out of range stop the start with one line that names the setting and what is allowed.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, bail, ensure};
use config::{Config, Environment, File, FileFormat};
use serde::{Deserialize, Serialize};

use crate::cli::ServeFlags;

/// Everything that can be set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub http: Http,
    pub mqtt: Mqtt,
    pub log: Log,
    pub lake: Lake,
    pub jwt: Jwt,
    pub admin: Admin,
    pub telemetry: Telemetry,
    pub sql: Sql,
    pub data: Data,
    pub logging: Logging,
    pub proof: Proof,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub listen: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    pub listen: String,
    /// Empty: no websockets.
    pub websocket_listen: String,
    pub topic_prefix: String,
    pub max_payload_kb: usize,
    pub max_connections: usize,
    /// Clients on this machine need no credentials. Switch it off behind a proxy on this machine.
    pub anonymous_on_loopback: bool,
    /// How long a message waits for a log that is away before its connection is closed.
    pub patience_seconds: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub partitions: u32,
    pub retention_hours: u64,
    /// Per partition, after every sink has got it.
    pub retention_mb: u64,
    pub min_free_mb: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lake {
    /// Unset: `lake` in the data directory.
    pub url: Option<String>,
    pub flush_interval_ms: u64,
    pub flush_rows: usize,
    pub compaction_interval_ms: u64,
    pub compaction_fan_in: usize,
    /// How long merged and orphaned files stay for readers of older versions.
    pub keep_files_hours: u64,
    pub max_tail_mb: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jwt {
    /// Unset: made at random and kept in the data directory.
    pub secret: Option<String>,
    pub issuer: String,
    pub expiry_hours: i64,
    pub refresh_days: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// The first admin's password; unset: made at random, shown once.
    pub password: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Readings older than this on arrival are dead letters.
    pub retention_days: i64,
    /// Readings further ahead than this are dead letters.
    pub max_future_hours: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sql {
    pub timeout_ms: u64,
    pub memory_mb: usize,
    pub spill_mb: u64,
    pub max_rows: usize,
    pub concurrent: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
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
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// error, warn, info, debug or trace; or a filter such as `info,acuvim_lakehouse=debug`.
    pub level: String,
    pub format: LogFormat,
}

/// Guards that can be switched off to prove that they matter. Never in operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proof {
    pub dedup: bool,
    pub skip_by_offset: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:5000".into() }
    }
}
impl Default for Mqtt {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:1883".into(),
            websocket_listen: "127.0.0.1:9001".into(),
            topic_prefix: "acuvim".into(),
            max_payload_kb: 768,
            max_connections: 12_000,
            anonymous_on_loopback: true,
            patience_seconds: 20,
        }
    }
}
impl Default for Log {
    fn default() -> Self {
        Self { partitions: 4, retention_hours: 168, retention_mb: 1024, min_free_mb: 256 }
    }
}
impl Default for Lake {
    fn default() -> Self {
        Self {
            url: None,
            flush_interval_ms: 10_000,
            flush_rows: 100_000,
            compaction_interval_ms: 10_000,
            compaction_fan_in: 8,
            keep_files_hours: 24,
            max_tail_mb: 512,
        }
    }
}
impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret: None,
            issuer: "Tau.Acuvim.Console".into(),
            expiry_hours: 24,
            refresh_days: 7,
        }
    }
}
impl Default for Telemetry {
    fn default() -> Self {
        Self { retention_days: 365, max_future_hours: 24 }
    }
}
impl Default for Sql {
    fn default() -> Self {
        Self {
            timeout_ms: 30_000,
            memory_mb: 256,
            spill_mb: 4096,
            max_rows: 100_000,
            concurrent: 4,
        }
    }
}
impl Default for Data {
    fn default() -> Self {
        Self { dir: "./data".into() }
    }
}
impl Default for Logging {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}
impl Default for Proof {
    fn default() -> Self {
        Self { dedup: true, skip_by_offset: true }
    }
}

impl Settings {
    /// Reads the settings in force.
    pub fn load(flags: &ServeFlags) -> anyhow::Result<Self> {
        Self::load_with(flags, Environment::with_prefix("ACUVIM"))
    }

    fn load_with(flags: &ServeFlags, environment: Environment) -> anyhow::Result<Self> {
        let mut builder = Config::builder();
        if let Some(path) = &flags.config {
            std::fs::metadata(path).with_context(|| format!("{} (--config)", path.display()))?;
            builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
        }
        builder = builder.add_source(environment.prefix_separator("__").separator("__"));
        let dir = flags.data_dir.as_ref().map(|d| d.to_string_lossy().into_owned());
        let named = [
            ("data.dir", dir),
            ("http.listen", flags.http_listen.clone()),
            ("mqtt.listen", flags.mqtt_listen.clone()),
            ("mqtt.websocket_listen", flags.mqtt_websocket_listen.clone()),
        ];
        for (key, value) in named {
            builder = builder.set_override_option(key, value)?;
        }
        for pair in &flags.set {
            let Some((key, value)) = pair.split_once('=') else {
                bail!("--set {pair}: give it as section.key=value");
            };
            builder = builder.set_override(key.trim(), value.trim())?;
        }
        let settings: Self = builder.build()?.try_deserialize().context("settings")?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        self.lake_url()?;
        address("http.listen", &self.http.listen)?;
        address("mqtt.listen", &self.mqtt.listen)?;
        if !self.mqtt.websocket_listen.is_empty() {
            address("mqtt.websocket_listen", &self.mqtt.websocket_listen)?;
        }
        ensure!(
            acuvim_schemas::topic::is_prefix(&self.mqtt.topic_prefix),
            "mqtt.topic_prefix is `{}`: allowed are topic levels without + and #",
            self.mqtt.topic_prefix
        );
        within("mqtt.max_payload_kb", self.mqtt.max_payload_kb, 1, 2048)?;
        within("mqtt.max_connections", self.mqtt.max_connections, 1, 100_000)?;
        within("mqtt.patience_seconds", self.mqtt.patience_seconds, 1, 120)?;
        within("log.partitions", self.log.partitions, 1, 64)?;
        within("log.retention_hours", self.log.retention_hours, 1, 24 * 365)?;
        within("log.retention_mb", self.log.retention_mb, 64, 1 << 20)?;
        within("lake.flush_interval_ms", self.lake.flush_interval_ms, 50, 3_600_000)?;
        within("lake.flush_rows", self.lake.flush_rows, 1, 10_000_000)?;
        within("lake.compaction_interval_ms", self.lake.compaction_interval_ms, 50, 3_600_000)?;
        within("lake.compaction_fan_in", self.lake.compaction_fan_in, 2, 100)?;
        within("lake.keep_files_hours", self.lake.keep_files_hours, 2, 24 * 365)?;
        within("lake.max_tail_mb", self.lake.max_tail_mb, 16, 1 << 20)?;
        within("jwt.expiry_hours", self.jwt.expiry_hours, 1, 24 * 30)?;
        within("jwt.refresh_days", self.jwt.refresh_days, 1, 365)?;
        within("telemetry.retention_days", self.telemetry.retention_days, 1, 36_500)?;
        within("telemetry.max_future_hours", self.telemetry.max_future_hours, 0, 24 * 30)?;
        within("sql.timeout_ms", self.sql.timeout_ms, 10, 3_600_000)?;
        within("sql.memory_mb", self.sql.memory_mb, 16, 1 << 20)?;
        within("sql.max_rows", self.sql.max_rows, 1, 10_000_000)?;
        within("sql.concurrent", self.sql.concurrent, 1, 1000)?;
        if let Some(secret) = &self.jwt.secret {
            let weak = secret.len() < 32 || secret.to_lowercase().contains("change");
            ensure!(
                !weak,
                "jwt.secret is a placeholder or too short: allowed are 32 bytes or more"
            );
        }
        if let Some(password) = &self.admin.password {
            let length = password.chars().count();
            ensure!(length >= 12, "admin.password is too short: allowed are 12 characters or more");
        }
        Ok(())
    }

    /// Where the lake is.
    pub fn lake_url(&self) -> anyhow::Result<url::Url> {
        match &self.lake.url {
            Some(text) => url::Url::parse(text)
                .ok()
                .filter(|url| ["file", "s3", "s3a"].contains(&url.scheme()))
                .with_context(|| {
                    format!("lake.url is `{text}`: allowed are file:// and s3:// URLs")
                }),
            None => {
                let dir = std::path::absolute(self.data.dir.join("lake"))?;
                url::Url::from_directory_path(&dir)
                    .map_err(|()| anyhow::anyhow!("{} is no path for data.dir", dir.display()))
            }
        }
    }

    /// The settings with every secret masked.
    pub fn masked(&self) -> Self {
        let mut shown = self.clone();
        let mask = |secret: &mut Option<String>| {
            if secret.is_some() {
                *secret = Some("********".to_owned());
            }
        };
        mask(&mut shown.jwt.secret);
        mask(&mut shown.admin.password);
        if let Some(url) = &shown.lake.url
            && let Ok(mut parsed) = url::Url::parse(url)
            && parsed.password().is_some()
        {
            let _ = parsed.set_password(Some("********"));
            shown.lake.url = Some(parsed.to_string());
        }
        shown
    }
}

fn address(name: &str, value: &str) -> anyhow::Result<SocketAddr> {
    value.parse().map_err(|_| {
        anyhow::anyhow!("{name} is `{value}`: allowed is ADDRESS:PORT, as 127.0.0.1:5000")
    })
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(
    name: &str,
    value: T,
    least: T,
    most: T,
) -> anyhow::Result<()> {
    ensure!(value >= least && value <= most, "{name} is {value}: allowed are {least} to {most}");
    Ok(())
}

#[cfg(test)]
mod tests;
