//! The rules in force, compiled once, with the device attributes that they refer to. One task reads
//! them from control for all partitions of this process.

use std::{collections::HashMap, sync::Arc, time::Duration};

use acuvim_control::{Control, DeviceSite};
use acuvim_rules::{LiveRule, Planner, RuleSet, Site};
use acuvim_wire::Micros;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use crate::{fatal::Fatal, state::StateSender};

/// How often control is asked for changes: two small reads each time.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The most that the clocks of two processes differ by. Devices that changed within this time
/// before the last known change are read again, since another process may have stamped them late.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(10);

/// The rules in force at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActiveRules {
    pub set: RuleSet,
    sites: Arc<HashMap<Arc<str>, Arc<Site>>>,
    /// The attributes of a device that has none.
    no_site: Arc<Site>,
}

/// The rules in force; `None` until they have been read for the first time.
pub(crate) type RuleWatch = watch::Receiver<Option<Arc<ActiveRules>>>;

impl ActiveRules {
    /// The attributes of a device that rules may refer to.
    pub fn site(&self, device_id: &str) -> Arc<Site> {
        Arc::clone(self.sites.get(device_id).unwrap_or(&self.no_site))
    }
}

/// Keeps the rules up to date until no [`RuleWatch`] is left. It does not end at the stop signal,
/// because partitions go on to the log's end after it.
pub(crate) async fn run(
    control: Control,
    max_ahead: Micros,
    rules: watch::Sender<Option<Arc<ActiveRules>>>,
    state: StateSender,
) {
    let planner = match Planner::new() {
        Ok(planner) => planner,
        Err(error) => {
            return state.fatal(Fatal::Broken(format!("rules can't be planned: {error}")));
        }
    };
    let mut reader = RuleReader { control, planner, max_ahead, seen: None, revision: 0 };
    let work = async {
        loop {
            let before = rules.borrow().clone();
            match reader.read_changes(before.as_deref()).await {
                Ok(Some(next)) => {
                    rules.send_replace(Some(Arc::new(next)));
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the rules in force could not be read"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::select! {
        () = rules.closed() => {}
        () = Box::pin(work) => {}
    }
}

struct RuleReader {
    control: Control,
    planner: Planner,
    /// How far ahead of its arrival a reading may be and still be evaluated.
    max_ahead: Micros,
    /// The revision of rules and groups, and the time of the newest change of a device.
    seen: Option<(i64, Option<DateTime<Utc>>)>,
    revision: i64,
}

impl RuleReader {
    /// The rules that are in force now; `None` if nothing has changed since the last call.
    async fn read_changes(
        &mut self,
        before: Option<&ActiveRules>,
    ) -> Result<Option<ActiveRules>, acuvim_control::Error> {
        let now = self.control.judged_by().await?;
        if self.seen == Some(now) {
            return Ok(None);
        }
        // Devices change with every registration, and rules hardly ever: compiling them again each
        // time would take longer than reading what changed.
        let only_devices = self.seen.filter(|(revision, _)| *revision == now.0).zip(before);
        let next_revision = self.revision + 1;
        let next = match only_devices {
            Some(((_, since), before)) => {
                let since = since.unwrap_or_default() - CLOCK_SKEW;
                let sites = self.changed_sites(since, before).await?;
                if sites.is_empty() {
                    self.seen = Some(now);
                    return Ok(None);
                }
                let mut all = HashMap::clone(&before.sites);
                all.extend(sites);
                let set = before.set.clone().revised(next_revision);
                ActiveRules { set, sites: Arc::new(all), no_site: Arc::default() }
            }
            None => {
                let sites = self.control.device_sites(None).await?.into_iter().map(site).collect();
                let set = RuleSet::new(next_revision, self.compiled().await?).ahead(self.max_ahead);
                ActiveRules { set, sites: Arc::new(sites), no_site: Arc::default() }
            }
        };
        self.revision = next_revision;
        // Only after everything was read, so that a failed read is repeated as a whole.
        self.seen = Some(now);
        Ok(Some(next))
    }

    /// The devices changed since a moment whose attributes differ from those known.
    async fn changed_sites(
        &self,
        since: DateTime<Utc>,
        before: &ActiveRules,
    ) -> Result<Vec<(Arc<str>, Arc<Site>)>, acuvim_control::Error> {
        let changed = self.control.device_sites(Some(since)).await?.into_iter().map(site);
        Ok(changed
            .filter(|(id, site)| before.sites.get(id).unwrap_or(&before.no_site) != site)
            .collect())
    }

    async fn compiled(&self) -> Result<Vec<LiveRule>, acuvim_control::Error> {
        let mut rules = Vec::new();
        for rule in self.control.rules(None).await? {
            match self.planner.compile(&rule.body) {
                Ok(compiled) => rules.push(LiveRule {
                    id: rule.id,
                    version: rule.version,
                    since: rule.created_at.timestamp_micros(),
                    // A rule that was never changed has no earlier version whose episodes must
                    // stay.
                    edited: (rule.version > 1).then(|| rule.updated_at.timestamp_micros()),
                    body: rule.body,
                    compiled,
                }),
                Err(fault) => {
                    // One rule that a new version no longer understands must not end the others.
                    tracing::error!(rule = rule.body.name, %fault, "a stored rule is not valid");
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

#[cfg(test)]
mod tests;
