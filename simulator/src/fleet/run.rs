//! Runs the fleet: every device connects, registers, and sends readings and heartbeats. Now and then it
//! sends readings from its SD card, repeats a message, or sends an invalid one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use acuvim_wire::{Kind, topic};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{answers::Answers, meter::Meter};
use crate::mqtt::{ConnectOptions, Connection, Error};

/// The settings of a fleet.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// The broker's host.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// The prefix of topics.
    pub topic_prefix: String,
    /// The number of devices.
    pub devices: u32,
    /// The interval of readings of a device.
    pub interval: Duration,
    /// The seed: the same one gives the same readings.
    pub seed: u64,
    /// The share of readings that are sent twice.
    pub duplicates: f64,
    /// The share of invalid messages.
    pub bad: f64,
    /// Whether devices send an hour of old readings from their SD cards.
    pub sd_drains: bool,
}

/// Counts of acknowledged messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Readings of the present, repetitions not included.
    pub readings: u64,
    /// Readings from SD cards.
    pub sd_readings: u64,
    /// Readings that were sent again.
    pub repeated: u64,
    /// Heartbeats, one for six readings.
    pub heartbeats: u64,
    /// Messages that the server has to keep as dead letters.
    pub bad: u64,
    /// Responses to commands.
    pub answers: u64,
    /// Connections that broke or could not be made.
    pub broken: u64,
}

/// The counts of a running fleet. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Report(Arc<Mutex<Totals>>);

impl Report {
    /// The counts so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Runs a fleet until it is stopped.
pub async fn run(options: FleetOptions, report: Report, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    let options = Arc::new(options);
    for n in 0..options.devices {
        let device = Device {
            meter: Meter::new(options.seed, n),
            chance: SmallRng::seed_from_u64(options.seed.wrapping_add(u64::from(n))),
            options: Arc::clone(&options),
            report: report.clone(),
            answers: Answers::default(),
            sent: 0,
        };
        let stop = stop.clone();
        tracker.spawn(async move { stop.run_until_cancelled(device.live()).await });
    }
    tracker.close();
    tracker.wait().await;
}

struct Device {
    meter: Meter,
    chance: SmallRng,
    options: Arc<FleetOptions>,
    report: Report,
    answers: Answers,
    sent: u64,
}

impl Device {
    async fn live(mut self) {
        // Devices start at different times, as in a real fleet.
        let start = self.chance.random_range(0.0..1.0);
        tokio::time::sleep(self.options.interval.min(Duration::from_secs(5)).mul_f64(start)).await;
        let mut ticks = tokio::time::interval(self.options.interval);
        // After an outage a device goes on with the present. What it missed is on its SD card.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            if let Err(Error::Broken(_) | Error::Refused(_)) = self.session(&mut ticks).await {
                self.report.count(|t| t.broken += 1);
            }
            // At random, so that a fleet does not come back to a restarted broker all at once.
            let pause = self.chance.random_range(0.2..2.0);
            tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        }
    }

    /// One connection, from its CONNECT to the error that ends it.
    async fn session(&mut self, ticks: &mut tokio::time::Interval) -> Result<(), Error> {
        let id = self.meter.device_id.clone();
        let prefix = &self.options.topic_prefix;
        let status = topic::uplink(prefix, &id, Kind::Status);
        let mut connection = Connection::open(&ConnectOptions {
            host: self.options.host.clone(),
            port: self.options.port,
            client_id: id.clone(),
            login: None,
            will: Some((status.clone(), r#"{"status":"offline","reason":"lwt"}"#.to_owned())),
            subscribe: Some(topic::command(prefix, &id)),
        })
        .await?;
        connection.publish(topic::REGISTER, registration(&id), false).await?;
        connection.publish(&status, r#"{"status":"online"}"#, true).await?;
        let resp = topic::uplink(prefix, &id, Kind::Resp);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tick(&connection).await?,
                command = connection.messages.recv() => {
                    let Some((_, payload)) = command else { return Err(Connection::lost()) };
                    for answer in self.answers.to(&payload) {
                        connection.publish(&resp, answer, false).await?;
                        self.report.count(|t| t.answers += 1);
                    }
                }
            }
        }
    }

    async fn tick(&mut self, connection: &Connection) -> Result<(), Error> {
        let id = self.meter.device_id.clone();
        let telemetry = topic::uplink(&self.options.topic_prefix, &id, Kind::Telemetry);
        let now = chrono::Utc::now().timestamp_millis();
        let payload = self.meter.telemetry(now, "live");
        connection.publish(&telemetry, payload.clone(), false).await?;
        self.report.count(|t| t.readings += 1);
        if self.chance.random_bool(self.options.duplicates) {
            connection.publish(&telemetry, payload, false).await?;
            self.report.count(|t| t.repeated += 1);
        }
        if self.chance.random_bool(self.options.bad) {
            connection.publish(&telemetry, self.nonsense(), false).await?;
            self.report.count(|t| t.bad += 1);
        }
        // With the usual interval of 10 s that is a heartbeat a minute.
        if self.sent.is_multiple_of(6) {
            let topic = topic::uplink(&self.options.topic_prefix, &id, Kind::Heartbeat);
            connection.publish(&topic, heartbeat(now, self.sent), false).await?;
            self.report.count(|t| t.heartbeats += 1);
        }
        if self.options.sd_drains && self.sent == 3 {
            self.drain(connection, &telemetry, now).await?;
        }
        self.sent += 1;
        Ok(())
    }

    /// Sends an hour of old readings, one a minute, as JSON Lines like on the card.
    async fn drain(&mut self, connection: &Connection, topic: &str, now: i64) -> Result<(), Error> {
        // A meter of its own: counters must not run backwards in the live readings.
        let mut past = Meter::new(self.options.seed ^ 0x5d, 0);
        let start = now - 7_200_000;
        let lines: Vec<String> =
            (0..60).map(|minute| past.telemetry(start + minute * 60_000, "sd")).collect();
        connection.publish(topic, lines.join("\n"), false).await?;
        self.report.count(|t| t.sd_readings += 60);
        Ok(())
    }

    fn nonsense(&mut self) -> String {
        let kinds = [
            "{\"ts\":\"yesterday\",\"f\":50}",
            "{\"f\":50.0}",
            "not json at all",
            "{\"ts\":\"1999-12-31T23:59:59Z\",\"f\":50}",
        ];
        let n = self.chance.random_range(0..kinds.len());
        kinds.get(n).copied().unwrap_or_default().to_owned()
    }
}

fn registration(id: &str) -> String {
    let hex = id.strip_prefix("ACV-").unwrap_or_default();
    let mac: Vec<&str> = (0..6).filter_map(|i| hex.get(2 * i..2 * i + 2)).collect();
    serde_json::json!({
        "device_id": id, "mac_address": mac.join(":"), "hardware": "TTGO T-Call v1.4",
        "firmware_version": "1.2.0", "capabilities": ["wifi", "gsm", "sd", "modbus"], "boot": 1,
        "meter_serial": format!("AH{hex}"), "max_packet_bytes": 1024, "protocol": 1,
    })
    .to_string()
}

fn heartbeat(now: i64, sent: u64) -> String {
    let ts = chrono::DateTime::from_timestamp_millis(now).unwrap_or_default();
    let mut json: BTreeMap<&str, serde_json::Value> = BTreeMap::new();
    json.insert("ts", ts.to_rfc3339_opts(chrono::SecondsFormat::Millis, true).into());
    json.insert("heartbeat_interval_s", 60.into());
    json.insert("firmware_version", "1.2.0".into());
    json.insert("uptime_ms", (sent * 10_000).into());
    json.insert("boot", 1.into());
    json.insert("free_heap", 142_000.into());
    json.insert("signal_strength", (-61).into());
    serde_json::to_string(&json).unwrap_or_default()
}

#[cfg(test)]
mod tests;
