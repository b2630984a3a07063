//! Components that have been away for a while.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use acuvim_control::SystemCondition;
use acuvim_wire::payload::Severity;
use serde_json::json;

use crate::state::StateSender;

/// How long a component must be away to raise an alert. Shorter outages are routine: a restart of a
/// broker or a database.
const ALERT_AFTER: Duration = Duration::from_secs(60);

/// Since when each component has been away.
#[derive(Debug, Default)]
pub(super) struct Outages {
    since: HashMap<&'static str, Instant>,
}

impl Outages {
    /// The outages that have lasted long enough for an alert.
    pub fn lasting(&mut self, state: &StateSender) -> Vec<SystemCondition> {
        let troubles = state.troubles();
        self.since.retain(|name, _| troubles.iter().any(|(n, _)| n == name));
        let mut lasting = Vec::new();
        for (name, reason) in troubles {
            if self.since.entry(name).or_insert_with(Instant::now).elapsed() >= ALERT_AFTER {
                lasting.push(SystemCondition {
                    alert_type: "component_away",
                    subject: name.to_owned(),
                    severity: Severity::Critical,
                    message: format!("{name} has been away for more than a minute: {reason}"),
                    metadata: json!({ "component": name, "reason": reason }),
                });
            }
        }
        lasting
    }
}

#[cfg(test)]
mod tests;
