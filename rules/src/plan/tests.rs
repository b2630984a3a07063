use super::*;
use arrow::{array::RecordBatch, datatypes::Schema};

pub(crate) fn rule(when: &str) -> RuleBody {
    serde_json::from_value(serde_json::json!({
        "name": "r", "alert_type": "t", "when": when
    }))
    .expect("a rule")
}

fn compile(when: &str) -> std::result::Result<Compiled, RuleFault> {
    Planner::new().expect("a planner").compile(&rule(when))
}

/// Rows of one column of floats.
fn inputs(column: &str, values: &[Option<f64>], compiled: &Compiled) -> Inputs {
    let scale = 3_u32;
    let field = acuvim_tables::Table::Telemetry.schema();
    let field = field.field_with_name(column).expect("a column").clone();
    let unscaled = values.iter().map(|v| v.map(|v| (v * f64::from(10_u32.pow(scale))) as i128));
    let array: arrow::array::Decimal128Array = unscaled.collect();
    let array = array.with_precision_and_scale(18, 3).expect("a decimal");
    let array = arrow::compute::cast(&array, field.data_type()).expect("cast");
    let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).expect("rows");
    let site = Site { nominal_voltage_v: Some(230.0), ..Site::default() };
    Inputs::new(&rows, |_| &site, compiled.needed()).expect("inputs")
}

fn states(compiled: &Compiled, inputs: &Inputs) -> String {
    let when = compiled.breaches(inputs).expect("evaluated");
    let clears = compiled.clears(inputs).expect("evaluated");
    let one = |row| match Compiled::state_of(&when, clears.as_ref(), row) {
        ReadingState::Breach => 'b',
        ReadingState::Clear => 'c',
        ReadingState::Between => '-',
        ReadingState::Unknown => '?',
    };
    (0..when.len()).map(one).collect()
}

#[test]
fn a_predicate_is_evaluated_over_a_batch() {
    let over = compile("voltage_l1_v > 1.10 * nominal_voltage_v").expect("a rule");
    let values = [Some(253.1), Some(252.9), None, Some(260.0)];
    let batch = inputs("voltage_l1_v", &values, &over);
    assert_eq!(states(&over, &batch), "bc?b");
    let (value, limit) = over.values(&batch, 0);
    assert_eq!(value, Some(253.1));
    assert!(limit.is_some_and(|l| (l - 253.0).abs() < 1e-9));

    let mut with_band = rule("voltage_l1_v > 253");
    with_band.clear_when = Some("voltage_l1_v < 248.4".into());
    let with_band = Planner::new().expect("a planner").compile(&with_band).expect("a rule");
    let values = [Some(254.0), Some(250.0), Some(248.0), None];
    let batch = inputs("voltage_l1_v", &values, &with_band);
    assert_eq!(states(&with_band, &batch), "b-c?");
}

#[test]
fn too_many_evaluation_steps_are_refused() {
    let nested = |levels: usize, f: fn(String) -> String| {
        (0..levels).fold("voltage_l1_v".to_owned(), |x, _| f(x)) + " > 100"
    };
    let between = |x: String| format!("CASE WHEN {x} BETWEEN 1 AND 5 THEN 2 ELSE 0 END");
    let listed = |x: String| format!("CASE WHEN {x} IN (1, 2, 3) THEN 2.0 ELSE 0.0 END");
    for bad in [nested(20, between), nested(12, listed)] {
        let fault = compile(&bad).expect_err("too many steps");
        assert!(fault.message.contains("nested too often"), "{bad}: {}", fault.message);
    }
    for good in [nested(2, between), nested(12, |x| format!("abs({x})"))] {
        assert!(compile(&good).is_ok(), "{good}: {:?}", compile(&good));
    }
}

#[test]
fn missing_settings_of_a_device_are_known() {
    let over = compile("voltage_l1_v > 1.10 * nominal_voltage_v").expect("a rule");
    assert_eq!(over.missing(&Site::default()), ["nominal_voltage_v"]);
    let plain = compile("voltage_l1_v > 253 and abs(power_factor_total) < 0.9").expect("a rule");
    assert!(plain.can_judge(&Site::default()));
}

#[test]
fn faults_have_a_position() {
    for (bad, line, column, text) in [
        ("voltage_l1_v >", 1, 15, ""),
        ("voltage_l9_v > 3", 1, 1, "there is no column voltage_l9_v"),
        ("frequency_hz > 3 and\n nonsense = 1", 2, 2, "there is no column nonsense"),
        ("voltage_l1_v + 1", 1, 1, "must be true or false"),
        ("sqrt(voltage_l1_v) > 1", 1, 1, "sqrt"),
        ("random() > 0.5", 1, 1, "random"),
        ("sum(voltage_l1_v) > 3", 1, 1, "can't be used"),
        ("now() > '2020-01-01'", 1, 1, "now"),
        ("voltage_l1_v > (select 1)", 1, 1, ""),
        ("voltage_l1_v > 'abc'", 1, 1, ""),
        ("voltage_l1_v > 1; drop table x", 1, 17, ""),
        ("voltage_l1_v > $1", 1, 1, ""),
        ("exists (select 1 from telemetry)", 1, 1, ""),
        ("", 0, 0, "1 to 2000"),
        ("load_type ~ 'a+' or voltage_l1_v > 1", 1, 11, "operator"),
        ("cast(load_type as double) > 1", 1, 1, "TRY_CAST"),
    ] {
        let fault = compile(bad).map(|_| ()).expect_err(bad);
        assert_eq!(fault.field, "when");
        assert!(fault.message.contains(text), "{bad}: {fault}");
        if line > 0 {
            assert_eq!((fault.line, fault.column), (Some(line), Some(column)), "{bad}: {fault}");
        }
    }
    assert!(compile(&format!("voltage_l1_v > {}", "1+".repeat(2000))).is_err());
    let chain = format!("voltage_l1_v > 1{}", "+1".repeat(400));
    assert!(compile(&chain).is_err(), "so is a chain");
    let deep = format!("{}voltage_l1_v > 1{}", "(".repeat(900), ")".repeat(900));
    assert!(compile(&deep).is_err(), "nesting is bounded");
}

#[test]
fn nan_never_meets_a_condition() {
    // NaN sorts below everything on one machine and above everything on another.
    for nonsense in [
        "voltage_l1_v / current_avg_a > 1",
        "voltage_l1_v / voltage_l1_v < 0.9",
        "voltage_l1_v / voltage_l1_v > 0.9",
        "not (exp(1000 + voltage_l1_v) between 0 and 1)",
    ] {
        let rule = compile(nonsense).expect(nonsense);
        let batch = inputs("voltage_l1_v", &[None, Some(0.0)], &rule);
        assert_eq!(states(&rule, &batch), "??", "{nonsense}");
    }
    let zero = compile("round(voltage_l1_v * -1) < 0").expect("a rule");
    assert_eq!(states(&zero, &inputs("voltage_l1_v", &[Some(0.0)], &zero)), "c", "-0 is 0");
}
