//! The rules in force, ready to run.

use std::collections::BTreeSet;

use acuvim_schemas::{
    Micros,
    api::{RuleBody, RuleMode},
    telemetry::MAX_AHEAD,
};
use uuid::Uuid;

use crate::{inputs::Site, judge::Rows, plan::Compiled};

/// A stored rule, ready to run.
#[derive(Debug, Clone)]
pub struct LiveRule {
    /// Its id.
    pub id: Uuid,
    /// Its version.
    pub version: i64,
    /// Since when there is this rule: it judges what was received from then on.
    pub since: Micros,
    /// When it was last changed, if it ever was.
    pub edited: Option<Micros>,
    /// What it says.
    pub body: RuleBody,
    /// And how it is evaluated.
    pub compiled: Compiled,
}

/// The rules in force.
#[derive(Debug, Clone)]
pub struct RuleSet {
    /// Counts the changes of rules and of what they need to know of devices.
    pub revision: i64,
    rules: Vec<LiveRule>,
    needed: BTreeSet<usize>,
    repairs: bool,
    /// How far ahead of its arrival a reading may be and still be of the present.
    max_ahead: Micros,
}

impl Default for RuleSet {
    fn default() -> Self {
        Self::new(0, Vec::new())
    }
}

impl RuleSet {
    /// These rules; those that are off are left out.
    #[must_use]
    pub fn new(revision: i64, rules: Vec<LiveRule>) -> Self {
        let rules: Vec<LiveRule> =
            rules.into_iter().filter(|r| r.body.mode != RuleMode::Off).collect();
        let needed = rules.iter().flat_map(|r| r.compiled.needed.iter().copied()).collect();
        Self { revision, rules, needed, repairs: false, max_ahead: MAX_AHEAD }
    }

    /// The same rules, for readings that are so far ahead of their arrival at most: what is further
    /// ahead is of a clock that is wrong, and moves nothing.
    #[must_use]
    pub const fn ahead(mut self, max_ahead: Micros) -> Self {
        self.max_ahead = max_ahead;
        self
    }

    /// Whether a reading is of the present, or of the past, when it arrives.
    pub(crate) fn is_of_now(&self, rows: &Rows<'_>, row: usize) -> bool {
        let at = |column: &[Micros]| column.get(row).copied().unwrap_or(0);
        at(rows.ts) <= at(rows.received).saturating_add(self.max_ahead)
    }

    /// The same rules at another revision.
    #[must_use]
    pub const fn revised(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[LiveRule] {
        &self.rules
    }

    /// The same rules for a repair: what happened before a rule was last changed stays as it was found
    /// then.
    #[must_use]
    pub fn for_repair(&self) -> Self {
        Self { repairs: true, ..self.clone() }
    }

    /// From which event time on a rule judges.
    #[must_use]
    pub fn begin_of(&self, rule: &LiveRule) -> Micros {
        rule.edited.filter(|_| self.repairs).unwrap_or(Micros::MIN)
    }

    /// The columns that they read.
    #[must_use]
    pub const fn needed(&self) -> &BTreeSet<usize> {
        &self.needed
    }

    /// The longest time that a rule waits, either way.
    #[must_use]
    pub fn longest_wait(&self) -> Micros {
        self.rules.iter().map(|r| r.compiled.terms.longest_wait()).max().unwrap_or(0)
    }

    /// How long the beginning of an episode counts for whether a rule flaps: the longest.
    #[must_use]
    pub fn longest_memory(&self) -> Micros {
        let windows = self.rules.iter().filter_map(|r| r.compiled.terms.flapping);
        windows.map(|flapping| flapping.window).max().unwrap_or(0)
    }

    /// Which rules judge a device.
    pub(crate) fn applying(&self, device_id: &str, site: &Site) -> Vec<bool> {
        let applies = |rule: &LiveRule| {
            rule.body.scope.has(device_id, site.group_id, &site.tags)
                && rule.compiled.can_judge(site)
        };
        self.rules.iter().map(applies).collect()
    }
}
