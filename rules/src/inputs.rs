//! The input of predicates: readings as floats, with the nominal values of the device of each row.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use acuvim_tables::Table;
use acuvim_wire::reading::READINGS;
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float64Array, RecordBatch, new_null_array},
    datatypes::{DataType, Decimal128Type, Field, Schema, SchemaRef},
    error::ArrowError,
};
use uuid::Uuid;

/// The properties of a device that rules depend on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Site {
    /// The group that it is in, if any.
    pub group_id: Option<Uuid>,
    /// All tags that it has.
    pub tags: Vec<String>,
    /// The nominal voltage, line to neutral; its own or that of its group.
    pub nominal_voltage_v: Option<f64>,
    /// The nominal frequency; its own or that of its group.
    pub nominal_frequency_hz: Option<f64>,
}

/// The columns with properties of the device.
pub(crate) const NOMINAL_VOLTAGE: &str = "nominal_voltage_v";
pub(crate) const NOMINAL_FREQUENCY: &str = "nominal_frequency_hz";
const TEXTS: [&str; 3] = ["load_type", "source", "connection"];

/// The columns that predicates can use: readings as floats, a few texts, and nominal values.
pub(crate) fn schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let make = || {
        let mut fields: Vec<Field> =
            READINGS.iter().map(|r| Field::new(r.name, DataType::Float64, true)).collect();
        fields.extend(TEXTS.map(|name| Field::new(name, DataType::Utf8, true)));
        let nominal = [NOMINAL_VOLTAGE, NOMINAL_FREQUENCY];
        fields.extend(nominal.map(|name| Field::new(name, DataType::Float64, true)));
        Arc::new(Schema::new(fields))
    };
    Arc::clone(SCHEMA.get_or_init(make))
}

/// A batch in the schema of predicates.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Columns that no predicate needs are null.
    pub(crate) batch: RecordBatch,
}

impl Inputs {
    /// Converts rows of `telemetry`, or of a projection of it, with the site of each row. Only the needed
    /// columns are converted.
    ///
    /// # Errors
    /// If a column has another type than in the table.
    pub fn new<'s>(
        rows: &RecordBatch,
        site: impl Fn(usize) -> &'s Site,
        needed: &BTreeSet<usize>,
    ) -> Result<Self, ArrowError> {
        let schema = schema();
        let count = rows.num_rows();
        let floats = new_null_array(&DataType::Float64, count);
        let texts = new_null_array(&DataType::Utf8, count);
        let nominal = |get: fn(&Site) -> Option<f64>| -> ArrayRef {
            Arc::new((0..count).map(|row| get(site(row))).collect::<Float64Array>())
        };
        let column = |(index, field): (usize, &Arc<Field>)| -> Result<ArrayRef, ArrowError> {
            // Converting a column costs more than evaluating a rule on it.
            let given = rows.column_by_name(field.name()).filter(|_| needed.contains(&index));
            match (field.data_type(), given) {
                (DataType::Utf8, Some(given)) => Ok(Arc::clone(given)),
                (DataType::Utf8, None) => Ok(Arc::clone(&texts)),
                (_, Some(given)) => to_floats(given),
                (_, None) if !needed.contains(&index) => Ok(Arc::clone(&floats)),
                (_, None) if field.name() == NOMINAL_VOLTAGE => {
                    Ok(nominal(|site| site.nominal_voltage_v))
                }
                (_, None) if field.name() == NOMINAL_FREQUENCY => {
                    Ok(nominal(|site| site.nominal_frequency_hz))
                }
                (_, None) => Ok(Arc::clone(&floats)),
            }
        };
        let columns = schema.fields().iter().enumerate().map(column).collect::<Result<_, _>>()?;
        Ok(Self { batch: RecordBatch::try_new(schema, columns)? })
    }

    /// The needed columns of `telemetry`, for the projection of a scan.
    #[must_use]
    pub fn columns_of(needed: &BTreeSet<usize>) -> Vec<String> {
        let telemetry = Table::Telemetry.schema();
        let schema = schema();
        let names = needed.iter().filter_map(|i| schema.fields().get(*i)).map(|f| f.name().clone());
        names.filter(|name| telemetry.field_with_name(name).is_ok()).collect()
    }
}

/// Converts decimals to the nearest floats.
fn to_floats(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let DataType::Decimal128(_, scale) = column.data_type() else {
        return arrow::compute::cast(column, &DataType::Float64);
    };
    let divisor = 10_f64.powi(i32::from(*scale));
    let decimals = column.as_primitive::<Decimal128Type>();
    // Unscaled readings are far below 2^53, so the division is the only rounding.
    let floats: Float64Array = decimals.unary(|unscaled| unscaled as f64 / divisor);
    debug_assert_eq!(floats.len(), column.len());
    Ok(Arc::new(floats))
}

#[cfg(test)]
mod tests;
