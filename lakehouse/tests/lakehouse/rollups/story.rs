//! Generates readings and heartbeats for the rollup tests.

use std::{collections::HashMap, sync::Arc};

use acuvim_lakehouse::{Lake, Rows, TailBatch};
use acuvim_tables::{
    heartbeat::HeartbeatRows,
    telemetry::{Decoder, Source},
};
use acuvim_wire::{
    Position,
    payload::Heartbeat,
    record::RecordFacts,
    telemetry::Limits,
    time::{DAY, HOUR, Micros, SECOND, to_rfc3339},
};
use bytes::Bytes;
use proptest::prelude::*;

use crate::support::T0;

/// A reading with its voltage, and its counter if it has one, in hundredths.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub device: &'static str,
    pub ts: Micros,
    pub volts: Option<i64>,
    pub energy: Option<i64>,
}

impl Reading {
    pub fn new(device: &'static str, ts: Micros, volts: i64, kwh: i64) -> Self {
        Self { device, ts, volts: Some(volts * 100), energy: Some(kwh * 100) }
    }
}

/// A heartbeat with the serial number of a meter.
pub type SerialReport = (&'static str, Micros, &'static str);

/// What a counter shows in addition to its consumption.
#[derive(Debug, Clone, Copy)]
enum Glitch {
    None,
    /// Zero, as a register shows that could not be read.
    Zero,
    /// A wrong number.
    Jump(i64),
    /// Zero for several readings.
    Stuck(usize),
    /// The meter was reset.
    Reset,
}

/// Readings of three devices, with the order in which they arrive.
pub fn story() -> impl Strategy<Value = (Vec<Reading>, Vec<SerialReport>, Vec<usize>)> {
    let step = prop_oneof![
        20 => 5..60_i64, 6 => Just(900), 3 => Just(3 * 3600), 1 => Just(26 * 3600)
    ];
    let volts = prop::option::weighted(0.9, 20_000..26_000_i64);
    let energy = prop::option::weighted(0.9, 0..500_i64);
    let glitch = prop_oneof![
        12 => Just(Glitch::None), 1 => Just(Glitch::Zero), 1 => Just(Glitch::Reset),
        1 => (1..1_000_000_000_i64).prop_map(Glitch::Jump), 1 => (1..1000_i64).prop_map(Glitch::Jump),
        1 => (2..12_usize).prop_map(Glitch::Stuck),
    ];
    let one = (step, volts, energy, glitch);
    let device = move || prop::collection::vec(one.clone(), 1..40);
    let meters = prop::collection::vec((0..3_usize, 0..6 * 24_i64, 0..2_usize), 0..6);
    (device(), device(), device(), meters, any::<bool>()).prop_flat_map(
        |(a, b, c, meters, mixed)| {
            let mut readings = Vec::new();
            for (device, story) in [("a", a), ("b", b), ("c", c)] {
                let (mut ts, mut counter, mut stuck) = (T0, 9_999_990_000, 0_usize);
                for (step, volts, energy, glitch) in story {
                    ts += step * SECOND;
                    if ts > T0 + 6 * DAY {
                        break;
                    }
                    // Across the roll-over.
                    counter = (counter + energy.unwrap_or(0)) % 10_000_000_000;
                    stuck = match glitch {
                        Glitch::Stuck(readings) => readings,
                        _ => stuck.saturating_sub(1),
                    };
                    let shown = match glitch {
                        _ if stuck > 0 => 0,
                        Glitch::None | Glitch::Stuck(_) => counter,
                        Glitch::Zero => 0,
                        Glitch::Jump(by) => (counter + by) % 10_000_000_000,
                        Glitch::Reset => {
                            counter = 0;
                            0
                        }
                    };
                    readings.push(Reading { device, ts, volts, energy: energy.map(|_| shown) });
                }
            }
            let name = |n: usize| ["m0", "m1"].get(n).copied().unwrap_or("m2");
            let device = |n: usize| ["a", "b", "c"].get(n).copied().unwrap_or("a");
            // A device has at most one report at a time.
            let reports: HashMap<(usize, i64), usize> =
                meters.into_iter().map(|(d, at, m)| ((d, at), m)).collect();
            let mut reports: Vec<SerialReport> = reports
                .into_iter()
                .map(|((d, at), m)| (device(d), T0 + at * HOUR + 7 * SECOND, name(m)))
                .collect();
            reports.sort();
            let order: Vec<usize> = (0..readings.len()).collect();
            let order = match mixed {
                true => Just(order).prop_shuffle().boxed(),
                false => Just(order).boxed(),
            };
            (Just(readings), Just(reports), order)
        },
    )
}

fn facts(device: &str, offset: i64, partition: u32) -> RecordFacts<'_> {
    RecordFacts {
        device_id: device,
        kind: "telemetry",
        topic: "t",
        received_at: T0 + 40 * DAY,
        epoch: 0,
        position: Position { partition, offset },
    }
}

fn partition_of(device: &str) -> u32 {
    match device {
        "a" => 0,
        "b" => 1,
        _ => 2,
    }
}

/// Pushes readings to the partitions of their devices.
pub fn push(lake: &Lake, next: &mut HashMap<u32, i64>, readings: &[Reading]) {
    for partition in 0..3 {
        let mut decoder = Decoder::new(Limits::default(), Arc::default());
        let from = next.get(&partition).copied().unwrap_or_else(|| lake.next_offset(partition));
        let mut offset = from;
        for reading in readings.iter().filter(|r| partition_of(r.device) == partition) {
            let mut payload = format!(r#"{{"ts":"{}","f":50"#, to_rfc3339(reading.ts));
            for (key, value) in [("v1", reading.volts), ("ei", reading.energy)] {
                if let Some(value) = value {
                    payload += &format!(r#","{key}":{}.{:02}"#, value / 100, value % 100);
                }
            }
            let payload = Bytes::from(payload + "}");
            let facts = facts(reading.device, offset, partition);
            let source = Source { facts, payload: &payload, resolved_ts: None };
            decoder.push(&source, &mut |letter| panic!("{letter:?}"));
            offset += 1;
        }
        let rows = Rows { telemetry: decoder.finish().expect("schema").rows, ..Rows::none() };
        lake.push(partition, TailBatch { from, next: offset, rows }).expect("schema");
        next.insert(partition, offset);
    }
}

/// Pushes heartbeats.
pub fn push_reports(lake: &Lake, reports: &[SerialReport]) {
    let mut rows = HeartbeatRows::default();
    let mut offset = 0;
    for (device, ts, serial) in reports {
        let text = format!(r#"{{"meter_serial":"{serial}"}}"#);
        let heartbeat: Heartbeat = serde_json::from_str(&text).expect("a heartbeat");
        rows.push(&facts(device, offset, 3), *ts, &heartbeat);
        offset += 1;
    }
    let rows = Rows { heartbeats: rows.finish().expect("schema"), ..Rows::none() };
    lake.push(3, TailBatch { from: 0, next: offset.max(1), rows }).expect("schema");
}
