//! The message of an alert, from a template with names in braces.

use arrow::{array::Array as _, array::AsArray as _, datatypes::DataType, datatypes::Float64Type};

use crate::inputs::{self, Inputs};

/// The longest template, in characters.
// A mail's subject and a phone's screen show less than this.
const MAX_LENGTH: usize = 500;

/// The names that are not columns.
const NAMES: [&str; 4] = ["device_id", "value", "threshold", "rule"];

/// The pieces of a template: each a text, and the name in braces after it.
fn pieces(template: &str) -> Result<Vec<(&str, Option<&str>)>, String> {
    let (mut rest, mut found) = (template, Vec::new());
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| "a { has no } after it".to_owned())?;
        found.push((text, Some(name)));
        rest = after;
    }
    found.push((rest, None));
    Ok(found)
}

/// The columns in a template, or why it is invalid.
pub(crate) fn columns(template: &str) -> Result<Vec<&str>, String> {
    if template.chars().count() > MAX_LENGTH {
        return Err(format!("at most {MAX_LENGTH} characters"));
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

/// The values that a message is made from.
pub(crate) struct MessageContext<'a> {
    pub rule: &'a str,
    pub device_id: &'a str,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub inputs: &'a Inputs,
    pub row: usize,
}

/// The message of an alert; without a template, a default one.
pub(crate) fn render(template: Option<&str>, context: &MessageContext<'_>) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), short);
    let Some(pieces) = template.and_then(|t| pieces(t).ok()) else {
        return match (context.value, context.threshold) {
            (Some(value), Some(threshold)) => {
                format!("{}: {} against {}", context.rule, short(value), short(threshold))
            }
            _ => context.rule.to_owned(),
        };
    };
    let mut message = String::new();
    for (text, name) in pieces {
        message.push_str(text);
        match name {
            Some("device_id") => message.push_str(context.device_id),
            Some("rule") => message.push_str(context.rule),
            Some("value") => message.push_str(&number(context.value)),
            Some("threshold") => message.push_str(&number(context.threshold)),
            // The values are pushed and never parsed again, so that braces in a device's id stay
            // braces.
            Some(column) => message.push_str(&cell(context, column)),
            None => {}
        }
    }
    message
}

fn cell(context: &MessageContext<'_>, column: &str) -> String {
    let Some(column) = context.inputs.batch.column_by_name(column) else { return "?".to_owned() };
    if column.is_null(context.row) {
        return "?".to_owned();
    }
    match column.data_type() {
        DataType::Float64 => short(column.as_primitive::<Float64Type>().value(context.row)),
        _ => column.as_string::<i32>().value(context.row).to_owned(),
    }
}

/// A number with at most three decimals.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    // A small negative number rounds to a zero that has kept its sign.
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests;
