//! Evaluates rules and counters on rows: new ones, and stored ones that control has no evaluation
//! of.

use std::{collections::HashMap, mem, ops::Range, sync::Arc};

use acuvim_rules::{Evaluation, LONGEST_GAP, Recent};
use acuvim_wire::{Micros, telemetry::Limits, time};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};

use super::{
    catch_up::CatchUp, evaluation::BatchEvaluation, evaluator::RuleEvaluator, phase::Phase,
};
use crate::{fatal::Fatal, partition::decode::arrivals};

/// The readings from which a device's usual interval is known.
pub(super) const RECENT_READINGS: usize = 6;

/// How far back they are looked for; most are found in the first, shorter span.
pub(super) const RECENT_SPANS: [Micros; 2] = [time::HOUR, 3 * LONGEST_GAP];

/// The time of the newest reading that each device of a batch had before it.
pub(super) type NewestBefore = HashMap<Arc<str>, Option<Micros>>;

impl RuleEvaluator {
    /// The newest reading of each device of these rows. Has to be taken before the rows are pushed
    /// to the tail.
    pub fn newest_before(&self, rows: &RecordBatch) -> NewestBefore {
        let mut newest = HashMap::new();
        if let Some(devices) = rows.column_by_name("device_id") {
            let latest = self.context.dependencies.lake.latest();
            for device in devices.as_string::<i32>().iter().flatten() {
                if !newest.contains_key(device) {
                    newest.insert(Arc::from(device), latest.ts(device));
                }
            }
        }
        newest
    }

    /// Loads the last readings of devices that have sent none for long: their usual interval
    /// decides whether that is a gap for this device.
    pub async fn recall(&mut self, rows: &RecordBatch, newest: &NewestBefore) -> Result<(), Fatal> {
        let set = &self.rules.set;
        // Rules that wait for nothing don't care about gaps.
        if rows.num_rows() == 0 || set.longest_wait() == 0 {
            return Ok(());
        }
        let before = |device: &str| newest.get(device).copied().flatten();
        let mut wanted = self.judge.wants(set, rows, &before).map_err(Fatal::failed)?;
        for span in RECENT_SPANS {
            if wanted.is_empty() {
                break;
            }
            let found = self.context.ask_lake(|lake| {
                let wanted = wanted.clone();
                async move { lake.times_up_to(&wanted, span).await }
            });
            let found = found.await?;
            wanted.retain(|(device, _)| {
                let times = found.get(device).map_or(&[][..], Vec::as_slice);
                self.judge.recall(device, Recent::of(times.iter().copied()));
                times.len() < RECENT_READINGS
            });
        }
        Ok(())
    }

    /// While catching up: evaluates the committed rows of these offsets.
    pub async fn stored_rows(
        &mut self,
        offsets: Range<i64>,
        found: &mut BatchEvaluation,
    ) -> Result<(), Fatal> {
        let mut catch_up = match mem::replace(&mut self.phase, Phase::Live) {
            Phase::CatchingUp(catch_up) => catch_up,
            other => {
                self.phase = other;
                return Ok(());
            }
        };
        let mut from = offsets.start.max(self.changes_from);
        let until = offsets.end.min(catch_up.lake_at);
        while from < until {
            let (rows, reached) = catch_up.rows(&self.context, from..until).await?;
            let newest = catch_up.newest.iter().map(|(id, ts)| (Arc::clone(id), Some(*ts)));
            self.recall(&rows, &newest.collect()).await?;
            let evaluated = self.stored_page(&mut catch_up, &rows)?;
            self.add_steps(evaluated, found);
            from = reached;
        }
        if offsets.end < catch_up.lake_at {
            self.phase = Phase::CatchingUp(catch_up);
        }
        Ok(())
    }

    fn stored_page(
        &mut self,
        catch_up: &mut CatchUp,
        rows: &RecordBatch,
    ) -> Result<Evaluation, Fatal> {
        let newest = &mut catch_up.newest;
        let (rules, before) = (&self.rules, |device: &str| newest.get(device).copied());
        let evaluated = self
            .judge
            .evaluate(&rules.set, rows, &before, &|id| rules.site(id))
            .map_err(Fatal::failed)?;
        for (device, ts) in not_ahead(rows, &self.context.options.limits) {
            match newest.get_mut(device) {
                Some(held) => *held = ts.max(*held),
                None => {
                    newest.insert(device.into(), ts);
                }
            }
        }
        Ok(evaluated)
    }

    /// Evaluates new rows; `newest` are the readings before them.
    pub fn new_rows(
        &mut self,
        rows: &RecordBatch,
        mut newest: NewestBefore,
        found: &mut BatchEvaluation,
    ) -> Result<(), Fatal> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let offsets = rows.column_by_name("offset").map(|c| c.as_primitive::<Int64Type>().values());
        let first = offsets.map_or(0, |o| o.partition_point(|o| *o < self.changes_from));
        self.pass_over(&rows.slice(0, first), &mut newest)?;
        let rows = rows.slice(first, rows.num_rows() - first);
        let rules = Arc::clone(&self.rules);
        let before = |device: &str| newest.get(device).copied().flatten();
        let evaluated = self
            .judge
            .evaluate(&rules.set, &rows, &before, &|id| rules.site(id))
            .map_err(Fatal::failed)?;
        self.add_steps(evaluated, found);
        self.follow_counters(&rows, found);
        Ok(())
    }

    /// Takes rows into account that control has the evaluation of, because it is ahead of the lake:
    /// they are the past of the rows that follow.
    fn pass_over(&mut self, rows: &RecordBatch, newest: &mut NewestBefore) -> Result<(), Fatal> {
        let rules = &self.rules;
        self.judge
            .pass_over(&rules.set, rows, &|device| newest.get(device).copied().flatten(), &|id| {
                rules.site(id)
            })
            .map_err(Fatal::failed)?;
        for (device, ts) in not_ahead(rows, &self.context.options.limits) {
            if let Some(held) = newest.get_mut(device) {
                *held = (*held).max(Some(ts));
            }
        }
        Ok(())
    }

    fn follow_counters(&mut self, rows: &RecordBatch, found: &mut BatchEvaluation) {
        let limits = &self.context.options.limits;
        let meters = self.context.dependencies.lake.engine().meters();
        let suspects = self.counters.follow(rows, &meters, limits);
        let sent: HashMap<Arc<str>, Micros> =
            not_ahead(rows, limits).into_iter().map(|(id, ts)| (Arc::from(id), ts)).collect();
        self.devices.suspect_counters(&suspects, &sent, found);
    }
}

/// The devices and times of rows that are not ahead of their arrival. Such a time may not count as
/// a device's newest, since it would make all readings late until it has come.
fn not_ahead<'a>(rows: &'a RecordBatch, limits: &Limits) -> Vec<(&'a str, Micros)> {
    let past = arrivals(rows).filter(|(_, ts, received)| !limits.is_ahead(*ts, *received));
    past.map(|(device, ts, _)| (device, ts)).collect()
}
