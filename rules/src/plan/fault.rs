//! Why a rule is refused, with the position in its text.

use datafusion::{common::SchemaError, error::DataFusionError};

/// Why a rule is refused, with the position in its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}{}: {message}", position(*line, *column))]
pub struct RuleFault {
    /// The field: `when`, `clear_when`, `message`.
    pub field: &'static str,
    /// What is wrong, as a sentence for the person who wrote the rule.
    pub message: String,
    /// The line, from 1, if there is a position.
    pub line: Option<u64>,
    /// The character in the line, from 1.
    pub column: Option<u64>,
}

fn position(line: Option<u64>, column: Option<u64>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!(" (line {line}, column {column})"),
        _ => String::new(),
    }
}

/// Converts an error of DataFusion, and finds its position.
pub(super) fn from_datafusion(
    field: &'static str,
    text: &str,
    error: &DataFusionError,
) -> RuleFault {
    let root = error.find_root();
    if let DataFusionError::SchemaError(schema, _) = root
        && let SchemaError::FieldNotFound { field: missing, .. } = schema.as_ref()
    {
        let message = format!("there is no column {}", missing.name);
        return at_word(field, text, &missing.name, message);
    }
    let message = root.strip_backtrace();
    let message = message.lines().next().unwrap_or_default();
    let message = ["SQL error: ", "Error during planning: ", "Arrow error: "]
        .iter()
        .fold(message.to_owned(), |message, prefix| message.replace(prefix, ""));
    let message = message
        .strip_prefix("ParserError(\"")
        .and_then(|inner| inner.strip_suffix("\")"))
        .map_or_else(|| message.clone(), str::to_owned);
    // At the end of the text sqlparser gives no position.
    if message.ends_with("found: EOF") {
        let line = text.matches('\n').count() as u64 + 1;
        let column = text.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
        return RuleFault { field, message, line: Some(line), column: Some(column) };
    }
    // sqlparser gives the position only in its text: "... at Line: 1, Column: 7".
    let after = |mark: &str| {
        let (_, rest) = message.split_once(mark)?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok()
    };
    let (line, column) = (after("Line: "), after("Column: "));
    RuleFault { field, message, line: line.or(Some(1)), column: column.or(Some(1)) }
}

/// A fault at the first occurrence of a word.
pub(super) fn at_word(field: &'static str, text: &str, word: &str, message: String) -> RuleFault {
    let lower = text.to_lowercase();
    let at = lower.find(&word.to_lowercase()).filter(|_| !word.is_empty()).unwrap_or(0);
    let before = lower.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
    RuleFault { field, message, line: Some(line), column: Some(column) }
}
