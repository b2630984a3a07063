//! An alert's words: a template with names in braces.

use arrow::{array::Array as _, array::AsArray as _, datatypes::DataType, datatypes::Float64Type};

use crate::inputs::{self, Inputs};

/// The longest message there is, in characters.
const LONGEST: usize = 500;

/// The names beside columns.
const NAMES: [&str; 4] = ["device_id", "value", "threshold", "rule"];

/// The pieces of a template: texts, and names in braces.
fn pieces(template: &str) -> Result<Vec<(&str, Option<&str>)>, String> {
    let (mut rest, mut found) = (template, Vec::new());
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| "a { has no } behind it".to_owned())?;
        found.push((text, Some(name)));
        rest = after;
    }
    found.push((rest, None));
    Ok(found)
}

/// The columns that a template names.
pub(crate) fn columns(template: &str) -> Result<Vec<&str>, String> {
    if template.chars().count() > LONGEST {
        return Err(format!("at most {LONGEST} characters"));
    }
    let schema = inputs::schema();
    let mut columns = Vec::new();
    for (_, name) in pieces(template)? {
        match name {
            Some(name) if NAMES.contains(&name) => {}
            Some(name) if schema.index_of(name).is_ok() => columns.push(name),
            Some(name) => {
                let names = NAMES.map(|n| format!("{{{n}}}")).join(", ");
                return Err(format!("{{{name}}} is neither a column nor one of {names}"));
            }
            None => {}
        }
    }
    Ok(columns)
}

/// What a message is made of.
pub(crate) struct Said<'a> {
    pub rule: &'a str,
    pub device_id: &'a str,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub inputs: &'a Inputs,
    pub row: usize,
}

/// The message of an alert.
pub(crate) fn render(template: Option<&str>, said: &Said<'_>) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), short);
    let Some(pieces) = template.and_then(|t| pieces(t).ok()) else {
        return match (said.value, said.threshold) {
            (Some(value), Some(threshold)) => {
                format!("{}: {} against {}", said.rule, short(value), short(threshold))
            }
            _ => said.rule.to_owned(),
        };
    };
    let mut message = String::new();
    for (text, name) in pieces {
        message.push_str(text);
        match name {
            Some("device_id") => message.push_str(said.device_id),
            Some("rule") => message.push_str(said.rule),
            Some("value") => message.push_str(&number(said.value)),
            Some("threshold") => message.push_str(&number(said.threshold)),
            Some(column) => message.push_str(&cell(said, column)),
            None => {}
        }
    }
    message
}

fn cell(said: &Said<'_>, column: &str) -> String {
    let Some(column) = said.inputs.batch.column_by_name(column) else { return "?".to_owned() };
    if column.is_null(said.row) {
        return "?".to_owned();
    }
    match column.data_type() {
        DataType::Float64 => short(column.as_primitive::<Float64Type>().value(said.row)),
        _ => column.as_string::<i32>().value(said.row).to_owned(),
    }
}

/// A number with three digits behind the point at most.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_checked_and_numbers_are_short() {
        assert_eq!(
            columns("{device_id}: {value} over {threshold} V, {frequency_hz} Hz"),
            Ok(vec!["frequency_hz"])
        );
        assert!(columns("{nonsense}").is_err());
        assert!(columns("{value").is_err());
        assert!(columns(&"x".repeat(501)).is_err());
        assert_eq!([253.1, 253.0, 0.1239, -7.0].map(short), ["253.1", "253", "0.124", "-7"]);
    }
}
