use std::sync::Arc;

use acuvim_tables::Table;
use arrow::{
    array::{ArrayRef, Float64Array, RecordBatch},
    datatypes::Schema,
};

use super::*;
use crate::{Inputs, Planner, Site};

#[test]
fn every_default_rule_compiles_and_has_a_unique_name() {
    let rules = default_rules().expect("rules");
    let planner = Planner::new().expect("a planner");
    let mut names: Vec<&str> = rules.iter().map(|r| r.name.as_str()).collect();
    for rule in &rules {
        planner.compile(rule).unwrap_or_else(|fault| panic!("{}: {fault}", rule.name));
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), rules.len());
}

/// The default rules that a reading of a device with 230 V and 50 Hz meets.
fn met(volts: [Option<f64>; 3]) -> Vec<String> {
    let planner = Planner::new().expect("a planner");
    let columns = ["voltage_l1_v", "voltage_l2_v", "voltage_l3_v"];
    let schema = Table::Telemetry.schema();
    let fields = columns.map(|name| schema.field_with_name(name).expect("a column").clone());
    let values = volts.iter().zip(&fields).map(|(volts, field)| -> ArrayRef {
        let plain = Float64Array::from(vec![*volts]);
        arrow::compute::cast(&plain, field.data_type()).expect("a decimal")
    });
    let values = values.collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), values).expect("rows");
    let site = Site {
        nominal_voltage_v: Some(230.0),
        nominal_frequency_hz: Some(50.0),
        ..Site::default()
    };
    let rules = default_rules().expect("rules").into_iter();
    let met = rules.filter(|rule| {
        let compiled = planner.compile(rule).expect("a rule");
        let inputs = Inputs::new(&rows, |_| &site, compiled.needed()).expect("inputs");
        compiled.breaches(&inputs).expect("evaluated").iter().flatten().any(|breach| breach)
    });
    met.map(|rule| rule.name).collect()
}

#[test]
fn voltages_are_judged_by_the_worst_phase() {
    let phases = |l3: f64| met([Some(230.0), Some(231.0), Some(l3)]);
    assert_eq!(phases(230.0), [""; 0]);
    assert_eq!(phases(253.0), [""; 0], "ten per cent over are allowed");
    assert_eq!(phases(253.1), ["Overvoltage"]);
    assert_eq!(phases(264.6), ["Overvoltage", "Overvoltage, critical"]);
    assert_eq!(phases(207.0), [""; 0]);
    assert_eq!(phases(206.9), ["Undervoltage"]);
    assert_eq!(phases(195.4), ["Undervoltage", "Undervoltage, critical"]);
}

#[test]
fn a_lost_phase_is_no_undervoltage_as_well() {
    let phases = |l3: f64| met([Some(230.0), Some(231.0), Some(l3)]);
    assert_eq!(phases(23.0), ["Undervoltage", "Undervoltage, critical"]);
    assert_eq!(phases(22.9), ["Phase loss"]);
    assert_eq!(phases(0.0), ["Phase loss"]);
}

#[test]
fn a_meter_of_one_phase_is_judged_by_it() {
    assert_eq!(met([Some(260.0), None, None]), ["Overvoltage"]);
    assert_eq!(met([None, None, None]), [""; 0]);
}
