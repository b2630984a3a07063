//! What is wrong with a predicate, and the place in its text where a person looks for it.

use datafusion::{common::SchemaError, error::DataFusionError};

/// What is wrong with a rule, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}{}: {message}", place(*line, *column))]
pub struct Fault {
    /// The field: `when`, `clear_when`, `message`.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// The line, from 1, where a place can be named.
    pub line: Option<u64>,
    /// The character in it, from 1.
    pub column: Option<u64>,
}

fn place(line: Option<u64>, column: Option<u64>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!(" (line {line}, column {column})"),
        _ => String::new(),
    }
}

/// An error of DataFusion's with the place that it is about.
pub(super) fn placed(field: &'static str, text: &str, error: &DataFusionError) -> Fault {
    let root = error.find_root();
    if let DataFusionError::SchemaError(schema, _) = root
        && let SchemaError::FieldNotFound { field: missing, .. } = schema.as_ref()
    {
        let message = format!("there is no column {}", missing.name);
        return at_word(field, text, &missing.name, message);
    }
    let said = root.strip_backtrace();
    let said = said.lines().next().unwrap_or_default();
    let message = ["SQL error: ", "Error during planning: ", "Arrow error: "]
        .iter()
        .fold(said.to_owned(), |said, prefix| said.replace(prefix, ""));
    let message = message
        .strip_prefix("ParserError(\"")
        .and_then(|inner| inner.strip_suffix("\")"))
        .map_or_else(|| message.clone(), str::to_owned);
    if message.ends_with("found: EOF") {
        let line = text.matches('\n').count() as u64 + 1;
        let column = text.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
        return Fault { field, message, line: Some(line), column: Some(column) };
    }
    // sqlparser says where: "... at Line: 1, Column: 7".
    let after = |mark: &str| {
        let (_, rest) = message.split_once(mark)?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok()
    };
    let (line, column) = (after("Line: "), after("Column: "));
    Fault { field, message, line: line.or(Some(1)), column: column.or(Some(1)) }
}

/// A fault at the first place of a word.
pub(super) fn at_word(field: &'static str, text: &str, word: &str, message: String) -> Fault {
    let lower = text.to_lowercase();
    let at = lower.find(&word.to_lowercase()).filter(|_| !word.is_empty()).unwrap_or(0);
    let before = lower.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
    Fault { field, message, line: Some(line), column: Some(column) }
}
