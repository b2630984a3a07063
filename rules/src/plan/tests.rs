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

#[test]
fn a_list_or_a_bound_that_is_no_number_meets_no_condition_either() {
    for nonsense in [
        "voltage_l1_v / voltage_l1_v not in (1, 2)",
        "voltage_l1_v / voltage_l1_v in (1, 2)",
        "voltage_l1_v not between 1 / voltage_l1_v and 500.0",
        "voltage_l1_v not between -5 and -1 / voltage_l1_v",
        "voltage_l1_v not in (5.0, 1 / voltage_l1_v)",
    ] {
        let rule = compile(nonsense).expect(nonsense);
        let batch = inputs("voltage_l1_v", &[None, Some(0.0)], &rule);
        assert_eq!(states(&rule, &batch), "??", "{nonsense}");
    }
    let listed = compile("round(voltage_l1_v) not in (1, 2)").expect("a rule");
    assert_eq!(states(&listed, &inputs("voltage_l1_v", &[Some(1.2), Some(3.0)], &listed)), "cb");
}

#[test]
fn a_fault_names_the_field_that_it_is_in() {
    let planner = Planner::new().expect("a planner");
    let clear = RuleBody { clear_when: Some("nonsense < 1".into()), ..rule("voltage_l1_v > 1") };
    let fault = planner.compile(&clear).expect_err("no such column");
    assert_eq!(fault.to_string(), "clear_when (line 1, column 1): there is no column nonsense");
    let message = RuleBody { message: Some("{nonsense}".into()), ..rule("voltage_l1_v > 1") };
    let fault = planner.compile(&message).expect_err("no such column");
    assert_eq!((fault.field, fault.line), ("message", None));
    assert!(fault.to_string().starts_with("message: {nonsense} is neither"), "{fault}");
}

#[test]
fn the_length_of_a_predicate_is_counted_in_characters() {
    let of_length = |length: usize| {
        let text = "source = 'é'";
        format!("{text}{}", " ".repeat(length - text.chars().count()))
    };
    assert!(compile(&of_length(MAX_LENGTH)).is_ok());
    let fault = compile(&of_length(MAX_LENGTH + 1)).map(|_| ()).expect_err("too long");
    assert!(fault.message.contains("1 to 2000"), "{fault}");
    assert!(compile("  \n ").is_err());
}

#[test]
fn the_value_of_an_alert_is_that_of_the_first_comparison_that_holds() {
    let either = compile("voltage_l1_v < 200 or 250 < voltage_l1_v").expect("a rule");
    let batch = inputs("voltage_l1_v", &[Some(190.0), Some(260.0), Some(230.0)], &either);
    assert_eq!(either.values(&batch, 0), (Some(190.0), Some(200.0)));
    assert_eq!(either.values(&batch, 1), (Some(260.0), Some(250.0)), "the reading is the value");
    assert_eq!(either.values(&batch, 2), (None, None));
    let nominal = compile("nominal_voltage_v * 1.1 < voltage_l1_v").expect("a rule");
    let batch = inputs("voltage_l1_v", &[Some(260.0)], &nominal);
    let (value, limit) = nominal.values(&batch, 0);
    assert_eq!(value, Some(260.0));
    assert!(limit.is_some_and(|limit| (limit - 253.0).abs() < 1e-9), "{limit:?}");
    let text = compile("source = 'sd'").expect("a rule");
    assert_eq!(text.values(&inputs("voltage_l1_v", &[Some(1.0)], &text), 0), (None, None));
}

#[test]
fn a_breach_counts_before_the_end_and_a_missing_value_is_neither() {
    let both = |when: Option<bool>, clears: Option<Option<bool>>| {
        let when = BooleanArray::from(vec![when]);
        let clears = clears.map(|one| BooleanArray::from(vec![one]));
        Compiled::state_of(&when, clears.as_ref(), 0)
    };
    for (when, clears, wanted) in [
        (Some(true), Some(Some(true)), ReadingState::Breach),
        (Some(true), Some(None), ReadingState::Breach),
        (Some(false), Some(Some(true)), ReadingState::Clear),
        (None, Some(Some(true)), ReadingState::Clear),
        (Some(false), Some(Some(false)), ReadingState::Between),
        (Some(false), Some(None), ReadingState::Between),
        (None, Some(Some(false)), ReadingState::Between),
        (None, Some(None), ReadingState::Unknown),
        (Some(false), None, ReadingState::Clear),
        (None, None, ReadingState::Unknown),
    ] {
        assert_eq!(both(when, clears), wanted, "{when:?} {clears:?}");
    }
}

#[test]
fn the_times_of_a_rule_are_its_seconds() {
    let planner = Planner::new().expect("a planner");
    let timed = |change: fn(&mut RuleBody)| {
        let mut body = rule("voltage_l1_v > 1");
        change(&mut body);
        planner.compile(&body).expect("a rule").terms()
    };
    let plain = timed(|_| {});
    assert_eq!((plain.hold, plain.clear, plain.gap), (0, 0, None));
    assert_eq!(plain.flapping, Some(Flapping { count: 5, window: 1800 * SECOND }));
    let slow = timed(|body| (body.for_seconds, body.clear_for_seconds) = (86_400, u32::MAX));
    assert_eq!((slow.hold, slow.clear), (86_400 * SECOND, i64::from(u32::MAX) * SECOND));
    assert_eq!(timed(|body| body.gap_seconds = Some(0)).gap, Some(0));
    for off in [0, 1] {
        let body = RuleBody { flap_count: off, ..rule("voltage_l1_v > 1") };
        assert_eq!(planner.compile(&body).expect("a rule").terms().flapping, None, "{off}");
    }
    let many = timed(|body| body.flap_count = 1000);
    assert_eq!(many.flapping.map(|f| f.count), Some(MOST_FLAPS), "more are not remembered");
}

#[test]
fn every_function_that_a_rule_may_call_takes_any_reading() {
    for (call, text) in [
        ("abs(voltage_l1_v)", false),
        ("cbrt(voltage_l1_v)", false),
        ("ceil(voltage_l1_v)", false),
        ("coalesce(voltage_l1_v, 1)", false),
        ("exp(voltage_l1_v)", false),
        ("floor(voltage_l1_v)", false),
        ("greatest(voltage_l1_v, voltage_l2_v)", false),
        ("least(voltage_l1_v, voltage_l2_v)", false),
        ("nanvl(voltage_l1_v, 1)", false),
        ("nullif(voltage_l1_v, 1)", false),
        ("nvl(voltage_l1_v, 1)", false),
        ("round(voltage_l1_v)", false),
        ("signum(voltage_l1_v)", false),
        ("trunc(voltage_l1_v)", false),
        ("lower(source)", true),
        ("upper(source)", true),
    ] {
        let limit = if text { "'x'" } else { "1" };
        let rule = compile(&format!("{call} > {limit}")).unwrap_or_else(|e| panic!("{call}: {e}"));
        let hostile = [None, Some(0.0), Some(-1.0), Some(999_999.0)];
        let batch = inputs("voltage_l1_v", &hostile, &rule);
        assert!(rule.breaches(&batch).is_ok(), "{call}");
    }
}

#[test]
fn a_rule_reads_the_columns_of_its_texts_and_no_others() {
    let planner = Planner::new().expect("a planner");
    let mut body = rule("voltage_l1_v > nominal_voltage_v");
    body.clear_when = Some("frequency_hz > 1".into());
    body.message = Some("{device_id} {load_type} {current_avg_a}".into());
    let compiled = planner.compile(&body).expect("a rule");
    let names = Inputs::columns_of(compiled.needed());
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["current_avg_a", "frequency_hz", "load_type", "voltage_l1_v"]);
}

#[test]
fn the_position_of_a_fault_counts_characters_and_lines() {
    let fault = compile("source = 'é' and\n  load_type = 'ü' and nonsense > 1").map(|_| ());
    let fault = fault.expect_err("no such column");
    assert_eq!((fault.line, fault.column), (Some(2), Some(23)), "{fault}");
    let fault = compile("source = 'é' and\nvoltage_l1_v >").map(|_| ()).expect_err("it ends");
    assert_eq!((fault.line, fault.column), (Some(2), Some(15)), "{fault}");
}

#[test]
fn a_value_that_is_missing_can_be_replaced_by_another() {
    for text in [
        "coalesce(voltage_l1_v, 260) > 250",
        "nvl(voltage_l1_v, 260) > 250",
        "ifnull(voltage_l1_v, 260) > 250",
        "coalesce(voltage_l2_v, voltage_l1_v, 260.0) > 250",
        "coalesce(voltage_l2_v > 250, voltage_l1_v > 250, true)",
    ] {
        let rule = compile(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let batch = inputs("voltage_l1_v", &[Some(230.0), None, Some(251.0)], &rule);
        assert_eq!(states(&rule, &batch), "cbb", "{text}");
    }
    let rule = compile("coalesce(voltage_l1_v, 260) > 250").expect("a rule");
    let batch = inputs("voltage_l1_v", &[None], &rule);
    assert_eq!(rule.values(&batch, 0), (Some(260.0), Some(250.0)));
    // Each level doubles what is inside it.
    let nested = |levels: usize| {
        (0..levels).fold("voltage_l1_v".to_owned(), |x, _| format!("nvl({x}, 1)")) + " > 1"
    };
    assert!(compile(&nested(8)).is_ok());
    let fault = compile(&nested(20)).map(|_| ()).expect_err("too many steps");
    assert!(fault.message.contains("steps"), "{fault}");
}
