//! Where the parts are, and what this process does of the whole.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};

use super::Settings;

/// What a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes messages in over MQTT.
    Ingest,
    /// Turns the log into tables.
    Processor,
    /// Serves the API.
    Query,
}

impl Role {
    /// All of them: one process that does everything.
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

/// Where Kafka is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaPlace {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// User and password.
    pub login: Option<(String, String)>,
}

impl Settings {
    /// What this process does.
    pub fn roles(&self) -> anyhow::Result<BTreeSet<Role>> {
        let names = self.process.roles.split(',').map(str::trim).filter(|name| !name.is_empty());
        let roles: Option<BTreeSet<Role>> = names.map(Role::parse).collect();
        roles.filter(|roles| !roles.is_empty()).with_context(|| {
            format!(
                "process.roles is `{}`: allowed are ingest, processor and query, separated by commas",
                self.process.roles
            )
        })
    }

    /// The broker to bridge to: host, port, and whether with TLS.
    pub fn broker(&self) -> anyhow::Result<Option<(String, u16, bool)>> {
        let Some(text) = &self.mqtt.url else { return Ok(None) };
        let url = url::Url::parse(text).ok().filter(|url| {
            ["mqtt", "mqtts"].contains(&url.scheme())
                && url.username().is_empty()
                && url.path().trim_matches('/').is_empty()
        });
        let parts = url.as_ref().and_then(|url| Some((url.host_str()?, url)));
        let (host, url) = parts.with_context(|| {
            format!(
                "mqtt.url is `{}`: allowed are mqtt://host:1883 and mqtts://host:8883, with the \
                 login in mqtt.username and mqtt.password",
                masked_url(text)
            )
        })?;
        let tls = url.scheme() == "mqtts";
        let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
        Ok(Some((host.trim_matches(['[', ']']).to_owned(), port, tls)))
    }

    /// Where Kafka is.
    pub fn kafka(&self) -> anyhow::Result<Option<KafkaPlace>> {
        let Some(text) = &self.log.url else { return Ok(None) };
        let allowed = || {
            format!(
                "log.url is `{}`: allowed is kafka://host:9092,host:9092, with user:password@ \
                 before it if need be",
                masked_url(text)
            )
        };
        let rest = text.strip_prefix("kafka://").with_context(allowed)?;
        let (login, brokers) = match rest.rsplit_once('@') {
            Some((login, brokers)) => {
                let (user, password) = login.split_once(':').with_context(allowed)?;
                (Some((user.to_owned(), password.to_owned())), brokers)
            }
            None => (None, rest),
        };
        let brokers = brokers.trim_end_matches('/');
        let whole = brokers.split(',').all(|broker| {
            let (host, port) = broker.rsplit_once(':').unwrap_or(("", ""));
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
        });
        ensure!(whole, "{}", allowed());
        Ok(Some(KafkaPlace { brokers: brokers.to_owned(), login }))
    }

    /// Where the lake is.
    pub fn lake_url(&self) -> anyhow::Result<url::Url> {
        self.place("lake", self.lake.url.as_deref())
    }

    /// Where firmware images are: beside a lake that has a URL, so that processes that share the one
    /// share the other.
    pub fn firmware_url(&self) -> anyhow::Result<url::Url> {
        if self.firmware.url.is_some() || self.lake.url.is_none() {
            return self.place("firmware", self.firmware.url.as_deref());
        }
        let mut url = self.lake_url()?;
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().push("_firmware");
        }
        Ok(url)
    }

    /// The place of a section with a `url`, or its folder in the data directory.
    fn place(&self, section: &str, url: Option<&str>) -> anyhow::Result<url::Url> {
        match url {
            Some(text) => url::Url::parse(text)
                .ok()
                .filter(|url| ["file", "s3", "s3a"].contains(&url.scheme()))
                .with_context(|| {
                    format!("{section}.url is `{text}`: allowed are file:// and s3:// URLs")
                }),
            None => {
                let dir = std::path::absolute(self.data.dir.join(section))?;
                url::Url::from_directory_path(&dir)
                    .map_err(|()| anyhow::anyhow!("{} is no path for data.dir", dir.display()))
            }
        }
    }
}

/// A URL without its password; of one that can't be read, all before the host.
pub(super) fn masked_url(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, host))) => {
            let user = rest.split([':', '@']).next().unwrap_or_default();
            format!("{scheme}://{user}:********@{host}")
        }
        (None, Some((_, host))) => format!("********@{host}"),
        (_, None) => text.to_owned(),
    }
}
