use std::collections::BTreeSet;

use super::*;
use crate::{
    inputs::Site,
    testing::{Reading, reading, rows},
};

#[test]
fn templates_are_validated_and_numbers_are_short() {
    assert_eq!(
        columns("{device_id}: {value} over {threshold} V, {frequency_hz} Hz"),
        Ok(vec!["frequency_hz"])
    );
    assert!(columns("{nonsense}").is_err());
    assert!(columns("{value").is_err());
    assert!(columns(&"x".repeat(501)).is_err());
    assert_eq!([253.1, 253.0, 0.1239, -7.0].map(short), ["253.1", "253", "0.124", "-7"]);
}

fn render_row(template: Option<&str>, value: Option<f64>, row: usize) -> String {
    let readings = [reading("a", 0, 253.1), Reading { volts: None, ..reading("a", 10, 0.0) }];
    let needed: BTreeSet<usize> = (0..inputs::schema().fields().len()).collect();
    let site = Site { nominal_voltage_v: Some(230.0), ..Site::default() };
    let inputs = Inputs::new(&rows(&readings), |_| &site, &needed).expect("inputs");
    let context = MessageContext {
        rule: "High",
        device_id: "{rule}",
        value,
        threshold: Some(250.0),
        inputs: &inputs,
        row,
    };
    render(template, &context)
}

#[test]
fn a_message_has_the_values_of_its_reading() {
    let template = Some("{rule} at {device_id}: {value} over {threshold}, {voltage_l1_v} V");
    let text = render_row(template, Some(253.1), 0);
    assert_eq!(text, "High at {rule}: 253.1 over 250, 253.1 V", "a device's id is no template");
    assert_eq!(render_row(Some("{voltage_l1_v} {load_type} {value}"), None, 1), "? ? ?");
    assert_eq!(render_row(Some("{nominal_voltage_v} V"), None, 1), "230 V");
}

#[test]
fn a_rule_without_a_template_says_what_was_exceeded() {
    assert_eq!(render_row(None, Some(253.1), 0), "High: 253.1 against 250");
    assert_eq!(render_row(None, None, 0), "High");
    assert_eq!(render_row(Some(""), Some(1.0), 0), "", "an empty template is one");
}

#[test]
fn braces_that_are_no_name_are_refused_and_a_lone_closing_one_is_text() {
    for bad in ["{", "{}", "{{value}}", "{ value }", "{VALUE}", "a { b"] {
        assert!(columns(bad).is_err(), "{bad}");
    }
    assert_eq!(columns("a } b"), Ok(vec![]));
    assert_eq!(render_row(Some("a } b"), None, 0), "a } b");
    assert!(columns(&"ü".repeat(500)).is_ok(), "the length is counted in characters");
}

#[test]
fn numbers_are_rounded_to_three_decimals_without_a_lost_sign() {
    let texts = [0.0, -0.0, -0.0001, 0.0005, -0.0006, 100.0, 1e9, 1200.5].map(short);
    assert_eq!(texts, ["0", "0", "0", "0.001", "-0.001", "100", "1000000000", "1200.5"]);
}
