//! The settings: `default.toml`, overridden by a TOML file, environment variables and flags, in this
//! order. An unknown name or a value out of range stops the start with one line that says what is
//! allowed. `default.toml` describes each setting.

mod access;
mod default_toml;
mod devices;
mod firmware;
mod http;
mod lake;
mod live;
mod locations;
mod log;
mod mqtt;
mod notifications;
#[cfg(test)]
mod page;
mod process;
mod text;

use anyhow::{Context as _, bail};
use config::{Config, ConfigBuilder, Environment, File, FileFormat, builder::DefaultState};
use serde::{Deserialize, Serialize};

use crate::cli::ServeFlags;
use access::{Admin, Jwt};
use devices::{Alerts, Commands, HealthMonitor};
use firmware::Firmware;
use http::Http;
use lake::{Lake, Retention, Telemetry};
use live::Live;
use log::Log;
use mqtt::Mqtt;
use notifications::Notifications;
use process::{Control, Data, Logging, Process, Sql};
use text::masked_url;

pub use mqtt::MqttVersion;
pub use process::{LogFormat, Role};
pub use text::listed;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub process: Process,
    pub http: Http,
    pub mqtt: Mqtt,
    pub log: Log,
    pub control: Control,
    pub lake: Lake,
    pub jwt: Jwt,
    // The section has no defaults, so it is missing unless somebody sets the password.
    #[serde(default)]
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

impl Settings {
    /// The settings of `default.toml` alone.
    pub fn built_in() -> anyhow::Result<Self> {
        Ok(defaults().build()?.try_deserialize()?)
    }

    /// The settings in force.
    pub fn load(flags: &ServeFlags) -> anyhow::Result<Self> {
        Self::load_with(flags, Environment::with_prefix("ACUVIM"))
    }

    fn load_with(flags: &ServeFlags, environment: Environment) -> anyhow::Result<Self> {
        let mut builder = defaults();
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

    fn check(&self) -> anyhow::Result<()> {
        self.http.check()?;
        self.mqtt.check()?;
        self.log.check()?;
        self.control.check()?;
        self.lake.check()?;
        self.jwt.check()?;
        self.admin.check()?;
        self.telemetry.check()?;
        self.retention.check()?;
        self.commands.check()?;
        self.firmware.check()?;
        self.health_monitor.check()?;
        self.alerts.check()?;
        self.live.check()?;
        self.notifications.check()?;
        self.sql.check()?;
        self.lake_url()?;
        self.firmware_url()?;
        self.check_roles()
    }

    /// Roles in processes of their own need a log and a database that processes can share.
    fn check_roles(&self) -> anyhow::Result<()> {
        if self.process.roles()?.len() == Role::ALL.len() {
            return Ok(());
        }
        let missing = match (&self.log.url, &self.control.url) {
            (Some(_), Some(_)) => return Ok(()),
            (None, _) => "log.url = kafka://..., since the embedded log is for one process",
            (_, None) => "control.url = postgres://..., since SQLite is for one process",
        };
        bail!(
            "process.roles is `{}`: roles apart from each other need {missing}",
            self.process.roles
        )
    }

    /// The settings in the form of `default.toml`, with secrets masked.
    pub fn to_commented_toml(&self) -> anyhow::Result<String> {
        Ok(default_toml::with_values(&toml::Table::try_from(self.masked())?))
    }

    fn masked(&self) -> Self {
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

fn defaults() -> ConfigBuilder<DefaultState> {
    Config::builder().add_source(File::from_str(default_toml::TEXT, FileFormat::Toml))
}

#[cfg(test)]
mod tests;
