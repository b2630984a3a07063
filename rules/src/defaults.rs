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
mod tests {
    use super::*;
    use crate::Planner;

    #[test]
    fn every_default_rule_compiles_and_has_a_unique_name() {
        let rules = default_rules().expect("rules");
        let planner = Planner::new().expect("a planner");
        let mut names: Vec<&str> = rules.iter().map(|r| r.name.as_str()).collect();
        for rule in &rules {
            planner.compile(rule).unwrap_or_else(|fault| panic!("{}: {fault}", rule.name));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rules.len());
    }
}
