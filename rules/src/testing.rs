//! Readings and rules for tests.

use std::sync::{Arc, LazyLock};

use acuvim_model::RuleBody;
use acuvim_tables::Table;
use acuvim_wire::{Micros, time::SECOND};
use arrow::{
    array::{
        ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Schema},
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{LiveRule, Planner, RuleSet};

/// A reading of a device, which arrived at `received`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub device: &'static str,
    pub ts: Micros,
    pub received: Micros,
    pub volts: Option<f64>,
    pub amps: Option<f64>,
}

/// A reading that arrived one second after it was taken.
pub(crate) fn reading(device: &'static str, second: i64, volts: f64) -> Reading {
    let ts = second * SECOND;
    Reading { device, ts, received: ts + SECOND, volts: Some(volts), amps: None }
}

/// Rows of `telemetry`, with the position in the slice as their offset.
pub(crate) fn rows(readings: &[Reading]) -> RecordBatch {
    let schema = Table::Telemetry.schema();
    let times = |of: fn(&Reading) -> Micros| -> ArrayRef {
        let times: TimestampMicrosecondArray = readings.iter().map(|r| Some(of(r))).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let zeros: ArrayRef = Arc::new(Int32Array::from(vec![0; readings.len()]));
    let offsets = (0..).take(readings.len()).collect::<Vec<i64>>();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("device_id", Arc::new(StringArray::from_iter_values(readings.iter().map(|r| r.device)))),
        ("ts", times(|r| r.ts)),
        ("received_at", times(|r| r.received)),
        ("voltage_l1_v", decimals("voltage_l1_v", readings, |r| r.volts)),
        ("current_avg_a", decimals("current_avg_a", readings, |r| r.amps)),
        ("epoch", Arc::clone(&zeros)),
        ("partition", Arc::clone(&zeros)),
        ("offset", Arc::new(Int64Array::from(offsets))),
        ("item", zeros),
    ];
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, _)| schema.field_with_name(name).expect("a column").clone())
        .collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("rows")
}

fn decimals(name: &str, readings: &[Reading], of: fn(&Reading) -> Option<f64>) -> ArrayRef {
    let schema = Table::Telemetry.schema();
    let data_type = schema.field_with_name(name).expect("a column").data_type().clone();
    let DataType::Decimal128(precision, scale) = data_type else { panic!("{name}: {data_type}") };
    let factor = 10_f64.powi(i32::from(scale));
    let unscaled = readings.iter().map(|r| of(r).map(|value| (value * factor).round() as i128));
    let decimals: Decimal128Array = unscaled.collect();
    let decimals = decimals.with_precision_and_scale(precision, scale).expect("a decimal");
    Arc::new(decimals)
}

/// A rule with the given fields, and the default for the others.
#[allow(clippy::needless_pass_by_value, reason = "it reads better at its calls")]
pub(crate) fn body(fields: Json) -> RuleBody {
    let mut whole = json!({ "name": "high", "alert_type": "high", "when": "voltage_l1_v > 250" });
    for (key, value) in fields.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).expect("a rule")
}

/// Making a planner takes longer than compiling a rule.
static PLANNER: LazyLock<Planner> = LazyLock::new(|| Planner::new().expect("a planner"));

/// A rule that has been in force for ever, with `number` as its id.
pub(crate) fn live(number: u128, fields: Json) -> LiveRule {
    let body = body(fields);
    let compiled = PLANNER.compile(&body).expect("a rule");
    let id = Uuid::from_u128(number);
    LiveRule { id, version: 1, since: Micros::MIN, edited: None, body, compiled }
}

/// A set of rules with the ids 1, 2, and so on.
pub(crate) fn set_of(rules: &[Json]) -> RuleSet {
    let rules = (1..).zip(rules).map(|(number, fields)| live(number, fields.clone()));
    RuleSet::new(1, rules.collect())
}
