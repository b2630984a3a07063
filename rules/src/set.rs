//! The rules in force.

use std::collections::BTreeSet;

use acuvim_model::{RuleBody, RuleMode};
use acuvim_wire::{Micros, telemetry::MAX_AHEAD};
use uuid::Uuid;

use crate::{inputs::Site, plan::Compiled, rows::Rows};

/// A stored rule with its compiled form.
#[derive(Debug, Clone)]
pub struct LiveRule {
    /// The id of the rule.
    pub id: Uuid,
    /// The version of the rule.
    pub version: i64,
    /// When it was created. Readings that arrived earlier are not evaluated.
    pub since: Micros,
    /// When it was last changed, if ever.
    pub edited: Option<Micros>,
    /// The rule as it is stored.
    pub body: RuleBody,
    /// What `body` compiles to.
    pub compiled: Compiled,
}

/// The rules in force.
#[derive(Debug, Clone)]
pub struct RuleSet {
    /// Changes with the rules and with the properties of devices that they depend on.
    pub revision: i64,
    rules: Vec<LiveRule>,
    needed: BTreeSet<usize>,
    /// Whether the set is for a repair.
    repairs: bool,
    /// Readings further ahead of their arrival than this are ignored, because their clock was wrong.
    max_ahead: Micros,
}

impl Default for RuleSet {
    fn default() -> Self {
        Self::new(0, Vec::new())
    }
}

impl RuleSet {
    /// A set of rules, without those that are switched off.
    #[must_use]
    pub fn new(revision: i64, rules: Vec<LiveRule>) -> Self {
        let rules: Vec<LiveRule> =
            rules.into_iter().filter(|r| r.body.mode != RuleMode::Off).collect();
        let needed = rules.iter().flat_map(|r| r.compiled.needed.iter().copied()).collect();
        Self { revision, rules, needed, repairs: false, max_ahead: MAX_AHEAD }
    }

    /// The same set, ignoring readings that are further ahead of their arrival than this.
    #[must_use]
    pub const fn ahead(mut self, max_ahead: Micros) -> Self {
        self.max_ahead = max_ahead;
        self
    }

    /// Whether a reading is not too far ahead of its arrival.
    pub(crate) fn is_of_now(&self, rows: &Rows<'_>, row: usize) -> bool {
        let at = |column: &[Micros]| column.get(row).copied().unwrap_or(0);
        // A time in the future would make every reading until then a late one.
        at(rows.ts) <= at(rows.received).saturating_add(self.max_ahead)
    }

    /// The same set at another revision.
    #[must_use]
    pub const fn revised(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    /// The rules, in the order in which they were given; those that are switched off are not among them.
    #[must_use]
    pub fn rules(&self) -> &[LiveRule] {
        &self.rules
    }

    /// The same set for a repair. What happened before the last change of a rule stays as its earlier version
    /// found it.
    #[must_use]
    pub fn for_repair(&self) -> Self {
        Self { repairs: true, ..self.clone() }
    }

    /// The event time from which on a rule is evaluated.
    #[must_use]
    pub fn begin_of(&self, rule: &LiveRule) -> Micros {
        rule.edited.filter(|_| self.repairs).unwrap_or(Micros::MIN)
    }

    /// The columns that the rules read.
    #[must_use]
    pub const fn needed(&self) -> &BTreeSet<usize> {
        &self.needed
    }

    /// The longest time that any rule waits for anything.
    #[must_use]
    pub fn longest_wait(&self) -> Micros {
        self.rules.iter().map(|r| r.compiled.terms.longest_wait()).max().unwrap_or(0)
    }

    /// The longest window for flapping.
    #[must_use]
    pub fn longest_memory(&self) -> Micros {
        let windows = self.rules.iter().filter_map(|r| r.compiled.terms.flapping);
        windows.map(|flapping| flapping.window).max().unwrap_or(0)
    }

    /// Which rules apply to a device.
    pub(crate) fn applying(&self, device_id: &str, site: &Site) -> Vec<bool> {
        let applies = |rule: &LiveRule| {
            rule.body.scope.has(device_id, site.group_id, &site.tags)
                && rule.compiled.can_judge(site)
        };
        self.rules.iter().map(applies).collect()
    }
}

#[cfg(test)]
mod tests;
