//! Changes that have yet to be written to control.

use std::collections::HashMap;

use acuvim_control::{Changes, DeviceUpdate, ReplayOutcome};
use acuvim_wire::{Identity, Micros};

use crate::partition::evaluate::BatchEvaluation;

/// Changes of control that gather until they are written.
#[derive(Debug, Default)]
pub(super) struct ControlBatch {
    changes: Changes,
    /// The position of each device among the changed ones.
    positions: HashMap<String, usize>,
}

impl ControlBatch {
    /// Adds updates of devices. Those of one device are merged, so that while control is away there
    /// are no more of them than devices.
    pub fn add_devices(&mut self, updates: Vec<DeviceUpdate>) {
        let devices = &mut self.changes.devices;
        for update in updates {
            let position = self.positions.get(&update.device_id);
            match position.and_then(|position| devices.get_mut(*position)) {
                Some(before) => before.merge(update),
                None => {
                    self.positions.insert(update.device_id.clone(), devices.len());
                    devices.push(update);
                }
            }
        }
    }

    /// Adds what was decoded from records.
    pub fn add_decoded(&mut self, changes: Changes) {
        self.add_devices(changes.devices);
        self.changes.deliveries.extend(changes.deliveries);
        self.changes.answers.extend(changes.answers);
        self.changes.device_alerts.extend(changes.device_alerts);
        self.changes.dead_letters.clockless.extend(changes.dead_letters.clockless);
    }

    /// Adds what evaluation found.
    pub fn add_evaluation(&mut self, evaluation: BatchEvaluation) {
        self.changes.alerts.extend(evaluation.alerts);
        self.changes.repairs.extend(evaluation.repairs);
        self.changes.dead_letters.anchors.extend(evaluation.anchors);
        self.add_devices(evaluation.devices);
    }

    /// Adds the outcomes of replays.
    pub fn add_replays(&mut self, outcomes: Vec<(Identity, ReplayOutcome)>) {
        self.changes.dead_letters.replayed.extend(outcomes);
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether people or devices wait for a part of it: answers, alerts and devices that come back.
    pub fn is_urgent(&self) -> bool {
        let changes = &self.changes;
        !changes.answers.is_empty()
            || !changes.deliveries.is_empty()
            || !changes.alerts.is_empty()
            || !changes.device_alerts.is_empty()
            || changes.devices.iter().any(|device| {
                device.back || !device.registrations.is_empty() || !device.status.is_empty()
            })
    }

    /// The devices whose readings it mentions, each with the time of the update.
    pub fn devices_with_readings(&self) -> impl Iterator<Item = (String, Micros)> {
        let devices = self.changes.devices.iter().filter(|device| device.telemetry.is_some());
        devices.map(|device| (device.device_id.clone(), device.at.timestamp_micros()))
    }

    /// Takes the changes, and leaves an empty batch.
    pub fn take(&mut self) -> Changes {
        // They point into the changes that are taken.
        self.positions.clear();
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
mod tests;
