//! Gives repairs their turn between live batches, one window each time. A component that is away
//! costs the repair its turn, and holds up nothing else.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use acuvim_control::{RecordedEpisode, RepairChange};
use acuvim_rules::{GAP, LONGEST_GAP, Recent, certain_before};
use acuvim_wire::{Micros, time::to_datetime};

use super::{
    evaluation::BatchEvaluation,
    evaluator::RuleEvaluator,
    phase::Phase,
    repair::{Repair, begin_of, last_ts},
    rows::{RECENT_READINGS, RECENT_SPANS},
};
use crate::fatal::Fatal;

/// The most reading times that are searched for the beginning of a repair. For a device that sends
/// every second they span more than a day.
const MAX_TIMES: usize = 100_000;

/// How long repairs are paused after one could not use its turn.
const PAUSE: Duration = Duration::from_secs(2);

/// What a repair does with its turn.
pub(crate) enum RepairTurn {
    /// A repair of this device begins, for late readings from a time on.
    Begin { device: Arc<str>, from: Micros },
    /// The repair under way goes on.
    Continue,
}

/// How the window of a repair ended.
pub(crate) enum WindowEnd {
    /// There are readings behind it.
    More,
    /// It was the last one.
    Last,
    /// The lake is away.
    Unavailable,
}

/// What keeps a repair from going on.
enum RepairError {
    /// A component is away: it is tried again later.
    Unavailable,
    Fatal(Fatal),
}

impl RuleEvaluator {
    /// What a repair may do now; `next` is the offset that is read next. `None` while the states in
    /// memory are not those after the newest row, because the evaluator or the stream is behind.
    pub fn repair_turn(&self, next: i64) -> Option<RepairTurn> {
        if next < self.changes_from || Instant::now() < self.repairs_paused_until {
            return None;
        }
        match &self.phase {
            Phase::CatchingUp(_) => None,
            Phase::Repairing(repair) if repair.is_of(&self.rules.set) => Some(RepairTurn::Continue),
            // A repair that began with older rules is started again.
            Phase::Live | Phase::Repairing(_) => {
                let calm = self.context.options.repair_calm;
                let (device, from) = self.repairs.next(Instant::now(), calm)?;
                Some(RepairTurn::Begin { device, from })
            }
        }
    }

    /// Lets no repair have its turn for a while.
    pub fn pause_repairs(&mut self) {
        self.repairs_paused_until = Instant::now() + PAUSE;
    }

    /// Begins the repair of a device; false if a component is away. Everything evaluated so far has
    /// to be in control, because the repair begins with what is recorded there.
    pub async fn begin_repair(&mut self, device: Arc<str>, from: Micros) -> Result<bool, Fatal> {
        match self.new_repair(device, from).await {
            Ok(repair) => {
                self.phase = Phase::Repairing(Box::new(repair));
                Ok(true)
            }
            Err(RepairError::Unavailable) => Ok(false),
            Err(RepairError::Fatal(fatal)) => Err(fatal),
        }
    }

    async fn new_repair(&self, device: Arc<str>, from: Micros) -> Result<Repair, RepairError> {
        let states = self.judge.states(&device);
        let set = &self.rules.set;
        let certain = self.certain(&device, from, set.longest_wait()).await?;
        let begin = begin_of(certain, &states);
        let recent = self.recent_before(&device, begin).await?;
        // Episodes that were over by then may still count for flapping.
        let remembered = begin.saturating_sub(set.longest_memory());
        let recorded = self.recorded(&device, remembered).await?;
        tracing::debug!(device = &*device, "a repair begins");
        Ok(Repair::new(device, begin, set, &recorded, recent))
    }

    /// A time before the late readings from which on an evaluation has the same result as one of all
    /// readings: whatever a rule waits for there is decided before the late readings begin.
    async fn certain(
        &self,
        device: &Arc<str>,
        from: Micros,
        wait: Micros,
    ) -> Result<Micros, RepairError> {
        let mut earliest = from;
        // For most devices the first, shorter span is enough.
        for back in [2 * GAP, LONGEST_GAP] {
            let reach = from - wait - back;
            let times = self.times(device, reach, from, MAX_TIMES).await?;
            if let Some(certain) = certain_before(&times, from, wait) {
                return Ok(certain);
            }
            earliest = times.first().copied().unwrap_or(from);
        }
        Ok(earliest - 1)
    }

    /// A device's last readings before a time.
    async fn recent_before(&self, device: &Arc<str>, begin: Micros) -> Result<Recent, RepairError> {
        let mut before = Vec::new();
        for span in RECENT_SPANS {
            before = self.times(device, begin - span, begin, RECENT_READINGS).await?;
            if before.len() == RECENT_READINGS {
                break;
            }
        }
        // Readings before the longest gap don't count, however many there are.
        let is_near = before.last().is_some_and(|last| begin - last <= LONGEST_GAP);
        Ok(if is_near { Recent::of(before) } else { Recent::default() })
    }

    /// The times of a device's readings, the last so many of them.
    async fn times(
        &self,
        device: &Arc<str>,
        from: Micros,
        until: Micros,
        last: usize,
    ) -> Result<Vec<Micros>, RepairError> {
        let lake = &self.context.dependencies.lake;
        lake.device_times(device, from, until, last).await.map_err(RepairError::from)
    }

    /// The episodes of a device that were not over at a time.
    async fn recorded(
        &self,
        device: &Arc<str>,
        from: Micros,
    ) -> Result<Vec<RecordedEpisode>, RepairError> {
        let from = to_datetime(from).unwrap_or_default();
        match self.context.dependencies.control.episodes(Some(device), None, from).await {
            Ok(found) => Ok(found.into_iter().map(|(_, episode)| episode).collect()),
            Err(error) => {
                tracing::debug!(%error, "a repair waits for control");
                Err(RepairError::Unavailable)
            }
        }
    }

    /// Evaluates the next window of the repair under way.
    pub async fn repair_window(&mut self) -> Result<WindowEnd, Fatal> {
        let Some(mut repair) = self.take_repair() else { return Ok(WindowEnd::More) };
        let end = self.evaluate_window(&mut repair).await;
        self.phase = Phase::Repairing(repair);
        match end {
            Ok(end) => Ok(end),
            Err(RepairError::Unavailable) => Ok(WindowEnd::Unavailable),
            Err(RepairError::Fatal(fatal)) => Err(fatal),
        }
    }

    async fn evaluate_window(&self, repair: &mut Repair) -> Result<WindowEnd, RepairError> {
        let lake = &self.context.dependencies.lake;
        let (from, until) = (repair.at, repair.window_end());
        let (rows, more) = lake.device_readings(&repair.device_id, from, until).await?;
        // The lake gives only so many rows at once: the window then ends behind the last of them.
        let until = match (more, last_ts(&rows)) {
            (true, Some(ts)) => ts + 1,
            _ => until,
        };
        tokio::task::block_in_place(|| repair.window(&self.rules, &rows, until))
            .map_err(|error| RepairError::Fatal(Fatal::failed(error)))?;
        let newest = lake.newest().get(&repair.device_id);
        // By the newest reading and not by the current time: a device may have stopped sending long
        // ago.
        let is_last = newest.is_none_or(|newest| until > newest);
        Ok(if is_last { WindowEnd::Last } else { WindowEnd::More })
    }

    /// Takes the repair under way. Unless it is finished, it will begin again.
    pub fn take_repair(&mut self) -> Option<Box<Repair>> {
        match mem::replace(&mut self.phase, Phase::Live) {
            Phase::Repairing(repair) => Some(repair),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// What a repair changes, compared with what is recorded by now; `None` if control is away.
    /// Everything evaluated so far has to be in control.
    pub async fn finish_repair(&mut self, repair: Repair) -> Option<BatchEvaluation> {
        let device = Arc::clone(&repair.device_id);
        let recorded = self.recorded(&device, repair.begin).await.ok()?;
        let states = self.judge.states(&device);
        let repaired = repair.finish(&self.rules.set, &recorded, &states);
        metrics::counter!("acuvim_repairs_total").increment(1);
        tracing::debug!(device = &*device, changes = repaired.alerts.len(), "a repair is done");
        self.judge.load(&device, repaired.states);
        self.judge.recall(&device, repaired.recent);
        self.changed.insert(Arc::clone(&device));
        // In memory at once; should the write to control fail, the repair is still stored there and
        // done again after a restart.
        self.repairs.done(&device);
        Some(BatchEvaluation {
            alerts: repaired.alerts,
            repairs: vec![RepairChange::Done(device.to_string())],
            ..BatchEvaluation::default()
        })
    }
}

impl From<acuvim_lakehouse::Error> for RepairError {
    fn from(error: acuvim_lakehouse::Error) -> Self {
        if error.kind() == acuvim_lakehouse::ErrorKind::Internal {
            return Self::Fatal(Fatal::failed(error));
        }
        tracing::debug!(%error, "a repair waits for the lake");
        Self::Unavailable
    }
}
