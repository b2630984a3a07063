//! The default rules. They are stored at the first start, and people may change them afterwards.

use acuvim_model::RuleBody;

/// The default rules, after EN 50160, ANSI C84.1 and NEMA MG-1.
///
/// # Errors
/// Only if the built-in file is not valid.
pub fn default_rules() -> Result<Vec<RuleBody>, serde_json::Error> {
    serde_json::from_str(include_str!("defaults.json"))
}

#[cfg(test)]
mod tests;
