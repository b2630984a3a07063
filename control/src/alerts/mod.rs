//! Alerts as episodes: raised, changed and cleared by rules, devices, health and the system itself;
//! acknowledged and resolved by people.

mod apply;
mod device;
mod event;
mod list;
mod model;
mod pair;
mod people;
mod reminders;
mod row;
mod system;

pub use list::{AlertCounts, AlertFilter, RecordedEpisode};
pub use model::{AlertChange, NewAlert};
pub use reminders::Reminders;
pub use system::SystemCondition;

pub(crate) use apply::Applying;
pub(crate) use event::{AlertNote, emit_alert};

#[cfg(test)]
mod tests;
