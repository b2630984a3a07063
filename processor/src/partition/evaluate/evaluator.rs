//! The evaluator of a partition: its state, and what it takes from devices' reports.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use acuvim_control::{DevicePresence, RepairChange};
use acuvim_rules::{Evaluation, Evaluator, Listening, State};
use acuvim_tables::telemetry::Unknown;
use acuvim_wire::{Micros, device::partition_of};
use arrow::array::RecordBatch;
use chrono::Utc;
use uuid::Uuid;

use super::{
    alerts::rule_change,
    catch_up::CatchUp,
    counters::Counters,
    devices::{Devices, NumberedReading},
    evaluation::{BatchEvaluation, UnsavedStates},
    phase::Phase,
    repair::RepairQueue,
};
use crate::{
    fatal::Fatal,
    partition::{
        context::{Context, TRANSIT_TIME},
        decode::{Clock, DeviceReport},
    },
    rule_watch::{ActiveRules, RuleWatch},
};

/// The evaluator of a partition.
pub(crate) struct RuleEvaluator {
    pub(super) context: Arc<Context>,
    rules_watch: RuleWatch,
    /// The rules in force.
    pub(super) rules: Arc<ActiveRules>,
    pub(super) judge: Evaluator,
    pub(super) devices: Devices,
    pub(super) counters: Counters,
    pub(super) repairs: RepairQueue,
    pub(super) phase: Phase,
    /// Devices whose states control has yet to store.
    pub(super) changed: HashSet<Arc<str>>,
    /// The first offset whose changes are not in control.
    pub(super) changes_from: i64,
    /// When silence was last evaluated.
    silence_checked: Instant,
    /// No repair has its turn before then.
    pub(super) repairs_paused_until: Instant,
}

/// What control has stored about all devices.
struct StoredStates {
    presences: Vec<DevicePresence>,
    rule_states: Vec<(String, String)>,
    repairs: Vec<(String, Micros)>,
}

impl RuleEvaluator {
    /// Loads what control has stored of the partition's devices. `changes_from` is control's
    /// offset, and `first` the first offset from there on that is still in the log.
    pub async fn load(
        context: Arc<Context>,
        mut rules_watch: RuleWatch,
        changes_from: i64,
        first: i64,
    ) -> Result<Self, Fatal> {
        let rules = first_rules(&mut rules_watch).await;
        let (partition, partitions) = (context.partition, context.dependencies.log.partitions());
        let ours = |device: &str| partition_of(device.as_bytes(), partitions) == partition;
        let stored = stored_states(&context).await?;
        let lake_at = context.rows_from();
        let phase = if first < lake_at {
            let newest = context
                .ask_lake(|lake| async move { lake.newest_before(partition, first).await })
                .await?;
            Phase::CatchingUp(CatchUp::new(newest, lake_at))
        } else {
            Phase::Live
        };
        let now = Instant::now();
        let mut evaluator = Self {
            context,
            rules_watch,
            rules,
            judge: Evaluator::default(),
            devices: Devices::load(stored.presences, ours),
            counters: Counters::default(),
            repairs: RepairQueue::default(),
            phase,
            changed: HashSet::new(),
            changes_from,
            silence_checked: now,
            repairs_paused_until: now,
        };
        for (device, states) in stored.rule_states.into_iter().filter(|(id, _)| ours(id)) {
            match serde_json::from_str::<Vec<(Uuid, State)>>(&states) {
                Ok(states) => evaluator.judge.load(&device, states),
                // One device's damaged states must not keep the whole partition from starting.
                Err(error) => tracing::error!(device, %error, "stored rule states can't be read"),
            }
        }
        for (device, from) in stored.repairs.into_iter().filter(|(id, _)| ours(id)) {
            evaluator.repairs.schedule(device.into(), from, now);
        }
        Ok(evaluator)
    }

    /// Takes up changes of the rules.
    pub fn renew_rules(&mut self) {
        if !self.rules_watch.has_changed().unwrap_or(false) {
            return;
        }
        if let Some(rules) = self.rules_watch.borrow_and_update().clone() {
            self.changed.extend(self.judge.retain(&rules.set));
            self.rules = rules;
        }
    }

    /// Evaluates the reports of devices, and the numbers and keys of their readings.
    pub fn device_reports(
        &mut self,
        reports: Vec<(String, DeviceReport)>,
        readings: &RecordBatch,
        unknown: &[Unknown],
        known: HashMap<Arc<str>, Micros>,
        found: &mut BatchEvaluation,
    ) {
        self.devices.reports(reports, &self.context.options.vitals, found);
        let numbered = NumberedReading::of(readings, self.changes_from);
        self.devices.numbered_readings(&numbered, found);
        self.devices.reading_keys(unknown, known, found);
    }

    /// Evaluates silence at an interval, by the time of the log.
    pub fn silence(&mut self, clock: Clock) -> BatchEvaluation {
        let mut found = BatchEvaluation::default();
        let options = &self.context.options;
        let due = self.silence_checked.elapsed() >= options.health_check;
        let (Some(last), true) = (clock.last, due) else { return found };
        // This process's clock only limits how often silence is evaluated; the result depends on
        // the log's.
        self.silence_checked = Instant::now();
        // An ingest whose clock is ahead must not make devices silent before their time.
        let until = last.min(Utc::now().timestamp_micros()) - TRANSIT_TIME;
        self.devices.silence(Listening { until, since: clock.since }, &options.health, &mut found);
        let partition = self.context.partition.to_string();
        metrics::gauge!("acuvim_judge_bytes", "partition" => partition.clone())
            .set(self.judge.size() as f64);
        metrics::gauge!("acuvim_devices", "partition" => partition.clone())
            .set(self.devices.len() as f64);
        metrics::gauge!("acuvim_repairs", "partition" => partition).set(self.repairs.len() as f64);
        found
    }

    /// Adds the steps of rules to what was found, and schedules repairs for late readings.
    pub(super) fn add_steps(&mut self, evaluated: Evaluation, found: &mut BatchEvaluation) {
        let rules = self.rules.set.rules();
        for step in &evaluated.steps {
            let rule = rules.iter().find(|rule| rule.id == step.rule_id);
            found.alerts.extend(rule.map(|rule| rule_change(step, rule)));
        }
        self.changed.extend(evaluated.changed);
        for (rule, error) in evaluated.failed {
            metrics::counter!("acuvim_rules_failed_total").increment(1);
            tracing::debug!(%rule, error, "a rule could not be evaluated");
        }
        if rules.is_empty() {
            return;
        }
        let now = Instant::now();
        for (device, from) in evaluated.late {
            metrics::counter!("acuvim_late_readings_total").increment(1);
            // A repair under way has passed this reading already, so it has to begin again.
            if matches!(&self.phase, Phase::Repairing(r) if r.device_id == device && from < r.at) {
                self.phase = Phase::Live;
            }
            if self.repairs.schedule(Arc::clone(&device), from, now) {
                found.repairs.push(RepairChange::Schedule(device.to_string(), from));
            }
        }
    }
}

impl UnsavedStates for RuleEvaluator {
    fn has_unsaved_states(&self) -> bool {
        !self.changed.is_empty()
    }

    fn take_unsaved_states(&mut self) -> Vec<(String, Option<String>)> {
        let judge = &self.judge;
        let serialised = |device: Arc<str>| {
            let states = judge.states(&device);
            let states = (!states.is_empty()).then(|| serde_json::to_string(&states).ok());
            (device.to_string(), states.flatten())
        };
        self.changed.drain().map(serialised).collect()
    }
}

/// Waits until the rules have been read for the first time.
async fn first_rules(watch: &mut RuleWatch) -> Arc<ActiveRules> {
    loop {
        let rules = watch.borrow().clone();
        match rules {
            Some(rules) => return rules,
            None => {
                let _ = watch.changed().await;
            }
        }
    }
}

/// Asks control until it answers.
async fn stored_states(context: &Context) -> Result<StoredStates, Fatal> {
    let control = &context.dependencies.control;
    loop {
        let read = async {
            Ok(StoredStates {
                presences: control.presences().await?,
                rule_states: control.judgements().await?,
                repairs: control.repairs().await?,
            })
        };
        match read.await {
            Ok(read) => return Ok(read),
            Err(error) => context.control_unavailable(error).await?,
        }
    }
}
