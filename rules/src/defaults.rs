//! The rules of the first start: data, loaded once, and a person's to change.

use acuvim_schemas::api::RuleBody;

/// The default rules, after EN 50160, ANSI C84.1 and NEMA MG-1.
///
/// # Errors
/// Only if the file that is built in is damaged.
pub fn default_rules() -> Result<Vec<RuleBody>, serde_json::Error> {
    serde_json::from_str(include_str!("defaults.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Planner;

    #[test]
    fn every_default_rule_can_run_and_has_a_name_of_its_own() {
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
