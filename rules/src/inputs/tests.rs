use arrow::array::{Int32Array, StringArray};

use super::*;
use crate::testing::{Reading, reading, rows};

fn index(name: &str) -> usize {
    schema().index_of(name).expect("a column")
}

fn floats(inputs: &Inputs, name: &str) -> Vec<Option<f64>> {
    let column = inputs.batch.column_by_name(name).expect("a column");
    column.as_primitive::<arrow::datatypes::Float64Type>().iter().collect()
}

#[test]
fn a_reading_becomes_the_nearest_float() {
    let volts = [230.1, 0.1, -0.3, 999.999].map(|volts| reading("a", 0, volts));
    let missing = Reading { volts: None, ..reading("a", 0, 0.0) };
    let batch = rows(&[&volts[..], &[missing]].concat());
    let site = Site::default();
    let inputs = Inputs::new(&batch, |_| &site, &BTreeSet::from([index("voltage_l1_v")]));
    let found = floats(&inputs.expect("inputs"), "voltage_l1_v");
    let scale = Table::Telemetry.schema();
    let scale = scale.field_with_name("voltage_l1_v").expect("a column").data_type().clone();
    let DataType::Decimal128(_, scale) = scale else { panic!("{scale}") };
    let rounded = |volts: f64| {
        let factor = 10_f64.powi(i32::from(scale));
        (volts * factor).round() / factor
    };
    let wanted = [230.1, 0.1, -0.3, 999.999].map(|volts| Some(rounded(volts)));
    assert_eq!(found, [&wanted[..], &[None]].concat());
}

#[test]
fn a_column_that_no_rule_needs_is_null() {
    let batch = rows(&[Reading { amps: Some(5.0), ..reading("a", 0, 230.0) }]);
    let site = Site { nominal_voltage_v: Some(230.0), ..Site::default() };
    let needed = BTreeSet::from([index("current_avg_a")]);
    let inputs = Inputs::new(&batch, |_| &site, &needed).expect("inputs");
    assert_eq!(floats(&inputs, "current_avg_a"), [Some(5.0)]);
    assert_eq!(floats(&inputs, "voltage_l1_v"), [None]);
    assert_eq!(floats(&inputs, NOMINAL_VOLTAGE), [None]);
}

#[test]
fn each_row_has_the_nominal_values_of_its_device() {
    let batch = rows(&[reading("a", 0, 1.0), reading("b", 0, 1.0)]);
    let sites = [
        Site {
            nominal_voltage_v: Some(230.0),
            nominal_frequency_hz: Some(50.0),
            ..Site::default()
        },
        Site { nominal_voltage_v: Some(120.0), ..Site::default() },
    ];
    let needed = BTreeSet::from([index(NOMINAL_VOLTAGE), index(NOMINAL_FREQUENCY)]);
    let inputs = Inputs::new(&batch, |row| &sites[row], &needed).expect("inputs");
    assert_eq!(floats(&inputs, NOMINAL_VOLTAGE), [Some(230.0), Some(120.0)]);
    assert_eq!(floats(&inputs, NOMINAL_FREQUENCY), [Some(50.0), None]);
}

#[test]
fn a_needed_column_that_the_rows_lack_is_null() {
    let batch = rows(&[reading("a", 0, 1.0)]);
    let site = Site::default();
    let needed = BTreeSet::from([index("frequency_hz"), index("load_type")]);
    let inputs = Inputs::new(&batch, |_| &site, &needed).expect("inputs");
    assert_eq!(floats(&inputs, "frequency_hz"), [None]);
    assert!(inputs.batch.column_by_name("load_type").expect("a column").is_null(0));
}

#[test]
fn a_column_of_another_type_is_an_error() {
    let batch = RecordBatch::try_new(
        Arc::new(Schema::new(vec![Field::new("load_type", DataType::Int32, true)])),
        vec![Arc::new(Int32Array::from(vec![1]))],
    );
    let (site, needed) = (Site::default(), BTreeSet::from([index("load_type")]));
    assert!(Inputs::new(&batch.expect("rows"), |_| &site, &needed).is_err());
    // A text where a number should be is one only if it is not a number.
    let texts = |text: &str| {
        let schema = Schema::new(vec![Field::new("voltage_l1_v", DataType::Utf8, true)]);
        let column = Arc::new(StringArray::from(vec![text]));
        RecordBatch::try_new(Arc::new(schema), vec![column]).expect("rows")
    };
    let needed = BTreeSet::from([index("voltage_l1_v")]);
    let inputs = Inputs::new(&texts("230.5"), |_| &site, &needed).expect("inputs");
    assert_eq!(floats(&inputs, "voltage_l1_v"), [Some(230.5)]);
}

#[test]
fn a_scan_reads_only_columns_of_the_table() {
    let needed = [NOMINAL_VOLTAGE, "voltage_l1_v", "source"].map(index);
    let mut columns = Inputs::columns_of(&needed.into_iter().chain([usize::MAX]).collect());
    columns.sort_unstable();
    assert_eq!(columns, ["source", "voltage_l1_v"]);
}
