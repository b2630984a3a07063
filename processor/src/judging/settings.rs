//! What judging goes by: the rules, planned once, and what they need to know of devices. One task
//! follows it for all partitions.

use std::{collections::HashMap, sync::Arc, time::Duration};

use acuvim_control::{Control, DeviceSite};
use acuvim_rules::{LiveRule, Planner, RuleSet, Site};
use acuvim_schemas::Micros;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use crate::{Fatal, state::StateSender};

/// How often changes are looked for: two small reads each time.
const LOOK: Duration = Duration::from_secs(1);

/// Clocks of several processes differ by less than this.
const SKEW: TimeDelta = TimeDelta::seconds(10);

/// What judging goes by at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judging {
    /// The rules.
    pub set: RuleSet,
    sites: Arc<HashMap<Arc<str>, Arc<Site>>>,
    nowhere: Arc<Site>,
}

/// Sees changes; nothing before the first was read.
pub(crate) type JudgingWatch = watch::Receiver<Option<Arc<Judging>>>;

impl Judging {
    /// What rules know of a device.
    pub fn site(&self, device_id: &str) -> Arc<Site> {
        Arc::clone(self.sites.get(device_id).unwrap_or(&self.nowhere))
    }
}

/// Follows changes until nobody judges by them any more: workers do until they have ended, which is
/// later than the stop.
pub(crate) async fn follow(
    control: Control,
    max_ahead: Micros,
    judging: watch::Sender<Option<Arc<Judging>>>,
    state: StateSender,
) {
    let planner = match Planner::new() {
        Ok(planner) => planner,
        Err(error) => {
            return state.fatal(Fatal::Broken(format!("rules can't be planned: {error}")));
        }
    };
    let mut follower = Follower { control, planner, max_ahead, seen: None, revision: 0 };
    let work = async {
        loop {
            let before = judging.borrow().clone();
            match follower.look(before.as_deref()).await {
                Ok(Some(next)) => {
                    judging.send_replace(Some(Arc::new(next)));
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the rules in force were not read"),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = judging.closed() => {}
        () = Box::pin(work) => {}
    }
}

struct Follower {
    control: Control,
    planner: Planner,
    /// How far ahead of its arrival a reading may be and still be judged.
    max_ahead: Micros,
    /// The revision of rules and groups, and the last change of a device.
    seen: Option<(i64, Option<DateTime<Utc>>)>,
    revision: i64,
}

impl Follower {
    /// What is in force now; none if nothing has changed.
    async fn look(
        &mut self,
        before: Option<&Judging>,
    ) -> Result<Option<Judging>, acuvim_control::Error> {
        let now = self.control.judged_by().await?;
        if self.seen == Some(now) {
            return Ok(None);
        }
        let partly = self.seen.filter(|(revision, _)| *revision == now.0).zip(before);
        let next_revision = self.revision + 1;
        let next = match partly {
            // Only devices have changed, those from a moment on.
            Some(((_, since), before)) => {
                let since = since.unwrap_or_default() - SKEW;
                let changed = self.control.device_sites(Some(since)).await?;
                let fresh = changed.into_iter().map(site);
                let fresh: Vec<_> = fresh
                    .filter(|(id, site)| before.sites.get(id).unwrap_or(&before.nowhere) != site)
                    .collect();
                if fresh.is_empty() {
                    self.seen = Some(now);
                    return Ok(None);
                }
                let mut sites = HashMap::clone(&before.sites);
                sites.extend(fresh);
                let set = before.set.clone().revised(next_revision);
                Judging { set, sites: Arc::new(sites), nowhere: Arc::default() }
            }
            None => {
                let sites = self.control.device_sites(None).await?.into_iter().map(site).collect();
                let set = RuleSet::new(next_revision, self.rules().await?).ahead(self.max_ahead);
                Judging { set, sites: Arc::new(sites), nowhere: Arc::default() }
            }
        };
        self.revision = next_revision;
        self.seen = Some(now);
        Ok(Some(next))
    }

    async fn rules(&self) -> Result<Vec<LiveRule>, acuvim_control::Error> {
        let mut rules = Vec::new();
        for rule in self.control.rules(None).await? {
            match self.planner.compile(&rule.body) {
                Ok(compiled) => rules.push(LiveRule {
                    id: rule.id,
                    version: rule.version,
                    since: rule.created_at.timestamp_micros(),
                    edited: (rule.version > 1).then(|| rule.updated_at.timestamp_micros()),
                    body: rule.body,
                    compiled,
                }),
                Err(fault) => {
                    tracing::error!(rule = rule.body.name, %fault, "a stored rule can't be run");
                }
            }
        }
        Ok(rules)
    }
}

fn site(row: DeviceSite) -> (Arc<str>, Arc<Site>) {
    let tags = row.tags.and_then(|tags| serde_json::from_value(tags).ok()).unwrap_or_default();
    let site = Site {
        group_id: row.group_id,
        tags,
        nominal_voltage_v: row.nominal_voltage_v,
        nominal_frequency_hz: row.nominal_frequency_hz,
    };
    (row.device_id.into(), Arc::new(site))
}
