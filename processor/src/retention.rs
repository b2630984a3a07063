//! How long each table of the lake keeps its days.

use acuvim_schemas::tables::Table;

/// Days that a table keeps, counted by its `date`, beside the day that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Readings. Those that come later than that are dead letters.
    pub telemetry: i32,
    /// Heartbeats.
    pub heartbeats: i32,
    /// Steps of alerts.
    pub alert_events: i32,
    /// Changes of devices.
    pub device_events: i32,
    /// Messages that could not be used: as long as they may be brought again.
    pub dead_letters: i32,
    /// What was received and what became of it.
    pub ledger: i32,
    /// Quarters of an hour.
    pub rollup_15m: i32,
    /// Days.
    pub rollup_daily: i32,
}

impl Retention {
    /// The days of one table.
    #[must_use]
    pub const fn days(&self, table: Table) -> i32 {
        match table {
            Table::Telemetry => self.telemetry,
            Table::Heartbeats => self.heartbeats,
            Table::AlertEvents => self.alert_events,
            Table::DeviceEvents => self.device_events,
            Table::DeadLetters => self.dead_letters,
            Table::Ledger => self.ledger,
            Table::Rollup15m => self.rollup_15m,
            Table::RollupDaily => self.rollup_daily,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            telemetry: 365,
            heartbeats: 365,
            alert_events: 1825,
            device_events: 1825,
            dead_letters: 90,
            ledger: 365,
            rollup_15m: 1825,
            rollup_daily: 3650,
        }
    }
}
