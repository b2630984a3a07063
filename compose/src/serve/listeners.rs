//! The sockets of a process. They are opened before anything else, so that an address in use is
//! reported at once.

use std::{collections::BTreeSet, net::SocketAddr};

use tokio::net::TcpListener;

use crate::settings::{Role, Settings};

/// Where a running server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub http: SocketAddr,
    /// Plain HTTP for devices that fetch firmware, if it is enabled.
    pub devices: Option<SocketAddr>,
    /// The built-in broker, if this process runs it.
    pub mqtt: Option<SocketAddr>,
    pub websocket: Option<SocketAddr>,
}

pub struct Listeners {
    pub http: TcpListener,
    /// Plain HTTP for devices that fetch firmware.
    pub devices: Option<TcpListener>,
    /// The built-in broker's.
    pub mqtt: Option<MqttListeners>,
}

pub struct MqttListeners {
    pub tcp: TcpListener,
    pub websocket: Option<TcpListener>,
}

impl Listeners {
    pub async fn bind(settings: &Settings, roles: &BTreeSet<Role>) -> anyhow::Result<Self> {
        let http = bind(&settings.http.listen, "http.listen", "--http-listen").await?;
        let devices = match settings.firmware.device_listen.as_str() {
            at if !at.is_empty() && roles.contains(&Role::Query) => {
                Some(bind(at, "firmware.device_listen", "--set firmware.device_listen=...").await?)
            }
            _ => None,
        };
        if !roles.contains(&Role::Ingest) || settings.mqtt.url.is_some() {
            return Ok(Self { http, devices, mqtt: None });
        }
        let tcp = bind(&settings.mqtt.listen, "mqtt.listen", "--mqtt-listen").await?;
        let websocket = match settings.mqtt.websocket_listen.as_str() {
            "" => None,
            at => Some(bind(at, "mqtt.websocket_listen", "--mqtt-websocket-listen").await?),
        };
        Ok(Self { http, devices, mqtt: Some(MqttListeners { tcp, websocket }) })
    }

    pub fn addresses(&self) -> std::io::Result<Addresses> {
        let at = |listener: &TcpListener| listener.local_addr();
        let mqtt = self.mqtt.as_ref();
        Ok(Addresses {
            http: at(&self.http)?,
            devices: self.devices.as_ref().map(at).transpose()?,
            mqtt: mqtt.map(|mqtt| at(&mqtt.tcp)).transpose()?,
            websocket: mqtt.and_then(|m| m.websocket.as_ref()).map(at).transpose()?,
        })
    }
}

/// Listens on an address. The error names the setting and the flag that change it.
async fn bind(address: &str, setting: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            let variable = setting.to_uppercase().replace('.', "__");
            anyhow::anyhow!("{address} ({setting}) is in use; set ACUVIM__{variable} or {flag}")
        } else {
            anyhow::anyhow!("{address} ({setting}): {error}")
        }
    })
}
