//! One rule over the readings of one batch.

use std::sync::Arc;

use acuvim_model::event::{Mark, alert_id};
use acuvim_wire::Micros;
use arrow::array::BooleanArray;

use super::{
    batch::{BatchDevice, Sample},
    result::{BACKFILLED_AFTER, Stepped},
};
use crate::{
    episode::{ReadingState, State, Step},
    inputs::Inputs,
    message::{MessageContext, render},
    plan::Compiled,
    rows::Rows,
    set::LiveRule,
};

/// One rule on one batch.
pub(super) struct RuleRun<'a> {
    pub rule: &'a LiveRule,
    /// The index of the rule in its set.
    pub index: usize,
    /// Readings before this event time are not evaluated.
    pub from: Micros,
    pub rows: &'a Rows<'a>,
    pub devices: &'a [BatchDevice],
    pub inputs: &'a Inputs,
}

impl RuleRun<'_> {
    /// Applies one reading to the state of its device. `when` and `clears` are the results of the rule for
    /// the batch.
    pub fn apply(
        &self,
        state: &mut State,
        sample: &Sample,
        when: &BooleanArray,
        clears: Option<&BooleanArray>,
    ) -> Option<Stepped> {
        let device = self.devices.get(sample.device)?;
        let (rule, row) = (self.rule, sample.row);
        let received = self.rows.received.get(row).copied().unwrap_or(0);
        let applies = device.applying.get(self.index).copied().unwrap_or(false);
        let mark = self.rows.mark(row);
        // Not even as a missing value: what an earlier version of the rule has found stays as it
        // is.
        if mark.ts < self.from {
            return None;
        }
        // A device that leaves the scope of a rule neither raises nor clears its episodes.
        let reading = match applies && received >= rule.since {
            true => Compiled::state_of(when, clears, row),
            false => ReadingState::Unknown,
        };
        let id = |first: &Mark| alert_id(&device.id, &rule.id.to_string(), first.ts);
        let terms = rule.compiled.terms;
        let torn = sample.before.is_torn(mark.ts, terms.gap);
        let step = state.step(mark, torn, reading, terms, id)?;
        let raised = matches!(step, Step::Raised(_));
        let flaps = matches!(step, Step::Raised(open) if open.flapping);
        let (value, threshold) = match raised {
            true => rule.compiled.values(self.inputs, row),
            false => (None, None),
        };
        let context = || MessageContext {
            rule: &rule.body.name,
            device_id: &device.id,
            value,
            threshold,
            inputs: self.inputs,
            row,
        };
        let mut message = match raised {
            true => render(rule.body.message.as_deref(), &context()),
            false => String::new(),
        };
        if flaps {
            let (count, seconds) = (rule.body.flap_count, rule.body.flap_seconds);
            message.push_str(&format!(
                " (it flaps: {count} times within {seconds} s; open until it has ceased for as long)"
            ));
        }
        Some(Stepped {
            device_id: Arc::clone(&device.id),
            rule_id: rule.id,
            rule_version: rule.version,
            step,
            value,
            threshold,
            message,
            // By the arrival of the reading and not by the current time, so that a second run over
            // the log decides the same.
            backfilled: received - mark.ts > BACKFILLED_AFTER,
        })
    }
}
