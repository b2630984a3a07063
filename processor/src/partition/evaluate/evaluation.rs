//! The result of evaluating a batch.

use acuvim_control::{AlertChange, DeviceUpdate, RepairChange};
use acuvim_wire::Micros;

/// What evaluation found, for control to store.
#[derive(Debug, Default)]
pub(crate) struct BatchEvaluation {
    /// Alerts that begin, change or end, in order.
    pub alerts: Vec<AlertChange>,
    /// Repairs that are due or done, in order.
    pub repairs: Vec<RepairChange>,
    /// Boots whose beginning is known now: device, boot and time.
    pub anchors: Vec<(String, i64, Micros)>,
    /// Updates of devices, in order.
    pub devices: Vec<DeviceUpdate>,
}

/// The states of rules that control has yet to store. They are serialised only when they are
/// written, because a state changes much more often than that.
pub(crate) trait UnsavedStates {
    /// Whether there are any.
    fn has_unsaved_states(&self) -> bool;

    /// Takes them: by device, as JSON, or `None` if all rules are quiet on the device.
    fn take_unsaved_states(&mut self) -> Vec<(String, Option<String>)>;
}
