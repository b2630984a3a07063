//! What is known of the meters of the fleet: the limits of their counters, and when a device's meter was
//! replaced.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use acuvim_wire::Micros;

use crate::counter::MeterTerms;

/// The times at which meters were replaced, by device, in order.
pub type MeterChanges = HashMap<Arc<str>, Vec<Micros>>;

/// The limits of counters by device. Devices without an entry have the defaults of an Acuvim II.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meters(pub HashMap<Arc<str>, MeterTerms>);

impl Meters {
    /// The limits of a device's counters.
    #[must_use]
    pub fn terms_of(&self, device_id: &str) -> MeterTerms {
        self.0.get(device_id).copied().unwrap_or_default()
    }

    /// The devices whose limits differ from those in `before`.
    #[must_use]
    pub fn others_than(&self, before: &Self) -> Vec<Arc<str>> {
        let all = self.0.keys().chain(before.0.keys());
        // Limits that are stated and equal the defaults are no difference: recounting would change
        // nothing.
        let other = |id: &&Arc<str>| self.terms_of(id) != before.terms_of(id);
        let others: BTreeSet<&Arc<str>> = all.filter(other).collect();
        others.into_iter().map(Arc::clone).collect()
    }

    /// The same meters, with the limits of some devices taken from `others`.
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

/// The meters as they are known now. Clones share their state.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownMeters(Arc<RwLock<Known>>);

#[derive(Debug, Clone, Default)]
struct Known {
    /// None until the limits were loaded.
    meters: Option<Arc<Meters>>,
    changes: Arc<MeterChanges>,
}

impl KnownMeters {
    fn known(&self) -> Known {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The limits; none until they were loaded.
    pub fn loaded(&self) -> Option<Arc<Meters>> {
        self.known().meters
    }

    pub fn meters(&self) -> Arc<Meters> {
        self.loaded().unwrap_or_default()
    }

    pub fn changes(&self) -> Arc<MeterChanges> {
        self.known().changes
    }

    /// A copy that knows only some devices, for a caller who may not see the others.
    pub fn of(&self, devices: &[String]) -> Self {
        let (meters, changes) = (self.meters(), self.changes());
        let id = |device: &String| Arc::<str>::from(device.as_str());
        // Copied, not filtered on use: the aggregate function has no notion of a caller.
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

#[cfg(test)]
mod tests;
