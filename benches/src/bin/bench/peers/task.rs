//! The questions, and the devices and days that they are about.

use std::path::PathBuf;

/// The devices and days that the questions are about.
pub struct Task {
    /// The day of all devices, from and to, in Unix milliseconds.
    pub day: (i64, i64),
    /// An hour of it.
    pub hour: i64,
    /// The month of the other device.
    pub month: (i64, i64),
    pub device: String,
    pub month_device: String,
    /// The readings that meters send.
    pub readings: Vec<&'static str>,
    pub out: PathBuf,
    pub threads: usize,
}

/// The questions, in the order of the report.
pub const QUESTIONS: [&str; 9] = [
    "last point",
    "hour raw",
    "day in 5 minutes",
    "hourly by group",
    "top ten",
    "over-voltage",
    "energy by day",
    "wide scan",
    "month as CSV",
];
