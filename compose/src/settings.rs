//! The settings: a TOML file, environment variables over it, flags over both. Unknown keys and
//! values out of range stop the start with one line that names the setting and what is allowed.

mod check;
mod firmware;
mod live;
mod notifications;
mod places;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use config::{Config, Environment, File, FileFormat};
use serde::{Deserialize, Serialize};

use crate::cli::ServeFlags;
pub use check::listed;
pub use firmware::Firmware;
pub use live::Live;
pub use notifications::Notifications;
pub use places::Role;
use places::masked_url;

/// Everything that can be set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub process: Process,
    pub http: Http,
    pub mqtt: Mqtt,
    pub log: Log,
    pub control: Control,
    pub lake: Lake,
    pub jwt: Jwt,
    pub admin: Admin,
    pub telemetry: Telemetry,
    pub retention: Retention,
    pub commands: Commands,
    pub firmware: Firmware,
    pub health_monitor: HealthMonitor,
    pub alerts: Alerts,
    pub live: Live,
    pub notifications: Notifications,
    pub sql: Sql,
    pub data: Data,
    pub logging: Logging,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// What this process does: ingest, processor, query, separated by commas.
    pub roles: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub listen: String,
    /// Web pages of these origins may use the API from a browser: https://..., separated by commas.
    pub cors_origins: String,
    /// Proxies whose X-Forwarded-For is believed: addresses or networks, separated by commas.
    pub trusted_proxies: String,
    /// Requests a second, five times as many at once; 0: any number.
    pub requests_per_address: u32,
    pub requests_per_user: u32,
    pub request_timeout_seconds: u64,
    /// Connections at a time, beside the live ones (`live.max_connections`).
    pub max_connections: usize,
    /// Of one address, live ones among them; 0: any number. Trusted proxies may have any number.
    pub max_connections_per_address: usize,
    /// How long a connection may be open before its first request is there.
    pub first_request_seconds: u64,
    /// How long it may then be without one: longer than what a proxy before it keeps open.
    pub idle_seconds: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// A broker to bridge to, as mqtt://host:1883 or mqtts://host:8883. Unset: the built-in broker.
    pub url: Option<String>,
    /// The bridge's; with it go the session at the broker and what waits in it.
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<String>,
    /// Share telemetry with all bridges of this group; each needs a client id of its own.
    pub share_group: Option<String>,
    /// Messages that the broker may send ahead of our acknowledgements.
    pub receive_maximum: u16,
    /// How long the broker keeps our session, and what waits in it, while we are away.
    pub session_expiry_hours: u64,
    pub version: MqttVersion,
    /// A PEM file of certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    pub listen: String,
    /// Empty: no websockets.
    pub websocket_listen: String,
    pub topic_prefix: String,
    pub max_payload_kb: usize,
    pub max_connections: usize,
    /// Connections that have not logged in yet, half of them of one address at most.
    pub max_silent_connections: usize,
    /// What packets that have begun and not ended may take together.
    pub unfinished_mb: usize,
    /// Messages a second, and as many more at once; a client that sends more is slowed down. 0: any
    /// number.
    pub messages_per_client: u32,
    /// Megabytes of payload, and alerts of its own, that one device may send in a day of UTC. Behind that
    /// its messages are dropped; the first is a dead letter `daily_limit`. 0: any number.
    pub device_mb_per_day: u64,
    pub device_alerts_per_day: u64,
    /// Clients on this machine that speak for no device with a secret need no credentials. Switch it
    /// off behind a proxy on this machine.
    pub anonymous_on_loopback: bool,
    /// How long a message waits for a log that is away before its connection is closed.
    pub patience_seconds: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// kafka://host:9092,host:9092. Unset: the embedded log, for one process.
    pub url: Option<String>,
    pub partitions: u32,
    pub retention_hours: u64,
    /// What the names of topics and consumer groups on Kafka begin with: each system that shares a
    /// cluster needs its own.
    pub topic_prefix: String,
    /// On Kafka, how long a processor that is not heard of keeps its partitions; the brokers set the
    /// least (group.min.session.timeout.ms, 6 s).
    pub session_timeout_seconds: u64,
    /// Per partition, after every sink has got it.
    pub retention_mb: u64,
    pub min_free_mb: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// postgres://user:password@host/database. Unset: SQLite in the data directory.
    pub url: Option<String>,
    /// How long commands that ended and the audit are kept.
    pub keep_history_days: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MqttVersion {
    #[serde(rename = "auto")]
    Auto,
    #[serde(rename = "5")]
    V5,
    #[serde(rename = "3.1.1")]
    V311,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lake {
    /// Unset: `lake` in the data directory.
    pub url: Option<String>,
    pub flush_interval_ms: u64,
    pub flush_rows: usize,
    pub compaction_interval_ms: u64,
    /// How often readings are brought into the rollups.
    pub rollup_interval_seconds: u64,
    pub compaction_fan_in: usize,
    /// Files of a day that is over have about so many MiB, 256 at most.
    pub file_mb: u64,
    /// How long a day that is over must have been quiet before its files are put in order.
    pub settle_minutes: u64,
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
    /// Readings are kept so long; older ones on arrival are dead letters.
    pub retention_days: i64,
    /// How long after its start a process first removes what is too old.
    pub first_cleanup_seconds: u64,
    /// How often what is too old is removed, and files that are not needed.
    pub cleanup_interval_hours: u64,
    /// Readings further ahead than this are dead letters.
    pub max_future_hours: i64,
    /// Readings further ahead of their arrival than this are stored, and are neither the latest nor
    /// judged: the device's clock is wrong.
    pub max_ahead_seconds: i64,
}

/// How long the other tables keep their days.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    pub heartbeats_days: i32,
    pub alert_events_days: i32,
    pub device_events_days: i32,
    pub dead_letters_days: i32,
    pub ledger_days: i32,
    pub rollup_15m_days: i32,
    pub rollup_daily_days: i32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commands {
    /// To the first answer.
    pub timeout_seconds: u32,
    /// From an `ack` to the last answer.
    pub ota_update_seconds: u32,
    pub sd_flush_seconds: u32,
    pub other_seconds: u32,
    /// How often commands are looked at whose time may be over.
    pub check_interval_seconds: u64,
}

/// When a device counts as gone or as unwell.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthMonitor {
    pub check_interval_seconds: u64,
    /// Intervals without a heartbeat.
    pub degraded_threshold_multiplier: u32,
    pub offline_threshold_multiplier: u32,
    /// How long devices may take to come back after this system was down.
    pub reconnect_grace_seconds: i64,
    /// Bytes.
    pub min_free_heap: i64,
    /// The share of Modbus exchanges that may fail between two heartbeats.
    pub max_modbus_error_share: f64,
    /// Restarts within an hour that make a loop.
    pub boots_per_hour: u32,
    /// Free room on the SD card.
    pub min_sd_free_mb: i64,
    /// For how long a clock must be ahead until that is an alert.
    pub clock_ahead_seconds: i64,
}

/// When people are told again, and how often the system looks after itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// While nobody has acknowledged an alert.
    pub remind_after_minutes: i64,
    /// Once, for an alert that nobody has acknowledged for so long.
    pub escalate_after_minutes: i64,
    /// How often the ledger is checked, and components and disk are looked at.
    pub check_interval_seconds: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sql {
    pub timeout_ms: u64,
    pub memory_mb: usize,
    pub spill_mb: u64,
    pub max_rows: usize,
    /// Rows times columns of one answer.
    pub max_cells: usize,
    pub concurrent: usize,
    /// Exports at a time: they last as long as their clients take.
    pub exports: usize,
    /// How long the client of one may take nothing before it loses its place.
    pub export_stall_seconds: u64,
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

impl Default for Process {
    fn default() -> Self {
        Self { roles: "ingest,processor,query".into() }
    }
}
impl Default for Http {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:5000".into(),
            cors_origins: String::new(),
            trusted_proxies: String::new(),
            requests_per_address: 200,
            requests_per_user: 100,
            request_timeout_seconds: 60,
            max_connections: 1000,
            max_connections_per_address: 2500,
            first_request_seconds: 10,
            idle_seconds: 75,
        }
    }
}
impl Default for Mqtt {
    fn default() -> Self {
        Self {
            url: None,
            client_id: "acuvim-console".into(),
            username: None,
            password: None,
            share_group: None,
            receive_maximum: 500,
            session_expiry_hours: 168,
            version: MqttVersion::Auto,
            ca_file: None,
            listen: "127.0.0.1:1883".into(),
            websocket_listen: "127.0.0.1:9001".into(),
            topic_prefix: "acuvim".into(),
            max_payload_kb: 768,
            max_connections: 12_000,
            max_silent_connections: 2000,
            unfinished_mb: 256,
            messages_per_client: 1000,
            device_mb_per_day: 1024,
            device_alerts_per_day: 2000,
            anonymous_on_loopback: true,
            patience_seconds: 20,
        }
    }
}
impl Default for Log {
    fn default() -> Self {
        Self {
            url: None,
            partitions: 4,
            retention_hours: 168,
            topic_prefix: "acuvim".into(),
            session_timeout_seconds: 8,
            retention_mb: 1024,
            min_free_mb: 256,
        }
    }
}
impl Default for Control {
    fn default() -> Self {
        Self { url: None, keep_history_days: 730 }
    }
}
impl Default for Lake {
    fn default() -> Self {
        Self {
            url: None,
            flush_interval_ms: 10_000,
            flush_rows: 100_000,
            compaction_interval_ms: 10_000,
            rollup_interval_seconds: 300,
            compaction_fan_in: 8,
            file_mb: 256,
            settle_minutes: 10,
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
        Self {
            retention_days: 365,
            first_cleanup_seconds: 600,
            cleanup_interval_hours: 24,
            max_future_hours: 24,
            max_ahead_seconds: 10,
        }
    }
}
impl Default for Retention {
    fn default() -> Self {
        Self {
            heartbeats_days: 365,
            alert_events_days: 1825,
            device_events_days: 1825,
            dead_letters_days: 90,
            ledger_days: 365,
            rollup_15m_days: 1825,
            rollup_daily_days: 3650,
        }
    }
}
impl Default for Commands {
    fn default() -> Self {
        Self {
            timeout_seconds: 60,
            ota_update_seconds: 3600,
            sd_flush_seconds: 900,
            other_seconds: 120,
            check_interval_seconds: 5,
        }
    }
}
impl Default for HealthMonitor {
    fn default() -> Self {
        Self {
            check_interval_seconds: 30,
            degraded_threshold_multiplier: 3,
            offline_threshold_multiplier: 5,
            reconnect_grace_seconds: 300,
            min_free_heap: 20_000,
            max_modbus_error_share: 0.2,
            boots_per_hour: 5,
            min_sd_free_mb: 100,
            clock_ahead_seconds: 60,
        }
    }
}
impl Default for Alerts {
    fn default() -> Self {
        Self { remind_after_minutes: 60, escalate_after_minutes: 240, check_interval_seconds: 30 }
    }
}
impl Default for Sql {
    fn default() -> Self {
        Self {
            timeout_ms: 30_000,
            memory_mb: 256,
            spill_mb: 4096,
            max_rows: 100_000,
            max_cells: 10_000_000,
            concurrent: 4,
            exports: 4,
            export_stall_seconds: 60,
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
            ("process.roles", flags.role.clone()),
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
        mask(&mut shown.mqtt.password);
        let urls = [
            &mut shown.notifications.smtp_url,
            &mut shown.lake.url,
            &mut shown.log.url,
            &mut shown.control.url,
            &mut shown.firmware.url,
        ];
        for url in urls {
            *url = url.as_deref().map(masked_url);
        }
        shown
    }
}

#[cfg(test)]
mod tests;
