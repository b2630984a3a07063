//! What settings may be: each fault is one line that names the setting and what is allowed.

use std::{collections::BTreeSet, net::SocketAddr};

use acuvim_query::TrustedProxies;
use anyhow::{bail, ensure};

use super::{Role, Settings, places::masked_url};

impl Settings {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.lake_url()?;
        self.check_scale_out()?;
        self.check_firmware()?;
        self.live.check()?;
        self.notifications.check()?;
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
        for origin in listed(&self.http.cors_origins) {
            let whole = origin.starts_with("http://") || origin.starts_with("https://");
            ensure!(
                whole && !origin.ends_with('/'),
                "http.cors_origins has `{origin}`: allowed is https://host, without a path"
            );
        }
        self.proxies()?;
        let http = &self.http;
        within("http.request_timeout_seconds", http.request_timeout_seconds, 1, 3600)?;
        within("http.max_connections", http.max_connections, 10, 100_000)?;
        within("http.max_connections_per_address", http.max_connections_per_address, 0, 100_000)?;
        within("http.first_request_seconds", http.first_request_seconds, 1, 300)?;
        within("http.idle_seconds", http.idle_seconds, 1, 3600)?;
        let commands = &self.commands;
        within("commands.timeout_seconds", commands.timeout_seconds, 1, 3600)?;
        within("commands.ota_update_seconds", commands.ota_update_seconds, 1, 86_400)?;
        within("commands.sd_flush_seconds", commands.sd_flush_seconds, 1, 86_400)?;
        within("commands.other_seconds", commands.other_seconds, 1, 86_400)?;
        within("commands.check_interval_seconds", commands.check_interval_seconds, 1, 30)?;
        let health = &self.health_monitor;
        within("health_monitor.check_interval_seconds", health.check_interval_seconds, 1, 3600)?;
        let (degraded, offline) =
            (health.degraded_threshold_multiplier, health.offline_threshold_multiplier);
        within("health_monitor.degraded_threshold_multiplier", degraded, 1, 1000)?;
        within("health_monitor.offline_threshold_multiplier", offline, degraded, 1000)?;
        within(
            "health_monitor.reconnect_grace_seconds",
            health.reconnect_grace_seconds,
            0,
            86_400,
        )?;
        within("health_monitor.min_free_heap", health.min_free_heap, 0, 1 << 30)?;
        within("health_monitor.boots_per_hour", health.boots_per_hour, 2, 32)?;
        within("health_monitor.min_sd_free_mb", health.min_sd_free_mb, 0, 1 << 30)?;
        within("health_monitor.clock_ahead_seconds", health.clock_ahead_seconds, 0, 86_400)?;
        ensure!(
            (0.0..=1.0).contains(&health.max_modbus_error_share),
            "health_monitor.max_modbus_error_share is `{}`: allowed are 0 to 1",
            health.max_modbus_error_share
        );
        let alerts = &self.alerts;
        within("alerts.remind_after_minutes", alerts.remind_after_minutes, 1, 100_000)?;
        within("alerts.escalate_after_minutes", alerts.escalate_after_minutes, 1, 100_000)?;
        within("alerts.check_interval_seconds", alerts.check_interval_seconds, 1, 40)?;
        within("mqtt.messages_per_client", self.mqtt.messages_per_client, 0, 1_000_000)?;
        within("mqtt.device_mb_per_day", self.mqtt.device_mb_per_day, 0, 1 << 20)?;
        within("mqtt.device_alerts_per_day", self.mqtt.device_alerts_per_day, 0, 1_000_000)?;
        within("mqtt.max_payload_kb", self.mqtt.max_payload_kb, 1, 2048)?;
        within("mqtt.max_connections", self.mqtt.max_connections, 1, 100_000)?;
        within("mqtt.max_silent_connections", self.mqtt.max_silent_connections, 2, 100_000)?;
        within("mqtt.unfinished_mb", self.mqtt.unfinished_mb, 8, 65_536)?;
        within("mqtt.patience_seconds", self.mqtt.patience_seconds, 1, 120)?;
        within("log.partitions", self.log.partitions, 1, 64)?;
        within("log.retention_hours", self.log.retention_hours, 1, 24 * 365)?;
        let prefix = &self.log.topic_prefix;
        ensure!(
            // Kafka's own rule for names, with room for what we add.
            !prefix.is_empty()
                && prefix.len() <= 100
                && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
            "log.topic_prefix is `{prefix}`: allowed are 1 to 100 letters, digits, dots, underscores \
             and hyphens"
        );
        let session = self.log.session_timeout_seconds;
        within("log.session_timeout_seconds", session, 1, 300)?;
        within("log.retention_mb", self.log.retention_mb, 64, 1 << 20)?;
        within("control.keep_history_days", self.control.keep_history_days, 7, 36_500)?;
        within("lake.flush_interval_ms", self.lake.flush_interval_ms, 50, 3_600_000)?;
        within("lake.flush_rows", self.lake.flush_rows, 1, 10_000_000)?;
        within("lake.compaction_interval_ms", self.lake.compaction_interval_ms, 50, 3_600_000)?;
        within("lake.rollup_interval_seconds", self.lake.rollup_interval_seconds, 1, 86_400)?;
        within("lake.compaction_fan_in", self.lake.compaction_fan_in, 2, 100)?;
        within("lake.file_mb", self.lake.file_mb, 8, 256)?;
        within("lake.settle_minutes", self.lake.settle_minutes, 0, 24 * 60)?;
        within("lake.keep_files_hours", self.lake.keep_files_hours, 2, 24 * 365)?;
        within("lake.max_tail_mb", self.lake.max_tail_mb, 16, 1 << 20)?;
        within("jwt.expiry_hours", self.jwt.expiry_hours, 1, 24 * 30)?;
        within("jwt.refresh_days", self.jwt.refresh_days, 1, 365)?;
        within("telemetry.retention_days", self.telemetry.retention_days, 1, 36_500)?;
        within(
            "telemetry.cleanup_interval_hours",
            self.telemetry.cleanup_interval_hours,
            1,
            24 * 30,
        )?;
        within("telemetry.first_cleanup_seconds", self.telemetry.first_cleanup_seconds, 1, 86_400)?;
        let keep = &self.retention;
        within("retention.heartbeats_days", keep.heartbeats_days, 1, 36_500)?;
        within("retention.alert_events_days", keep.alert_events_days, 1, 36_500)?;
        within("retention.device_events_days", keep.device_events_days, 1, 36_500)?;
        within("retention.dead_letters_days", keep.dead_letters_days, 1, 36_500)?;
        within("retention.ledger_days", keep.ledger_days, 1, 36_500)?;
        within("retention.rollup_15m_days", keep.rollup_15m_days, 1, 36_500)?;
        within("retention.rollup_daily_days", keep.rollup_daily_days, 1, 36_500)?;
        within("telemetry.max_future_hours", self.telemetry.max_future_hours, 0, 24 * 30)?;
        within("telemetry.max_ahead_seconds", self.telemetry.max_ahead_seconds, 0, 3600)?;
        within("sql.timeout_ms", self.sql.timeout_ms, 10, 3_600_000)?;
        within("sql.memory_mb", self.sql.memory_mb, 16, 1 << 20)?;
        within("sql.max_rows", self.sql.max_rows, 1, 10_000_000)?;
        within("sql.max_cells", self.sql.max_cells, 1, 1_000_000_000)?;
        within("sql.concurrent", self.sql.concurrent, 1, 1000)?;
        within("sql.exports", self.sql.exports, 1, 1000)?;
        // A connection that takes nothing for two minutes is closed anyhow.
        within("sql.export_stall_seconds", self.sql.export_stall_seconds, 1, 110)?;
        if let Some(secret) = &self.jwt.secret {
            check_secret(secret)?;
        }
        if let Some(password) = &self.admin.password {
            let length = password.chars().count();
            ensure!(length >= 12, "admin.password is too short: allowed are 12 characters or more");
            ensure!(
                !acuvim_query::is_common_password(password),
                "admin.password is one that many people have: choose another"
            );
        }
        Ok(())
    }

    fn check_firmware(&self) -> anyhow::Result<()> {
        let firmware = &self.firmware;
        self.firmware_url()?;
        firmware.check()?;
        if !firmware.device_listen.is_empty() {
            address("firmware.device_listen", &firmware.device_listen)?;
        }
        within("firmware.slot_bytes", firmware.slot_bytes, 65_536, 16 << 20)?;
        within("firmware.max_failures", firmware.max_failures, 1, 1000)?;
        within("firmware.url_hours", firmware.url_hours, 1, 24 * 30)?;
        within("firmware.rollout_interval_seconds", firmware.rollout_interval_seconds, 1, 60)?;
        within("firmware.cache_mb", firmware.cache_mb, 1, 16_384)
    }

    /// Whose word on where a request comes from is taken.
    pub fn proxies(&self) -> anyhow::Result<TrustedProxies> {
        TrustedProxies::parse(&listed(&self.http.trusted_proxies)).map_err(|bad| {
            anyhow::anyhow!(
                "http.trusted_proxies has `{bad}`: allowed are addresses and networks, as 10.0.0.0/8"
            )
        })
    }

    /// What the parts of a larger system are, and that they fit together.
    fn check_scale_out(&self) -> anyhow::Result<()> {
        let roles = self.roles()?;
        self.broker()?;
        self.kafka()?;
        if let Some(url) = &self.control.url {
            ensure!(
                ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)),
                "control.url is `{}`: allowed is postgres://user:password@host/database",
                masked_url(url)
            );
        }
        within("mqtt.receive_maximum", self.mqtt.receive_maximum, 1, 10_000)?;
        within("mqtt.session_expiry_hours", self.mqtt.session_expiry_hours, 1, 24 * 365)?;
        ensure!(
            (1..=128).contains(&self.mqtt.client_id.len()),
            "mqtt.client_id is `{}`: allowed are 1 to 128 characters",
            self.mqtt.client_id
        );
        if let Some(group) = &self.mqtt.share_group {
            let plain = !group.is_empty() && !group.contains(['/', '+', '#']);
            ensure!(plain, "mqtt.share_group is `{group}`: allowed is a name without / + #");
        }
        if roles.len() < Role::ALL.len() {
            let missing = match (&self.log.url, &self.control.url) {
                (Some(_), Some(_)) => return Ok(()),
                (None, _) => "log.url = kafka://..., since the embedded log is for one process",
                (_, None) => "control.url = postgres://..., since SQLite is for one process",
            };
            bail!(
                "process.roles is `{}`: roles apart from each other need {missing}",
                self.process.roles
            );
        }
        Ok(())
    }
}

/// So many different characters a key that signs tokens has at least.
const DIFFERENT: usize = 8;

/// Words of placeholders in examples, without what stands between them.
const PLACEHOLDERS: [&str; 14] = [
    "change",
    "placeholder",
    "example",
    "secretkey",
    "signingkey",
    "jwtsecret",
    "yoursecret",
    "yoursuper",
    "supersecret",
    "mysecret",
    "replace",
    "insert",
    "default",
    "password",
];

/// Refuses a key that anybody can guess: whoever has it makes tokens of any user.
fn check_secret(secret: &str) -> anyhow::Result<()> {
    let allowed = "allowed are 32 bytes or more that nobody can guess, as `openssl rand -hex 32` \
                   makes, or none: then one is made and kept in control";
    ensure!(secret.len() >= 32, "jwt.secret is too short: {allowed}");
    let plain = secret.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "");
    let placeholder = PLACEHOLDERS.iter().any(|word| plain.contains(word));
    ensure!(!placeholder, "jwt.secret is a placeholder: {allowed}");
    let different: BTreeSet<char> = secret.chars().collect();
    ensure!(
        different.len() >= DIFFERENT,
        "jwt.secret repeats a few characters again and again: {allowed}"
    );
    Ok(())
}

/// The parts of a list with commas.
pub fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

fn address(name: &str, value: &str) -> anyhow::Result<SocketAddr> {
    value.parse().map_err(|_| {
        anyhow::anyhow!("{name} is `{value}`: allowed is ADDRESS:PORT, as 127.0.0.1:5000")
    })
}

pub(super) fn within<T: PartialOrd + Copy + std::fmt::Display>(
    name: &str,
    value: T,
    least: T,
    most: T,
) -> anyhow::Result<()> {
    ensure!(value >= least && value <= most, "{name} is {value}: allowed are {least} to {most}");
    Ok(())
}
