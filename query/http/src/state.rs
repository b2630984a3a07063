//! The services behind the handlers. A handler takes those that it uses, each by its own type.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use acuvim_control::Control;
use acuvim_lakehouse::{Engine, Lake};
use acuvim_log::Log;
use acuvim_query_live::{Live, LiveLimits, LiveParts, signalr::Inboxes};
use acuvim_query_sql::{Sql, SqlLimits, SqlParts};
use acuvim_rules::Planner;
use acuvim_wire::telemetry::Limits;
use axum::extract::FromRef;

use crate::{
    auth::{Authenticator, Jwt, Passwords, Throttle},
    checks::HostCheck,
    commands::{CommandOptions, CommandRules},
    firmware::{Firmware, FirmwareOptions, SqlGate},
    import::Imports,
    jobs::{
        backtest::{BacktestError, BacktestParts, Backtests},
        rollouts::{CommandSettings, RolloutRunner},
    },
    middleware::{HttpLimits, Middleware},
    problem::ApiError,
    status::System,
};

/// The stores that the API serves, and its settings.
pub struct ApiOptions {
    /// Users, keys, devices.
    pub control: Control,
    /// Readings and dead letters.
    pub lake: Arc<Lake>,
    /// Imports and replayed dead letters are appended to it; live events are read from it.
    pub log: Arc<dyn Log>,
    /// Where queries run; its memory limit is for all of them together.
    pub engine: Engine,
    /// Limits that readings are checked against.
    pub limits: Limits,
    /// Makes and checks access tokens.
    pub jwt: Jwt,
    /// The file with the first admin's password, if there is one.
    pub initial_password: PathBuf,
    /// Limits of queries.
    pub sql: SqlLimits,
    /// How commands are given.
    pub commands: CommandOptions,
    /// Limits of requests and connections.
    pub http: HttpLimits,
    /// How firmware is taken and given.
    pub firmware: FirmwareOptions,
    /// How live clients are treated.
    pub live: LiveLimits,
    /// Which hosts webhooks may not reach.
    pub webhook_hosts: HostCheck,
    /// How the other stages are doing.
    pub system: System,
}

/// The API, ready to be served.
pub struct Api {
    pub(crate) state: ApiState,
    pub(crate) middleware: Middleware,
    /// Bytes of the slot that an image of firmware must fit into.
    pub(crate) firmware_slot: u64,
    rollouts: RolloutSettings,
}

/// Settings of the runner of rollouts.
struct RolloutSettings {
    commands: CommandSettings,
    interval: std::time::Duration,
    holder: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("sql", self.state.sql.limits()).finish_non_exhaustive()
    }
}

/// All services. Only the routers hold this; its fields are private so that no handler can take more than
/// it names.
#[derive(Clone)]
pub(crate) struct ApiState {
    control: Control,
    lake: Arc<Lake>,
    log: Arc<dyn Log>,
    sql: Sql,
    live: Live,
    inboxes: Inboxes,
    authenticator: Authenticator,
    logins: Logins,
    commands: Arc<CommandRules>,
    firmware: Firmware,
    planner: Arc<Planner>,
    backtests: Backtests,
    webhook_hosts: HostCheck,
    reading_limits: Limits,
    imports: Imports,
    system: System,
}

/// Logging in and out, and passwords.
#[derive(Debug, Clone)]
pub(crate) struct Logins {
    pub jwt: Arc<Jwt>,
    pub throttle: Arc<Throttle>,
    pub passwords: Arc<Passwords>,
    /// The file with the first admin's password, if there is one.
    pub initial_password: Arc<Path>,
}

/// Lets handlers take a service by its type.
macro_rules! services {
    ($($service:ty: $field:ident,)*) => {
        $(impl FromRef<ApiState> for $service {
            fn from_ref(state: &ApiState) -> Self {
                state.$field.clone()
            }
        })*
    };
}

services! {
    Control: control,
    Arc<Lake>: lake,
    Arc<dyn Log>: log,
    Sql: sql,
    Live: live,
    Inboxes: inboxes,
    Authenticator: authenticator,
    Logins: logins,
    Arc<CommandRules>: commands,
    Firmware: firmware,
    Arc<Planner>: planner,
    Backtests: backtests,
    HostCheck: webhook_hosts,
    Limits: reading_limits,
    Imports: imports,
    System: system,
}

impl Api {
    /// Starts the threads and services of the API.
    ///
    /// # Errors
    /// When threads can't be started, or the engine has no functions for rules.
    pub fn new(options: ApiOptions) -> std::io::Result<Arc<Self>> {
        let sql = sql(&options)?;
        let middleware = Middleware::new(options.http.clone());
        let backtests = backtests(&options, &sql);
        let ApiOptions { control, lake, log, jwt, live, firmware, commands, system, .. } = options;
        let jwt = Arc::new(jwt);
        let live = LiveParts {
            control: control.clone(),
            lake: Arc::clone(&lake),
            log: Arc::clone(&log),
            limits: live,
        };
        let rollouts = RolloutSettings {
            commands: CommandSettings {
                topic_prefix: commands.topic_prefix.clone(),
                first_timeout_s: i64::from(commands.timeout_s),
                ack_timeout_s: i64::from(commands.ota_update_s),
            },
            interval: firmware.rollout_interval,
            holder: firmware.holder.clone(),
        };
        let only_signed_firmware = firmware.require_signature;
        let firmware_slot = firmware.slot;
        let state = ApiState {
            authenticator: Authenticator {
                control: control.clone(),
                jwt: Arc::clone(&jwt),
                rates: Arc::clone(&middleware.rates),
            },
            logins: Logins {
                jwt,
                throttle: Arc::new(Throttle::default()),
                passwords: Arc::new(Passwords::new()?),
                initial_password: options.initial_password.into(),
            },
            live: Live::new(live),
            inboxes: Inboxes::default(),
            commands: Arc::new(CommandRules { options: commands, only_signed_firmware }),
            firmware: Firmware::new(control.clone(), sql.clone(), firmware),
            planner: Arc::new(Planner::new().map_err(std::io::Error::other)?),
            backtests,
            webhook_hosts: options.webhook_hosts,
            reading_limits: options.limits,
            imports: Imports::new(Arc::clone(&log), sql.clone(), options.limits),
            system,
            control,
            lake,
            log,
            sql,
        };
        Ok(Arc::new(Self { state, middleware, firmware_slot, rollouts }))
    }

    /// Live connections.
    pub(crate) fn live(&self) -> Live {
        self.state.live.clone()
    }

    /// The runner of rollouts.
    pub(crate) fn rollout_runner(&self) -> RolloutRunner<SqlGate> {
        let ApiState { control, sql, firmware, .. } = &self.state;
        let RolloutSettings { commands, interval, holder } = &self.rollouts;
        RolloutRunner {
            control: control.clone(),
            gate: SqlGate(sql.clone()),
            images: firmware.images().store().clone(),
            urls: firmware.urls(),
            commands: commands.clone(),
            interval: *interval,
            holder: holder.clone(),
        }
    }
}

fn sql(options: &ApiOptions) -> std::io::Result<Sql> {
    Sql::new(SqlParts {
        control: options.control.clone(),
        lake: Arc::clone(&options.lake),
        engine: options.engine.clone(),
        limits: options.sql.clone(),
        tail: options.system.tail_check(),
    })
}

fn backtests(options: &ApiOptions, sql: &Sql) -> Backtests {
    Backtests::new(BacktestParts {
        control: options.control.clone(),
        lake: Arc::clone(&options.lake),
        engine: options.engine.clone(),
        threads: sql.threads(),
        tail_fault: options.system.tail_check().0,
        max_ahead: options.limits.max_ahead,
        describe,
    })
}

/// The text of a backtest's failure that its caller is shown.
fn describe(error: BacktestError) -> String {
    let error: ApiError = match error {
        BacktestError::Refused(text) => return text,
        BacktestError::Control(error) => error.into(),
        BacktestError::Lake(error) => error.into(),
        BacktestError::Engine(error) => acuvim_query_sql::engine::from_engine(&error).into(),
        error @ BacktestError::NoTelemetry => ApiError::internal(&error),
    };
    error.problem.detail
}
