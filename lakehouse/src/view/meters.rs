//! What is known of the fleet's meters: what their counters can do, and when one took another's place.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use acuvim_schemas::{Micros, tables::Table, time::DAY};
use arrow::array::AsArray as _;
use datafusion::{
    functions_aggregate::expr_fn::{max, min},
    prelude::col,
};

use crate::{Error, Lake, MeterTerms, lake::timestamp, rollup::Serials, writer::column};

/// When meters took each other's place, by device, in order.
pub type MeterChanges = HashMap<Arc<str>, Vec<Micros>>;

/// What counters can do, by device; of those that are not named, what any Acuvim's can.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meters(pub HashMap<Arc<str>, MeterTerms>);

impl Meters {
    /// What a device's counters can do.
    #[must_use]
    pub fn terms_of(&self, device_id: &str) -> MeterTerms {
        self.0.get(device_id).copied().unwrap_or_default()
    }

    /// The devices whose counters could do something else before.
    #[must_use]
    pub fn others_than(&self, before: &Self) -> Vec<Arc<str>> {
        let all = self.0.keys().chain(before.0.keys());
        let other = |id: &&Arc<str>| self.terms_of(id) != before.terms_of(id);
        let others: BTreeSet<&Arc<str>> = all.filter(other).collect();
        others.into_iter().map(Arc::clone).collect()
    }

    /// The same with what others say of some devices.
    #[must_use]
    pub fn with_terms_of(mut self, others: &Self, some: &[Arc<str>]) -> Self {
        for device in some {
            match others.0.get(device) {
                Some(terms) => self.0.insert(Arc::clone(device), *terms),
                None => self.0.remove(device),
            };
        }
        self
    }
}

/// Both as they are known at present, for whoever counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownMeters(Arc<RwLock<Known>>);

#[derive(Debug, Clone, Default)]
struct Known {
    /// None before anything was learnt.
    meters: Option<Arc<Meters>>,
    changes: Arc<MeterChanges>,
}

impl KnownMeters {
    fn known(&self) -> Known {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn learnt(&self) -> Option<Arc<Meters>> {
        self.known().meters
    }

    pub fn meters(&self) -> Arc<Meters> {
        self.learnt().unwrap_or_default()
    }

    pub fn changes(&self) -> Arc<MeterChanges> {
        self.known().changes
    }

    /// What is known of some devices alone.
    pub fn of(&self, devices: &[String]) -> Self {
        let (meters, changes) = (self.meters(), self.changes());
        let id = |device: &String| Arc::<str>::from(device.as_str());
        let terms = devices.iter().filter_map(|d| Some((id(d), *meters.0.get(d.as_str())?)));
        let meters = Some(Arc::new(Meters(terms.collect())));
        let changed =
            devices.iter().filter_map(|d| Some((id(d), changes.get(d.as_str())?.clone())));
        let changes = Arc::new(changed.collect());
        Self(Arc::new(RwLock::new(Known { meters, changes })))
    }

    pub fn set_meters(&self, meters: Meters) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).meters = Some(Arc::new(meters));
    }

    pub fn set_changes(&self, changes: MeterChanges) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).changes = Arc::new(changes);
    }
}

/// How long what is known of changes is taken for all there is.
const FRESH: Duration = Duration::from_secs(30);

/// How far back heartbeats are looked at that no rollup has told of yet.
const RECENT: Micros = 3 * DAY;

impl Lake {
    /// Learns from heartbeats when meters took each other's place, for `counter_delta`; nothing if that
    /// was done a moment ago. Where it can't be learnt, what was known before holds.
    pub async fn learn_meter_changes(&self, now: Micros) {
        let mut learnt = self.learnt_changes.lock().await;
        if learnt.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let begun = Instant::now();
        match self.meter_changes(now).await {
            Ok(changes) => {
                self.engine().known_meters().set_changes(changes);
                *learnt = Some(begun);
            }
            Err(error) => tracing::debug!(%error, "counters go by the meters that were known"),
        }
    }

    async fn meter_changes(&self, now: Micros) -> Result<MeterChanges, Error> {
        let devices = self.with_several_serials(now).await?;
        let heartbeats = self.view(true)?.table(Table::Heartbeats);
        let Some(heartbeats) = heartbeats.filter(|_| !devices.is_empty()) else {
            return Ok(MeterChanges::new());
        };
        let names: Vec<&str> = devices.iter().map(|device| &**device).collect();
        let all = Micros::MIN..Micros::MAX;
        Ok(changes_of(&self.serials_among(heartbeats, &names, &all).await?))
    }

    /// Devices that have had more than one meter: of most days the rollups know.
    async fn with_several_serials(&self, now: Micros) -> Result<Vec<Arc<str>>, Error> {
        let session = self.engine().session();
        let view = self.view(true)?;
        let (heartbeats, days) = (view.table(Table::Heartbeats), view.table(Table::RollupDaily));
        let (Some(heartbeats), Some(days)) = (heartbeats, days) else { return Ok(Vec::new()) };
        let told = col("meter_serial").is_not_null();
        let recent = match self.rollups_are_built().await? {
            true => told.clone().and(col("ts").gt_eq(timestamp(now - RECENT))),
            false => told.clone(),
        };
        let wanted = ["device_id", "meter_serial"];
        let heartbeats =
            session.read_table(heartbeats as _)?.filter(recent)?.select_columns(&wanted)?;
        let days = session.read_table(days as _)?.filter(told)?.select_columns(&wanted)?;
        let rows = heartbeats
            .union(days)?
            .aggregate(
                vec![col("device_id")],
                vec![
                    min(col("meter_serial")).alias("first"),
                    max(col("meter_serial")).alias("last"),
                ],
            )?
            .filter(col("first").not_eq(col("last")))?
            .select_columns(&["device_id"])?
            .collect()
            .await?;
        let mut devices = Vec::new();
        for batch in &rows {
            let ids = column(batch, "device_id")?.as_string::<i32>();
            devices.extend(ids.iter().flatten().map(Arc::from));
        }
        Ok(devices)
    }
}

fn changes_of(serials: &Serials) -> MeterChanges {
    let of = |(device, theirs): (&Arc<str>, &Vec<(Micros, Arc<str>)>)| {
        let pairs = theirs.iter().zip(theirs.iter().skip(1));
        let changes: Vec<Micros> =
            pairs.filter(|(a, b)| a.1 != b.1).map(|(_, (ts, _))| *ts).collect();
        (Arc::clone(device), changes)
    };
    serials.iter().map(of).filter(|(_, changes)| !changes.is_empty()).collect()
}
