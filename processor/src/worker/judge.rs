//! The worker's part in judging: which rows and messages are judged, and when repairs have their turn.

use std::{collections::HashMap, sync::Arc, time::Instant};

use acuvim_control::RepairChange;
use acuvim_lakehouse::Lake;
use acuvim_rules::{Beat, Judge, Judged, LONGEST_GAP, Recent, State};
use acuvim_schemas::{
    Micros,
    device::partition_of,
    telemetry::{Limits, Unknown},
    time,
};
use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::Int64Type,
};
use chrono::Utc;
use uuid::Uuid;

use super::{AWAY, ON_ITS_WAY, Worker};
use crate::{
    Fatal,
    decode::{Clock, arrivals},
    judging::{Counted, Counters, Fleet, Judging, Learnt, Repair, Repairs, rule_change},
    notes::Said,
};

/// Committed readings that are read back at a time, by offsets.
const READ_BACK: i64 = 65_536;

/// Readings by which a device's own step is known.
pub(super) const RECENT: usize = 6;

/// How far back they are looked for: most are near.
pub(super) const NEAR_AND_FAR: [Micros; 2] = [time::HOUR, 3 * LONGEST_GAP];

/// The judgement of a partition.
pub(super) struct Court {
    pub judge: Judge,
    pub fleet: Fleet,
    pub counters: Counters,
    pub repairs: Repairs,
    pub repair: Option<Repair>,
    pub judging: Arc<Judging>,
    /// Devices whose states are to be stored.
    pub changed: std::collections::HashSet<Arc<str>>,
    /// While it is behind the lake: the newest judged reading of each device, and where the lake is.
    pub behind: Option<(HashMap<Arc<str>, Micros>, i64)>,
    /// Readings that were read back, and the offsets that they are of.
    read_back: Option<(RecordBatch, i64, i64)>,
    checked: Instant,
    /// A repair that lost its turn waits until then.
    pub no_repair_before: Instant,
}

impl Worker {
    /// Takes up what is stored of the partition's devices, for a stream that goes on at an offset.
    pub(super) async fn load_court(&mut self, changes_from: i64) -> Result<(), Fatal> {
        let judging = loop {
            let judging = self.judging.borrow().clone();
            match judging {
                Some(judging) => break judging,
                None => {
                    let _ = self.judging.changed().await;
                }
            }
        };
        let (partition, partitions) = (self.partition, self.parts.log.partitions());
        let ours = |device: &str| partition_of(device.as_bytes(), partitions) == partition;
        let control = self.parts.control.clone();
        let (presences, judgements, repairs) = loop {
            let read = async {
                let presences = control.presences().await?;
                Ok((presences, control.judgements().await?, control.repairs().await?))
            };
            match read.await {
                Ok(read) => break read,
                Err(error) => self.control_away(&error).await?,
            }
        };
        let mut court = Court {
            judge: Judge::default(),
            fleet: Fleet::load(presences, ours),
            counters: Counters::default(),
            repairs: Repairs::default(),
            repair: None,
            judging,
            changed: std::collections::HashSet::new(),
            behind: None,
            read_back: None,
            checked: Instant::now(),
            no_repair_before: Instant::now(),
        };
        for (device, states) in judgements.into_iter().filter(|(device, _)| ours(device)) {
            match serde_json::from_str::<Vec<(Uuid, State)>>(&states) {
                Ok(states) => court.judge.load(&device, states),
                Err(error) => tracing::error!(device, %error, "stored states can't be read"),
            }
        }
        for (device, from) in repairs.into_iter().filter(|(device, _)| ours(device)) {
            court.repairs.schedule(device.into(), from, Instant::now());
        }
        let lake_at = self.rows_from();
        if changes_from < lake_at {
            let newest = self.lake_answers(|lake| async move {
                lake.newest_before(partition, changes_from).await
            });
            court.behind = Some((newest.await?, lake_at));
        }
        self.court = Some(court);
        Ok(())
    }

    /// Asks the lake until it answers.
    pub(super) async fn lake_answers<T, F>(&self, ask: impl Fn(Arc<Lake>) -> F) -> Result<T, Fatal>
    where
        F: Future<Output = Result<T, acuvim_lakehouse::Error>>,
    {
        loop {
            match ask(Arc::clone(&self.parts.lake)).await {
                Ok(answer) => {
                    self.state.dedup(None);
                    return Ok(answer);
                }
                Err(error) if error.kind() == acuvim_lakehouse::ErrorKind::Internal => {
                    return Err(Fatal::Broken(error.to_string()));
                }
                Err(error) => {
                    self.state.dedup(Some(error.to_string()));
                    tokio::time::sleep(AWAY).await;
                }
            }
        }
    }

    /// Takes the rules that are in force now.
    pub(super) fn renew_judging(&mut self) {
        let Some(court) = &mut self.court else { return };
        if !self.judging.has_changed().unwrap_or(false) {
            return;
        }
        if let Some(judging) = self.judging.borrow_and_update().clone() {
            court.changed.extend(court.judge.retain(&judging.set));
            court.judging = judging;
        }
    }

    /// The latest reading of each device of these rows, as it was before them.
    pub(super) fn newest_of(&self, rows: &RecordBatch) -> HashMap<Arc<str>, Option<Micros>> {
        let mut newest = HashMap::new();
        if let Some(devices) = rows.column_by_name("device_id") {
            for device in devices.as_string::<i32>().iter().flatten() {
                if !newest.contains_key(device) {
                    newest.insert(Arc::from(device), self.parts.lake.latest().ts(device));
                }
            }
        }
        newest
    }

    /// Takes up the last readings of devices whose next ones lie far behind them: how far that is for
    /// them is known by those alone.
    pub(super) async fn recall(
        &mut self,
        rows: &RecordBatch,
        newest: &HashMap<Arc<str>, Option<Micros>>,
    ) -> Result<(), Fatal> {
        let Some(court) = &self.court else { return Ok(()) };
        if rows.num_rows() == 0 || court.judging.set.longest_wait() == 0 {
            return Ok(());
        }
        let before = |device: &str| newest.get(device).copied().flatten();
        let wanted =
            court.judge.wants(&court.judging.set, rows, &before).map_err(|e| broken(&e))?;
        let mut wanted = wanted;
        for span in NEAR_AND_FAR {
            if wanted.is_empty() {
                break;
            }
            let found = self.lake_answers(|lake| {
                let wanted = wanted.clone();
                async move { lake.times_up_to(&wanted, span).await }
            });
            let found = found.await?;
            let Some(court) = &mut self.court else { break };
            wanted.retain(|(device, _)| {
                let times = found.get(device).map_or(&[][..], Vec::as_slice);
                court.judge.recall(device, Recent::of(times.iter().copied()));
                times.len() < RECENT
            });
        }
        Ok(())
    }

    /// Judges the committed readings among records that the lake has got and control has not.
    pub(super) async fn judge_stored(&mut self, from: i64, next: i64) -> Result<(), Fatal> {
        let Some(lake_at) = self.court.as_ref().and_then(|c| c.behind.as_ref()).map(|b| b.1) else {
            return Ok(());
        };
        let (mut from, until) = (from.max(self.changes_from), next.min(lake_at));
        while from < until {
            let rows = self.read_back(from, until, lake_at).await?;
            let reached = rows.1;
            let behind = self.court.as_ref().and_then(|c| c.behind.as_ref());
            let newest = behind.map_or_else(HashMap::new, |(newest, _)| {
                newest.iter().map(|(device, ts)| (Arc::clone(device), Some(*ts))).collect()
            });
            self.recall(&rows.0, &newest).await?;
            if let Some(court) = &mut self.court {
                let limits = &self.options.limits;
                let judged = court.judge_behind(&rows.0, limits).map_err(|e| broken(&e))?;
                self.take_judged(judged);
            }
            from = reached;
        }
        if next >= lake_at
            && let Some(court) = &mut self.court
        {
            (court.behind, court.read_back) = (None, None);
        }
        Ok(())
    }

    /// Committed readings from an offset on, and the offset up to which they go.
    async fn read_back(
        &mut self,
        from: i64,
        until: i64,
        lake_at: i64,
    ) -> Result<(RecordBatch, i64), Fatal> {
        let held = self.court.as_ref().and_then(|c| c.read_back.as_ref());
        let (rows, first, behind) = match held {
            Some((rows, first, behind)) if (*first..*behind).contains(&from) => {
                (rows.clone(), *first, *behind)
            }
            _ => {
                let (partition, behind) = (self.partition, (from + READ_BACK).min(lake_at));
                let rows = self.lake_answers(|lake| async move {
                    lake.stored_readings(partition, from, behind).await
                });
                (rows.await?, from, behind)
            }
        };
        let offsets = rows.column_by_name("offset").map(|c| c.as_primitive::<Int64Type>());
        let offsets = offsets.ok_or_else(|| Fatal::Broken("rows without offsets".to_owned()))?;
        let until = until.min(behind);
        let begin = offsets.values().partition_point(|o| *o < from);
        let end = offsets.values().partition_point(|o| *o < until);
        let slice = rows.slice(begin, end - begin);
        if let Some(court) = &mut self.court {
            court.read_back = Some((rows, first, behind));
        }
        Ok((slice, until))
    }

    /// Judges new rows; `newest` is what was before them.
    pub(super) fn judge_rows(
        &mut self,
        rows: &RecordBatch,
        mut newest: HashMap<Arc<str>, Option<Micros>>,
    ) -> Result<(), Fatal> {
        let Some(court) = &mut self.court else { return Ok(()) };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let offsets = rows.column_by_name("offset").map(|c| c.as_primitive::<Int64Type>().values());
        let first = offsets.map_or(0, |o| o.partition_point(|o| *o < self.changes_from));
        let judging = Arc::clone(&court.judging);
        // Judged before, and only behind in the lake.
        let earlier = rows.slice(0, first);
        court
            .judge
            .pass_over(
                &judging.set,
                &earlier,
                &|device| newest.get(device).copied().flatten(),
                &|id| judging.site(id),
            )
            .map_err(|e| broken(&e))?;
        for (device, ts) in of_now(&earlier, &self.options.limits) {
            if let Some(held) = newest.get_mut(device) {
                *held = (*held).max(Some(ts));
            }
        }
        let rows = rows.slice(first, rows.num_rows() - first);
        let meters = self.parts.lake.engine().meters();
        let suspects = court.counters.follow(&rows, &meters, &self.options.limits);
        let sent: HashMap<Arc<str>, Micros> = of_now(&rows, &self.options.limits)
            .into_iter()
            .map(|(id, ts)| (Arc::from(id), ts))
            .collect();
        let mut learnt = Learnt::default();
        court.fleet.counters(&suspects, &sent, &mut learnt);
        let before = |device: &str| newest.get(device).copied().flatten();
        let judged = court
            .judge
            .judge(&judging.set, &rows, &before, &|id| judging.site(id))
            .map_err(|e| broken(&e))?;
        self.take_judged(judged);
        self.take_learnt(learnt);
        Ok(())
    }

    /// Gathers what was judged, for control.
    fn take_judged(&mut self, judged: Judged) {
        let Some(court) = &mut self.court else { return };
        let judging = Arc::clone(&court.judging);
        for stepped in &judged.steps {
            let rule = judging.set.rules().iter().find(|rule| rule.id == stepped.rule_id);
            self.pending.alerts.extend(rule.map(|rule| rule_change(stepped, rule)));
        }
        court.changed.extend(judged.changed);
        for (rule, error) in judged.failed {
            metrics::counter!("acuvim_rules_failed_total").increment(1);
            tracing::debug!(%rule, error, "a rule could not be evaluated");
        }
        if judging.set.rules().is_empty() {
            return;
        }
        let now = Instant::now();
        for (device, from) in judged.late {
            metrics::counter!("acuvim_late_readings_total").increment(1);
            if court.repair.as_ref().is_some_and(|r| r.device_id == device && from < r.at) {
                court.repair = None;
            }
            if court.repairs.schedule(Arc::clone(&device), from, now) {
                self.pending.repairs.push(RepairChange::Schedule(device.to_string(), from));
            }
        }
    }

    /// Takes what devices said of themselves, and what their readings lack or have.
    pub(super) fn hear(
        &mut self,
        said: Vec<(String, Said)>,
        rows: &RecordBatch,
        unknown: &[Unknown],
        known: HashMap<Arc<str>, Micros>,
    ) {
        let Some(court) = &mut self.court else { return };
        let mut learnt = Learnt::default();
        court.fleet.hear(said, &self.options.vitals, &mut learnt);
        court.fleet.counted(&Counted::of(rows, self.changes_from), &mut learnt);
        court.fleet.readings(unknown, known, &mut learnt);
        self.take_learnt(learnt);
    }

    fn take_learnt(&mut self, learnt: Learnt) {
        self.pending.alerts.extend(learnt.alerts);
        self.pending.letters.anchors.extend(learnt.anchors);
        self.gather(learnt.notes);
    }

    /// Judges silence now and then, by the log's own time.
    pub(super) fn check_silence(&mut self, clock: Clock) {
        let Some(court) = &mut self.court else { return };
        let (Some(last), true) = (clock.last, court.checked.elapsed() >= self.options.health_check)
        else {
            return;
        };
        court.checked = Instant::now();
        // No clock of another process may end what is not due yet.
        let until = last.min(Utc::now().timestamp_micros()) - ON_ITS_WAY;
        let mut learnt = Learnt::default();
        court.fleet.silence(Beat { until, since: clock.since }, &self.options.health, &mut learnt);
        metrics::gauge!("acuvim_judge_bytes", "partition" => self.partition.to_string())
            .set(court.judge.size() as f64);
        metrics::gauge!("acuvim_devices", "partition" => self.partition.to_string())
            .set(court.fleet.len() as f64);
        metrics::gauge!("acuvim_repairs", "partition" => self.partition.to_string())
            .set(court.repairs.len() as f64);
        self.take_learnt(learnt);
    }
}

impl Court {
    /// Judges readings that the lake has and control has not.
    fn judge_behind(
        &mut self,
        rows: &RecordBatch,
        limits: &Limits,
    ) -> Result<Judged, arrow::error::ArrowError> {
        let Some((newest, _)) = &mut self.behind else { return Ok(Judged::default()) };
        let judging = Arc::clone(&self.judging);
        let before = |device: &str| newest.get(device).copied();
        let judged = self.judge.judge(&judging.set, rows, &before, &|id| judging.site(id))?;
        for (device, ts) in of_now(rows, limits) {
            match newest.get_mut(device) {
                Some(held) => *held = ts.max(*held),
                None => {
                    newest.insert(device.into(), ts);
                }
            }
        }
        Ok(judged)
    }
}

fn broken(error: &arrow::error::ArrowError) -> Fatal {
    Fatal::Broken(error.to_string())
}

/// The devices and times of rows that are not ahead of their arrival.
fn of_now<'a>(rows: &'a RecordBatch, limits: &Limits) -> Vec<(&'a str, Micros)> {
    let now = arrivals(rows).filter(|(_, ts, received)| !limits.is_ahead(*ts, *received));
    now.map(|(device, ts, _)| (device, ts)).collect()
}
