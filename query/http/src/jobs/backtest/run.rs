//! One backtest, from the sites of the devices to its result.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use acuvim_model::BacktestResult;
use acuvim_rules::{GAP, Replay, Site};
use acuvim_wire::time::DAY;

use super::{
    error::BacktestError,
    request::{BacktestParts, NewBacktest},
    result::{difference, result_of},
};

/// Devices that the result lists because they lack a setting that the rule needs.
const MISSING: usize = 1000;

/// Episodes that a backtest may find: a rule with more of them is of no use.
const MOST_FOUND: usize = 500_000;

/// How long a backtest may take; the others wait for it.
const DEADLINE: Duration = Duration::from_secs(900);

/// A backtest that runs.
pub(super) struct Run<'a> {
    pub parts: &'a BacktestParts,
    pub new: &'a NewBacktest,
    /// Called with the share that is done, from 0 to 1.
    pub progress: &'a (dyn Fn(f64) + Send + Sync),
}

impl Run<'_> {
    /// Runs the rule, and answers with the result.
    pub async fn result(&self) -> Result<BacktestResult, BacktestError> {
        match tokio::time::timeout(DEADLINE, self.work()).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("it took longer than {} s; ask for less", DEADLINE.as_secs());
                Err(BacktestError::Refused(text))
            }
        }
    }

    async fn work(&self) -> Result<BacktestResult, BacktestError> {
        let NewBacktest { rule, from, to, .. } = self.new;
        let sites = self.sites().await?;
        let nowhere = Arc::new(Site::default());
        let missing = Mutex::new(Vec::new());
        let site = |device: &str| {
            let site = sites.get(device).unwrap_or(&nowhere);
            let judged =
                self.new.sees(device) && self.new.scope.has(device, site.group_id, &site.tags);
            if judged && !rule.can_judge(site) {
                let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
                if missing.len() < MISSING {
                    missing.push(device.to_owned());
                }
            }
            judged.then(|| Arc::clone(site))
        };
        if let Some(reason) = (self.parts.tail_fault)() {
            return Err(BacktestError::Refused(reason));
        }
        let view = self.parts.lake.view(true)?;
        let mut replay = Replay::new(rule.clone(), self.parts.max_ahead);
        let terms = rule.terms();
        // It begins early enough that whatever was pending at `from` is known for certain.
        let warm = from - DAY - terms.hold.max(terms.clear) - GAP;
        let mut at = warm;
        while at < *to {
            // Day by day, as the tables are partitioned: memory is needed for one day at most.
            let end = (at.div_euclid(DAY) * DAY + DAY).min(*to);
            self.day(&view, &mut replay, at..end, &site).await?;
            if replay.episodes() > MOST_FOUND {
                let text = format!("more than {MOST_FOUND} episodes: the rule flaps");
                return Err(BacktestError::Refused(text));
            }
            at = end;
            (self.progress)((at - warm) as f64 / (to - warm) as f64);
        }
        let mut result = result_of(&replay, *from..*to, view.version);
        result.missing_settings = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.new.stored.is_some() {
            result.difference = Some(difference(&self.parts.control, self.new, &replay).await?);
        }
        Ok(result)
    }

    async fn sites(&self) -> Result<HashMap<String, Arc<Site>>, BacktestError> {
        let mut sites = HashMap::new();
        for row in self.parts.control.device_sites(None).await? {
            let tags = row.tags.and_then(|t| serde_json::from_value(t).ok()).unwrap_or_default();
            let site = Site {
                group_id: row.group_id,
                tags,
                nominal_voltage_v: row.nominal_voltage_v,
                nominal_frequency_hz: row.nominal_frequency_hz,
            };
            sites.insert(row.device_id, Arc::new(site));
        }
        Ok(sites)
    }
}
