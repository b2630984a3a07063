//! Turns settings into the options of the stages: the processor's, and the API's with its limits.

use std::{sync::Arc, time::Duration};

use acuvim_control::{Control, Reminders, Resend, SystemCondition};
use acuvim_firmware_registry::{ImageStore, TokenKey, TrustedImages};
use acuvim_lakehouse::{CompactionPolicy, Lake};
use acuvim_log::Log;
use acuvim_processor::{
    Conditions, FlushPolicy, HealthPolicy, ProcessorOptions, Retention, VitalLimits,
    refused_address,
};
use acuvim_query::{
    Api, ApiOptions, CommandOptions, ConnectionLimits, FirmwareOptions, HostCheck, HttpLimits, Jwt,
    SqlLimits, System,
};
use acuvim_wire::{payload::Severity, telemetry::Limits, time};
use chrono::TimeDelta;

use crate::{
    admin,
    settings::{Settings, listed},
};

/// The processor's options.
pub fn processor_options(settings: &Settings, shared: bool) -> anyhow::Result<ProcessorOptions> {
    let lake = &settings.lake;
    Ok(ProcessorOptions {
        flush: FlushPolicy {
            interval: Duration::from_millis(lake.flush_interval_ms),
            rows: lake.flush_rows,
        },
        compaction: CompactionPolicy {
            fan_in: lake.compaction_fan_in,
            file_bytes: lake.file_mb << 20,
            settle: Duration::from_secs(lake.settle_minutes * 60),
            ..CompactionPolicy::default()
        },
        compaction_interval: Duration::from_millis(lake.compaction_interval_ms),
        rollup_interval: Duration::from_secs(lake.rollup_interval_seconds),
        keep_files: Duration::from_secs(lake.keep_files_hours * 3600),
        retention: retention(settings),
        first_cleanup: Duration::from_secs(settings.telemetry.first_cleanup_seconds),
        cleanup_interval: Duration::from_secs(settings.telemetry.cleanup_interval_hours * 3600),
        max_tail_bytes: lake.max_tail_mb << 20,
        limits: limits(settings),
        shared,
        keep_history: Duration::from_secs(settings.control.keep_history_days * 86_400),
        command_check: Duration::from_secs(settings.commands.check_interval_seconds),
        resend: Resend {
            topic_prefix: settings.mqtt.topic_prefix.clone(),
            first_timeout_s: settings.commands.timeout_seconds.into(),
            ack_timeout_s: settings.commands.other_seconds.into(),
        },
        health: HealthPolicy {
            degraded_after: settings.health_monitor.degraded_threshold_multiplier,
            offline_after: settings.health_monitor.offline_threshold_multiplier,
            grace: settings.health_monitor.reconnect_grace_seconds * time::SECOND,
        },
        health_check: Duration::from_secs(settings.health_monitor.check_interval_seconds),
        vitals: VitalLimits {
            min_free_heap: settings.health_monitor.min_free_heap,
            max_modbus_errors: settings.health_monitor.max_modbus_error_share,
            boots_per_hour: settings.health_monitor.boots_per_hour,
            min_sd_free_mb: settings.health_monitor.min_sd_free_mb,
            clock_ahead_for: settings.health_monitor.clock_ahead_seconds * time::SECOND,
        },
        reminders: Reminders {
            every: TimeDelta::minutes(settings.alerts.remind_after_minutes),
            escalate_after: TimeDelta::minutes(settings.alerts.escalate_after_minutes),
        },
        watchdog_interval: Duration::from_secs(settings.alerts.check_interval_seconds),
        log_retention: Duration::from_secs(settings.log.retention_hours * 3600),
        conditions: disk(settings),
        notify: Arc::new(settings.notifications.options()?),
        ..ProcessorOptions::default()
    })
}

/// The limits of times in readings.
fn limits(settings: &Settings) -> Limits {
    let telemetry = &settings.telemetry;
    Limits {
        max_age: telemetry.retention_days * time::DAY,
        max_future: telemetry.max_future_hours * 3600 * time::SECOND,
        max_ahead: telemetry.max_ahead_seconds * time::SECOND,
        ..Limits::default()
    }
}

fn retention(settings: &Settings) -> Retention {
    let keep = &settings.retention;
    let telemetry = i32::try_from(settings.telemetry.retention_days).unwrap_or(i32::MAX);
    // Rollups are made from readings, so they outlive them.
    let rollup_15m = keep.rollup_15m_days.max(telemetry);
    Retention {
        telemetry,
        heartbeats: keep.heartbeats_days,
        alert_events: keep.alert_events_days,
        device_events: keep.device_events_days,
        dead_letters: keep.dead_letters_days,
        ledger: keep.ledger_days,
        rollup_15m,
        rollup_daily: keep.rollup_daily_days.max(rollup_15m),
    }
}

/// Reports a nearly full disk of the data directory, before the log stops taking records.
fn disk(settings: &Settings) -> Conditions {
    let dir = settings.data.dir.clone();
    let wanted = settings.log.min_free_mb * 2;
    Conditions(Arc::new(move || {
        let Ok(stat) = rustix::fs::statvfs(&dir) else { return Vec::new() };
        let free_mb = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
        if free_mb >= wanted {
            return Vec::new();
        }
        vec![SystemCondition {
            alert_type: "disk_nearly_full",
            subject: "data".to_owned(),
            severity: Severity::Critical,
            message: format!(
                "{free_mb} MB are free in the data directory: at {} MB no more messages are taken. \
                 Make room, or lower telemetry.retention_days and log.retention_mb",
                wanted / 2
            ),
            metadata: serde_json::json!({ "free_mb": free_mb }),
        }]
    }))
}

/// The firmware options; devices fetch images at a URL that begins with the API's address.
fn firmware(
    settings: &Settings,
    secret: &str,
    at: &str,
    holder: &str,
) -> anyhow::Result<FirmwareOptions> {
    let set = &settings.firmware;
    let store = ImageStore::open(&settings.firmware_url()?)?;
    let images = TrustedImages::new(store, set.cache_mb << 20, IMAGE_CHECK_INTERVAL);
    Ok(FirmwareOptions {
        images,
        token_key: TokenKey::of(secret.as_bytes()),
        base_url: set.base_url.clone().unwrap_or_else(|| format!("http://{at}")),
        slot: set.slot_bytes,
        chips: set.chips()?,
        public_keys: set.keys()?,
        require_signature: set.require_signature,
        allow_bare_device_id: set.allow_bare_device_id,
        most_failures: set.max_failures,
        token_time: Duration::from_secs(set.url_hours * 3600),
        rollout_interval: Duration::from_secs(set.rollout_interval_seconds),
        holder: holder.to_owned(),
    })
}

/// Refuses webhooks to private hosts that are not allowed.
fn webhook_hosts(settings: &Settings) -> anyhow::Result<HostCheck> {
    let networks = settings.notifications.networks()?;
    Ok(HostCheck(Arc::new(move |host| refused_address(host, &networks))))
}

/// How long an image is served from memory before it is compared with the stored object again.
const IMAGE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Who serves the API, and where devices reach it.
pub struct ApiAddress<'a> {
    /// The process's id.
    pub holder: &'a str,
    /// `host:port`.
    pub at: &'a str,
}

fn sql_limits(settings: &Settings) -> SqlLimits {
    let sql = &settings.sql;
    SqlLimits {
        timeout: Duration::from_millis(sql.timeout_ms),
        max_rows: sql.max_rows,
        max_cells: sql.max_cells,
        concurrent: sql.concurrent,
        exports: sql.exports,
        export_stall: Duration::from_secs(sql.export_stall_seconds),
        ..SqlLimits::default()
    }
}

fn command_options(settings: &Settings) -> CommandOptions {
    CommandOptions {
        topic_prefix: settings.mqtt.topic_prefix.clone(),
        timeout_s: settings.commands.timeout_seconds,
        ota_update_s: settings.commands.ota_update_seconds,
        sd_flush_s: settings.commands.sd_flush_seconds,
        other_s: settings.commands.other_seconds,
    }
}

fn http_limits(settings: &Settings) -> anyhow::Result<HttpLimits> {
    let http = &settings.http;
    Ok(HttpLimits {
        per_address: http.requests_per_address,
        per_user: http.requests_per_user,
        request_time: Duration::from_secs(http.request_timeout_seconds),
        connections: ConnectionLimits {
            all: http.max_connections + settings.live.max_connections,
            of_one_address: http.max_connections_per_address,
            first_request: Duration::from_secs(http.first_request_seconds),
            idle: Duration::from_secs(http.idle_seconds),
        },
        proxies: http.proxies()?,
        cors_origins: listed(&http.cors_origins),
    })
}

/// Builds the API. Creates the first user and the key for tokens if they don't exist yet.
pub async fn app(
    settings: &Settings,
    control: &Control,
    lake: &Arc<Lake>,
    log: Arc<dyn Log>,
    system: System,
    place: &ApiAddress<'_>,
) -> anyhow::Result<Arc<Api>> {
    admin::first_admin(settings, control).await?;
    let secret = admin::jwt_secret(settings, control).await?;
    let jwt = Jwt::new(
        secret.as_bytes(),
        &settings.jwt.issuer,
        TimeDelta::hours(settings.jwt.expiry_hours),
        TimeDelta::days(settings.jwt.refresh_days),
    );
    let app = Api::new(ApiOptions {
        control: control.clone(),
        lake: Arc::clone(lake),
        log,
        engine: lake.engine().clone(),
        limits: limits(settings),
        jwt,
        initial_password: settings.data.dir.join(admin::PASSWORD_FILE),
        sql: sql_limits(settings),
        commands: command_options(settings),
        http: http_limits(settings)?,
        firmware: firmware(settings, &secret, place.at, place.holder)?,
        webhook_hosts: webhook_hosts(settings)?,
        live: settings.live.limits(&settings.http.cors_origins),
        system,
    })?;
    Ok(app)
}

#[cfg(test)]
mod tests;
