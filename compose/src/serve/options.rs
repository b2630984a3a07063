//! What the settings say to the stages: the stream's options, and the API with its limits.

use std::{sync::Arc, time::Duration};

use acuvim_control::{Control, Resend};
use acuvim_lakehouse::{CompactionPolicy, Lake};
use acuvim_processor::{FlushPolicy, ProcessorOptions};
use acuvim_query::{App, AppOptions, CommandOptions, GuardLimits, Jwt, SqlLimits, System};
use acuvim_schemas::{telemetry::Limits, time};
use chrono::TimeDelta;

use crate::{
    admin,
    settings::{Proof, Settings, listed},
};

/// How the stream is processed.
pub fn processor_options(settings: &Settings, shared: bool) -> ProcessorOptions {
    let lake = &settings.lake;
    if settings.proof != Proof::default() {
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
        shared,
        keep_history: Duration::from_secs(settings.control.keep_history_days * 86_400),
        command_check: Duration::from_secs(settings.commands.check_interval_seconds),
        resend: Resend {
            topic_prefix: settings.mqtt.topic_prefix.clone(),
            first_timeout_s: settings.commands.timeout_seconds.into(),
            ack_timeout_s: settings.commands.other_seconds.into(),
        },
        ..ProcessorOptions::default()
    }
}

/// The API, with its first user and the key that signs its tokens.
pub async fn app(
    settings: &Settings,
    control: &Control,
    lake: &Arc<Lake>,
    system: System,
) -> anyhow::Result<Arc<App>> {
    admin::first_admin(settings, control).await?;
    let secret = admin::jwt_secret(settings, control).await?;
    let jwt = Jwt::new(
        secret.as_bytes(),
        &settings.jwt.issuer,
        TimeDelta::hours(settings.jwt.expiry_hours),
        TimeDelta::days(settings.jwt.refresh_days),
    );
    let app = App::new(AppOptions {
        control: control.clone(),
        lake: Arc::clone(lake),
        engine: lake.engine().clone(),
        jwt,
        sql: SqlLimits {
            timeout: Duration::from_millis(settings.sql.timeout_ms),
            max_rows: settings.sql.max_rows,
            concurrent: settings.sql.concurrent,
            ..SqlLimits::default()
        },
        commands: CommandOptions {
            topic_prefix: settings.mqtt.topic_prefix.clone(),
            timeout_s: settings.commands.timeout_seconds,
            ota_update_s: settings.commands.ota_update_seconds,
            sd_flush_s: settings.commands.sd_flush_seconds,
            other_s: settings.commands.other_seconds,
        },
        guard: GuardLimits {
            per_address: settings.http.requests_per_address,
            per_user: settings.http.requests_per_user,
            request_time: Duration::from_secs(settings.http.request_timeout_seconds),
            proxies: settings.proxies()?,
            cors_origins: listed(&settings.http.cors_origins),
        },
        system,
    })?;
    Ok(app)
}
