//! How many days each table of the lake keeps.

use acuvim_tables::Table;

/// How many days each table keeps, counted by its `date`. The current day comes on top, because it
/// is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Days of `telemetry`. A reading that is older when it arrives is a dead letter.
    pub telemetry: i32,
    /// Days of `heartbeats`.
    pub heartbeats: i32,
    /// Days of `alert_events`.
    pub alert_events: i32,
    /// Days of `device_events`.
    pub device_events: i32,
    /// Days of `dead_letters`, which is also how long they can be replayed.
    pub dead_letters: i32,
    /// Days of `ledger`.
    pub ledger: i32,
    /// Days of `rollup_15m`.
    pub rollup_15m: i32,
    /// Days of `rollup_daily`.
    pub rollup_daily: i32,
}

impl Retention {
    /// How many days a table keeps.
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

#[cfg(test)]
mod tests;
