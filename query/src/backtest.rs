//! Backtests: a rule over the stored readings, in the background, one at a time. They live as long as
//! the process: what one found can be found again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use acuvim_lakehouse::{OfDevices, timestamp};
use acuvim_rules::{Found, GAP, Inputs, Replay, Site};
use acuvim_schemas::{
    Micros,
    api::{
        Backtest, BacktestDevice, BacktestDifference, BacktestEpisode, BacktestRequest,
        BacktestResult, BacktestState, DeviceScope, Rule, RuleBody,
    },
    problem::Code,
    tables::Table,
    time::{DAY, SECOND, to_datetime},
};
use datafusion::{
    catalog::TableProvider,
    prelude::{col, ident, lit},
};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    App,
    auth::{Caller, now},
    problem::ApiError,
    sql::from_engine,
};

/// Backtests that are remembered.
const KEPT: usize = 32;

/// Backtests that run or wait.
const WAITING: usize = 8;

/// Readings of one pass: sixteen bytes of memory each.
const PASS: usize = 10_000_000;

/// Devices, and episodes of all of them, that an answer lists.
const DEVICES: usize = 1000;
const EPISODES: usize = 10_000;

/// Episodes that a backtest may find: with more the rule is not one that anybody wants.
const MOST_FOUND: usize = 500_000;

/// How long one may take: the others wait for it.
const DEADLINE: Duration = Duration::from_secs(900);

/// An episode that begins so soon after the one before is a flap.
const FLAP: Micros = 300 * SECOND;

/// All backtests of this process.
#[derive(Debug, Default)]
pub(crate) struct Backtests {
    jobs: Mutex<VecDeque<Job>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Job {
    owner: Uuid,
    cancel: CancellationToken,
    shown: Backtest,
}

impl Backtests {
    /// A backtest of this user or key.
    pub fn get(&self, id: Uuid, owner: Uuid) -> Option<Backtest> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().find(|j| j.shown.id == id && j.owner == owner).map(|j| j.shown.clone())
    }

    /// Cancels one; false if there is none.
    pub fn cancel(&self, id: Uuid, owner: Uuid) -> bool {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = jobs.iter_mut().find(|j| j.shown.id == id && j.owner == owner);
        if let Some(job) = job {
            job.cancel.cancel();
            if job.shown.state == BacktestState::Running {
                job.shown.state = BacktestState::Cancelled;
            }
            return true;
        }
        false
    }

    fn add(&self, job: Job) -> Result<(), ApiError> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let running = jobs.iter().filter(|j| j.shown.state == BacktestState::Running).count();
        if running >= WAITING {
            let detail = format!("{WAITING} backtests are running or wait; cancel one, or wait");
            return Err(ApiError::new(Code::TooManyRequests, detail));
        }
        // Only what has ended is forgotten.
        while jobs.len() >= KEPT
            && let Some(at) = jobs.iter().position(|j| j.shown.state != BacktestState::Running)
        {
            jobs.remove(at);
        }
        jobs.push_back(job);
        Ok(())
    }

    fn change(&self, id: Uuid, change: impl FnOnce(&mut Backtest)) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = jobs.iter_mut().find(|j| j.shown.id == id)
            && job.shown.state == BacktestState::Running
        {
            change(&mut job.shown);
        }
    }
}

/// What one backtest does.
struct Work {
    app: Arc<App>,
    id: Uuid,
    compiled: acuvim_rules::Compiled,
    /// The stored rule that it is compared with.
    stored: Option<Uuid>,
    scope: DeviceScope,
    /// The devices that the caller sees; none: all.
    seen: Option<HashSet<String>>,
    from: Micros,
    to: Micros,
}

/// Starts one.
pub(crate) async fn start(
    app: &Arc<App>,
    caller: &Caller,
    request: &BacktestRequest,
    body: RuleBody,
    stored: Option<&Rule>,
) -> Result<Backtest, ApiError> {
    let seen = match caller.scope() {
        Some(scope) => Some(app.control().scoped_device_ids(scope).await?.into_iter().collect()),
        None => None,
    };
    let compiled = app.planner.compile(&body).map_err(|f| ApiError::field(f.field, f.message))?;
    let shown = Backtest {
        id: Uuid::now_v7(),
        state: BacktestState::Running,
        progress: 0.0,
        error: None,
        created_at: now(),
        result: None,
    };
    let cancel = CancellationToken::new();
    let work = Work {
        app: Arc::clone(app),
        id: shown.id,
        compiled,
        stored: stored.map(|rule| rule.id),
        scope: request.scope.clone().unwrap_or(body.scope),
        seen,
        from: request.from.timestamp_micros(),
        to: request.to.timestamp_micros(),
    };
    let job = Job { owner: caller.user.id, cancel: cancel.clone(), shown: shown.clone() };
    app.backtests.add(job)?;
    app.threads.handle().spawn(cancel.run_until_cancelled_owned(work.run()));
    Ok(shown)
}

impl Work {
    async fn run(self) {
        let turn = Arc::clone(&self.app.backtests.turn);
        let _turn = turn.lock().await;
        let begun = Instant::now();
        let late = || {
            let detail = format!("it took longer than {} s; ask for less", DEADLINE.as_secs());
            ApiError::new(Code::DeadlineExceeded, detail)
        };
        let work = tokio::time::timeout(DEADLINE, self.work()).await;
        let found = work.unwrap_or_else(|_| Err(late()));
        let app = Arc::clone(&self.app);
        app.backtests.change(self.id, |shown| match found {
            Ok(mut result) => {
                result.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                (shown.state, shown.progress) = (BacktestState::Done, 1.0);
                shown.result = Some(result);
            }
            Err(error) => {
                shown.state = BacktestState::Failed;
                shown.error = Some(error.problem.detail);
            }
        });
    }

    async fn work(&self) -> Result<BacktestResult, ApiError> {
        let mut sites = HashMap::new();
        for row in self.app.control().device_sites(None).await? {
            let tags = row.tags.and_then(|t| serde_json::from_value(t).ok()).unwrap_or_default();
            let site = Site {
                group_id: row.group_id,
                tags,
                nominal_voltage_v: row.nominal_voltage_v,
                nominal_frequency_hz: row.nominal_frequency_hz,
            };
            sites.insert(row.device_id, Arc::new(site));
        }
        let nowhere = Arc::new(Site::default());
        let missing = Mutex::new(Vec::new());
        let site = |device: &str| {
            let site = sites.get(device).unwrap_or(&nowhere);
            let seen = self.seen.as_ref().is_none_or(|seen| seen.contains(device));
            let ours = seen && self.scope.has(device, site.group_id, &site.tags);
            if ours && !self.compiled.can_judge(site) {
                let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
                if missing.len() < DEVICES {
                    missing.push(device.to_owned());
                }
            }
            ours.then(|| Arc::clone(site))
        };
        if let Some(reason) = self.app.status().not_hot {
            return Err(ApiError::new(Code::Unavailable, reason));
        }
        let view = self.app.lake().view(true)?;
        let mut replay = Replay::new(self.compiled.clone(), self.app.parts.limits.max_ahead);
        let terms = self.compiled.terms();
        // Long enough that whatever was pending then is known for certain.
        let warm = self.from - DAY - terms.hold.max(terms.clear) - GAP;
        let mut at = warm;
        while at < self.to {
            let end = (at.div_euclid(DAY) * DAY + DAY).min(self.to);
            self.day(&view, &mut replay, (at, end), &site).await?;
            if replay.episodes() > MOST_FOUND {
                let detail = format!("more than {MOST_FOUND} episodes: the rule flaps");
                return Err(ApiError::new(Code::Refused, detail));
            }
            at = end;
            let done = (at - warm) as f64 / (self.to - warm) as f64;
            self.app.backtests.change(self.id, |shown| shown.progress = done);
        }
        let mut result = self.result(&replay, view.version);
        result.missing_settings = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(rule) = self.stored {
            result.difference = Some(self.difference(rule, &replay).await?);
        }
        Ok(result)
    }

    /// One day, in as many passes as its readings need memory for.
    async fn day(
        &self,
        view: &acuvim_lakehouse::View,
        replay: &mut Replay,
        (from, to): (Micros, Micros),
        site: &(dyn Fn(&str) -> Option<Arc<Site>> + Sync),
    ) -> Result<(), ApiError> {
        let rows = self.app.lake().rows_of_day(Table::Telemetry, from)?;
        let passes = rows.div_ceil(PASS).max(1);
        let names = |n: usize| format!("{:02x}", n * 256 / passes);
        for pass in 0..passes {
            let telemetry = view.table(Table::Telemetry);
            let telemetry =
                telemetry.ok_or_else(|| ApiError::internal(&"there is no telemetry"))?;
            // A predicate that fails on a row says something about that row.
            let telemetry: Arc<dyn TableProvider> = match &self.seen {
                Some(seen) => {
                    let seen: Vec<String> = seen.iter().cloned().collect();
                    Arc::new(OfDevices::new(telemetry, &seen))
                }
                None => telemetry,
            };
            let mut columns: Vec<String> =
                ["device_id", "ts", "received_at"].map(str::to_owned).to_vec();
            columns.extend(
                Inputs::columns_of(self.compiled.needed()).into_iter().filter(|c| c != "ts"),
            );
            let read = async {
                let session = self.app.parts.engine.session();
                let mut rows = session.read_table(telemetry)?;
                let times = col("ts").gt_eq(timestamp(from)).and(col("ts").lt(timestamp(to)));
                rows = rows.filter(times)?;
                if passes > 1 {
                    // By a hash of the device: ranges of ids may be of very different sizes.
                    let part = datafusion::functions::expr_fn::left(
                        datafusion::functions::expr_fn::encode(
                            datafusion::functions::expr_fn::sha256(ident("device_id")),
                            lit("hex"),
                        ),
                        lit(2_i64),
                    );
                    rows = rows.filter(part.clone().gt_eq(lit(names(pass))))?;
                    if pass + 1 < passes {
                        rows = rows.filter(part.lt(lit(names(pass + 1))))?;
                    }
                }
                rows.select(columns.iter().map(ident).collect::<Vec<_>>())?.execute_stream().await
            };
            let mut stream = read.await.map_err(|e| from_engine(&e))?;
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(|e| from_engine(&e))?;
                replay.rows(&batch, site).map_err(|e| from_engine(&e))?;
            }
            replay.end_window();
        }
        Ok(())
    }

    /// The part of an episode that lies within the time asked for, in microseconds.
    fn within(&self, episode: &Found) -> Micros {
        let end = episode.ended.unwrap_or(self.to).min(self.to);
        (end - episode.started.max(self.from)).max(0)
    }

    fn is_within(&self, episode: &Found) -> bool {
        episode.raised < self.to && episode.ended.is_none_or(|end| end >= self.from)
    }

    fn result(&self, replay: &Replay, lake_version: i64) -> BacktestResult {
        let mut result = BacktestResult { lake_version, ..BacktestResult::default() };
        let mut room = EPISODES;
        result.readings = i64::try_from(replay.readings()).unwrap_or(i64::MAX);
        for (device, found) in replay.found() {
            result.devices += 1;
            let ours: Vec<&Found> = found.iter().filter(|e| self.is_within(e)).collect();
            if ours.is_empty() {
                continue;
            }
            let flap = |pair: &[&Found]| match pair {
                [before, after] => before.ended.is_some_and(|end| after.started - end < FLAP),
                _ => false,
            };
            let seconds: Micros = ours.iter().map(|episode| self.within(episode)).sum();
            let of_device = BacktestDevice {
                device_id: device.to_string(),
                episodes: i64::try_from(ours.len()).unwrap_or(i64::MAX),
                seconds_in_alarm: seconds as f64 / 1e6,
                flaps: ours.windows(2).filter(|pair| flap(pair)).count() as i64,
                list: ours.iter().take(room).map(|episode| shown(episode)).collect(),
            };
            room -= of_device.list.len();
            result.episodes += of_device.episodes;
            result.seconds_in_alarm += of_device.seconds_in_alarm;
            result.flaps += of_device.flaps;
            result.by_device.push(of_device);
        }
        result.by_device.sort_by(|a, b| b.seconds_in_alarm.total_cmp(&a.seconds_in_alarm));
        result.by_device.truncate(DEVICES);
        result
    }

    /// What was found against what the stored rule recorded: by device, beginning and end.
    async fn difference(
        &self,
        rule: Uuid,
        replay: &Replay,
    ) -> Result<BacktestDifference, ApiError> {
        let from = to_datetime(self.from).unwrap_or_default();
        let recorded = self.app.control().episodes(None, Some(rule), from).await?;
        let ours = |device: &str| self.seen.as_ref().is_none_or(|seen| seen.contains(device));
        let judged: HashSet<&str> = replay.found().map(|(device, _)| device.as_ref()).collect();
        let recorded: HashSet<(String, Micros, Option<Micros>)> = recorded
            .into_iter()
            .filter(|(device, e)| {
                ours(device) && judged.contains(device.as_str()) && e.marks.raised.ts < self.to
            })
            .map(|(device, e)| {
                // One whose end was confirmed behind the time asked for is open at its end.
                let ended = e.marks.ended.filter(|(_, confirmed)| confirmed.ts < self.to);
                let ended = ended.map(|(end, _)| end.ts);
                (device, e.marks.started.ts, ended)
            })
            .filter(|(_, _, ended)| ended.is_none_or(|end| end >= self.from))
            .collect();
        let found: HashSet<(String, Micros, Option<Micros>)> = replay
            .found()
            .flat_map(|(device, found)| found.iter().map(move |e| (device.to_string(), e)))
            .filter(|(_, episode)| self.is_within(episode))
            .map(|(device, episode)| (device, episode.started, episode.ended))
            .collect();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Ok(BacktestDifference {
            same: count(found.intersection(&recorded).count()),
            only_backtest: count(found.difference(&recorded).count()),
            only_recorded: count(recorded.difference(&found).count()),
        })
    }
}

fn shown(episode: &Found) -> BacktestEpisode {
    let at = |ts| to_datetime(ts).unwrap_or_default();
    BacktestEpisode {
        created_at: at(episode.started),
        raised_at: at(episode.raised),
        resolved_at: episode.ended.map(at),
    }
}
