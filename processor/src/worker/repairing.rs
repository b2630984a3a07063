//! Repairs have their turn between live batches: one window each time. A component that is away, or a
//! control that is slow, costs the turn and nothing else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::{RecordedEpisode, RepairChange};
use acuvim_rules::{GAP, LONGEST_GAP, Recent, certain_before};
use acuvim_schemas::{Micros, time::to_datetime};
use arrow::array::RecordBatch;

use super::{
    Ended, Worker,
    judge::{NEAR_AND_FAR, RECENT},
    teller::Teller,
};
use crate::{
    Fatal,
    judging::{Judging, Repair, begin_of, last_ts},
    supervisor::Duty,
};

/// How long what was told may take to be stored before a repair lets the stream go on.
const SETTLING: Duration = Duration::from_millis(500);

/// Times that are looked at for where a repair begins: of a device that sends every second, those of
/// more than a day.
const MOST_TIMES: usize = 100_000;

/// How long no repair is tried after one has lost its turn.
const PAUSE: Duration = Duration::from_secs(2);

impl Worker {
    /// Gives a repair its turn. What was judged so far is stored first.
    pub(super) async fn repair(&mut self, next: i64) -> Result<(), Ended> {
        let Some(court) = &self.court else { return Ok(()) };
        // Behind either sink the states in memory are not those of what was read.
        let behind = court.behind.is_some() || next < self.changes_from;
        if self.duty == Duty::Follow || behind || Instant::now() < court.no_repair_before {
            return Ok(());
        }
        let judging = Arc::clone(&court.judging);
        let going = court.repair.as_ref().is_some_and(|r| r.is_of(&judging.set));
        if !going {
            let calm = self.options.repair_calm;
            let Some((device, from)) = court.repairs.next(Instant::now(), calm) else {
                return Ok(());
            };
            let begun = match self.settle(next).await? {
                true => self.begin_repair(device, from, &judging).await?,
                false => None,
            };
            if begun.is_none() {
                self.lose_turn();
                return Ok(());
            }
            if let Some(court) = &mut self.court {
                court.repair = begun;
            }
        }
        let done = match self.repair_window(&judging).await? {
            Some(true) => self.finish_repair(&judging, next).await?,
            Some(false) => true,
            None => false,
        };
        if !done {
            self.lose_turn();
        }
        Ok(())
    }

    fn lose_turn(&mut self) {
        if let Some(court) = &mut self.court {
            court.no_repair_before = Instant::now() + PAUSE;
        }
    }

    /// Where a repair begins; none if a component is away.
    async fn begin_repair(
        &self,
        device: Arc<str>,
        from: Micros,
        judging: &Judging,
    ) -> Result<Option<Repair>, Fatal> {
        let states = self.court.as_ref().map_or_else(Vec::new, |court| court.judge.states(&device));
        let Some(certain) = self.certain(&device, from, judging.set.longest_wait()).await? else {
            return Ok(None);
        };
        let begin = begin_of(certain, &states);
        let Some(recent) = self.recent_before(&device, begin).await? else { return Ok(None) };
        let remembered = begin.saturating_sub(judging.set.longest_memory());
        let Some(recorded) = self.recorded(&device, remembered).await else { return Ok(None) };
        tracing::debug!(device = &*device, "a repair begins");
        Ok(Some(Repair::new(device, begin, &judging.set, &recorded, recent)))
    }

    /// A moment before late readings from which on it is certain what waits; none if the lake is away.
    async fn certain(
        &self,
        device: &Arc<str>,
        from: Micros,
        wait: Micros,
    ) -> Result<Option<Micros>, Fatal> {
        let mut earliest = from;
        // Most devices send often enough for the first look.
        for back in [2 * GAP, LONGEST_GAP] {
            let reach = from - wait - back;
            let Some(times) = self.times(device, reach, from, MOST_TIMES).await? else {
                return Ok(None);
            };
            if let Some(certain) = certain_before(&times, from, wait) {
                return Ok(Some(certain));
            }
            earliest = times.first().copied().unwrap_or(from);
        }
        Ok(Some(earliest - 1))
    }

    /// A device's last readings before a moment; none if the lake is away.
    async fn recent_before(
        &self,
        device: &Arc<str>,
        begin: Micros,
    ) -> Result<Option<Recent>, Fatal> {
        let mut before = Vec::new();
        for span in NEAR_AND_FAR {
            let Some(times) = self.times(device, begin - span, begin, RECENT).await? else {
                return Ok(None);
            };
            before = times;
            if before.len() == RECENT {
                break;
            }
        }
        // Further back than the longest gap nothing counts.
        let is_near = before.last().is_some_and(|last| begin - last <= LONGEST_GAP);
        Ok(Some(if is_near { Recent::of(before) } else { Recent::default() }))
    }

    /// The times of a device's readings, the last so many; none if the lake is away.
    async fn times(
        &self,
        device: &Arc<str>,
        from: Micros,
        until: Micros,
        last: usize,
    ) -> Result<Option<Vec<Micros>>, Fatal> {
        match self.parts.lake.device_times(device, from, until, last).await {
            Ok(times) => Ok(Some(times)),
            Err(error) if error.kind() == acuvim_lakehouse::ErrorKind::Internal => {
                Err(Fatal::Broken(error.to_string()))
            }
            Err(error) => {
                tracing::debug!(%error, "a repair waits for the lake");
                Ok(None)
            }
        }
    }

    /// Takes the next window of the repair under way; true if it was the last, none if a component is
    /// away.
    async fn repair_window(&mut self, judging: &Judging) -> Result<Option<bool>, Fatal> {
        let Some(repair) = self.court.as_mut().and_then(|court| court.repair.take()) else {
            return Ok(Some(false));
        };
        let mut repair = repair;
        let (from, until) = (repair.at, repair.window_end());
        let read = self.readings(&repair.device_id, from, until).await?;
        let mut last = None;
        if let Some((rows, more)) = read {
            let until = match (more, last_ts(&rows)) {
                (true, Some(ts)) => ts + 1,
                _ => until,
            };
            tokio::task::block_in_place(|| repair.window(judging, &rows, until))
                .map_err(|e| Fatal::Broken(e.to_string()))?;
            let newest = self.parts.lake.newest().get(&repair.device_id);
            last = Some(newest.is_none_or(|newest| until > newest));
        }
        if let Some(court) = &mut self.court {
            court.repair = Some(repair);
        }
        Ok(last)
    }

    /// Brings what was found into control; false if that is away or slow: the repair begins anew.
    async fn finish_repair(&mut self, judging: &Judging, next: i64) -> Result<bool, Ended> {
        let Some(repair) = self.court.as_mut().and_then(|court| court.repair.take()) else {
            return Ok(true);
        };
        if !self.settle(next).await? {
            return Ok(false);
        }
        let device = Arc::clone(&repair.device_id);
        let Some(recorded) = self.recorded(&device, repair.begin).await else { return Ok(false) };
        let states = self.court.as_ref().map_or_else(Vec::new, |court| court.judge.states(&device));
        let repaired = repair.finish(&judging.set, &recorded, &states);
        metrics::counter!("acuvim_repairs_total").increment(1);
        tracing::debug!(device = &*device, changes = repaired.alerts.len(), "a repair is done");
        if let Some(court) = &mut self.court {
            court.judge.load(&device, repaired.states);
            court.judge.recall(&device, repaired.recent);
            court.changed.insert(Arc::clone(&device));
            court.repairs.done(&device);
        }
        self.pending.alerts.extend(repaired.alerts);
        self.pending.repairs.push(RepairChange::Done(device.to_string()));
        self.tell_control(next).await?;
        Ok(true)
    }

    /// The episodes of a device that were not over at a moment; none if control is away.
    async fn recorded(&self, device: &Arc<str>, from: Micros) -> Option<Vec<RecordedEpisode>> {
        let from = to_datetime(from).unwrap_or_default();
        match self.parts.control.episodes(Some(device), None, from).await {
            Ok(found) => Some(found.into_iter().map(|(_, episode)| episode).collect()),
            Err(error) => {
                tracing::debug!(%error, "a repair waits for control");
                None
            }
        }
    }

    /// A device's readings, by time, and whether there are more; none if the lake is away.
    async fn readings(
        &self,
        device: &Arc<str>,
        from: Micros,
        until: Micros,
    ) -> Result<Option<(RecordBatch, bool)>, Fatal> {
        match self.parts.lake.device_readings(device, from, until).await {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == acuvim_lakehouse::ErrorKind::Internal => {
                Err(Fatal::Broken(error.to_string()))
            }
            Err(error) => {
                tracing::debug!(%error, "a repair waits for the lake");
                Ok(None)
            }
        }
    }

    /// Has everything stored that was judged so far; false if that takes too long.
    async fn settle(&mut self, next: i64) -> Result<bool, Ended> {
        let begun = Instant::now();
        loop {
            if self.has_news() || self.told_to.is_none_or(|to| to < next) {
                self.tell_control(next).await?;
            }
            let told = !self.has_news() && self.told_to.is_some_and(|to| to >= next);
            if told && self.teller.as_ref().is_some_and(Teller::has_stored) {
                return Ok(true);
            }
            if begun.elapsed() > SETTLING {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
