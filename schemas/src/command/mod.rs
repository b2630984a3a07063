//! Commands to devices: the 20 that there are, what each takes, and the packet that carries one.

mod params;
mod source;
mod wire;

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use params::{Param, Shape, check_params};
pub use source::firmware_source;
pub use wire::{Command, Delivery, Outcome, packet_bytes};

/// What a device can be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandKind {
    /// Say that it is there.
    Ping,
    /// Start anew.
    Reboot,
    /// Tell its state.
    GetStatus,
    /// Tell its configuration.
    GetConfig,
    /// Take a section of its configuration.
    SetConfig,
    /// Forget everything it was told.
    FactoryReset,
    /// Look for Wi-Fi networks.
    WifiScan,
    /// Use a Wi-Fi network.
    WifiSet,
    /// Tell about modem and SIM.
    GsmInfo,
    /// Choose between Wi-Fi and GSM.
    TransportSet,
    /// Fetch and run a firmware.
    OtaUpdate,
    /// Go back to the firmware before.
    OtaRollback,
    /// Read registers of the meter.
    ModbusRead,
    /// Write registers of the meter.
    ModbusWrite,
    /// Tell about the meter.
    MeterInfo,
    /// Send a reading at once.
    TelemetryNow,
    /// Change how often it sends.
    SetInterval,
    /// Tell about the SD card.
    SdStatus,
    /// Send what is on the SD card.
    SdFlush,
    /// Tell the last lines of its log.
    LogTail,
}

impl CommandKind {
    /// Every command, in the order of the protocol document.
    pub const ALL: [Self; 20] = [
        Self::Ping,
        Self::Reboot,
        Self::GetStatus,
        Self::GetConfig,
        Self::SetConfig,
        Self::FactoryReset,
        Self::WifiScan,
        Self::WifiSet,
        Self::GsmInfo,
        Self::TransportSet,
        Self::OtaUpdate,
        Self::OtaRollback,
        Self::ModbusRead,
        Self::ModbusWrite,
        Self::MeterInfo,
        Self::TelemetryNow,
        Self::SetInterval,
        Self::SdStatus,
        Self::SdFlush,
        Self::LogTail,
    ];

    /// The name on the wire and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Reboot => "reboot",
            Self::GetStatus => "get_status",
            Self::GetConfig => "get_config",
            Self::SetConfig => "set_config",
            Self::FactoryReset => "factory_reset",
            Self::WifiScan => "wifi_scan",
            Self::WifiSet => "wifi_set",
            Self::GsmInfo => "gsm_info",
            Self::TransportSet => "transport_set",
            Self::OtaUpdate => "ota_update",
            Self::OtaRollback => "ota_rollback",
            Self::ModbusRead => "modbus_read",
            Self::ModbusWrite => "modbus_write",
            Self::MeterInfo => "meter_info",
            Self::TelemetryNow => "telemetry_now",
            Self::SetInterval => "set_interval",
            Self::SdStatus => "sd_status",
            Self::SdFlush => "sd_flush",
            Self::LogTail => "log_tail",
        }
    }

    /// The command of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == name)
    }

    /// Whether it takes an Admin: it can cut a device off or change what the meter does.
    #[must_use]
    pub const fn is_for_admins(self) -> bool {
        matches!(self, Self::FactoryReset | Self::ModbusWrite | Self::OtaRollback)
    }

    /// Whether it may not wait for a device that is away: done late it would surprise.
    #[must_use]
    pub const fn is_only_now(self) -> bool {
        matches!(self, Self::Reboot | Self::ModbusWrite | Self::FactoryReset)
    }
}

impl fmt::Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a command has come. Each has one terminal state, and keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CommandStatus {
    /// Stored, and not yet with the device.
    Pending,
    /// The broker or the device has acknowledged its packet.
    Sent,
    /// The device has taken it and is at work.
    Ack,
    /// Done.
    Success,
    /// The device could not do it, or it could not be given to the device.
    Error,
    /// No answer came in time. One that comes later is kept beside it.
    Timeout,
}

impl CommandStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Sent, Self::Ack, Self::Success, Self::Error, Self::Timeout];

    /// The name in tables and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Ack => "ack",
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Whether nothing changes it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Error | Self::Timeout)
    }
}
