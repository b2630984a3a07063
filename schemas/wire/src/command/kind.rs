//! The 20 commands of the protocol.

use std::fmt;

/// A command of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandKind {
    /// Answer, to show that the device is there.
    Ping,
    /// Restart the device.
    Reboot,
    /// Report the state of the device.
    GetStatus,
    /// Report a section of the configuration, or all of it.
    GetConfig,
    /// Change a section of the configuration.
    SetConfig,
    /// Reset the configuration to factory settings.
    FactoryReset,
    /// Scan for Wi-Fi networks.
    WifiScan,
    /// Use a Wi-Fi network.
    WifiSet,
    /// Report on modem and SIM.
    GsmInfo,
    /// Choose between Wi-Fi and GSM.
    TransportSet,
    /// Download and install firmware.
    OtaUpdate,
    /// Go back to the previous firmware.
    OtaRollback,
    /// Read registers of the meter.
    ModbusRead,
    /// Write registers of the meter.
    ModbusWrite,
    /// Report on the meter.
    MeterInfo,
    /// Send a reading at once.
    TelemetryNow,
    /// Change the intervals of telemetry and heartbeats.
    SetInterval,
    /// Report on the SD card.
    SdStatus,
    /// Send the readings on the SD card.
    SdFlush,
    /// Report the last lines of the device's log.
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

    /// Whether only an Admin may send it: it can make a device unreachable, or change what the meter does.
    #[must_use]
    pub const fn is_for_admins(self) -> bool {
        matches!(self, Self::FactoryReset | Self::ModbusWrite | Self::OtaRollback)
    }

    /// Whether it must not wait for a device that is offline, because executing it later could do harm.
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

#[cfg(test)]
mod tests;
