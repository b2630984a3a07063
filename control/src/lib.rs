//! The control database: the small mutable state of the system, such as devices, commands, configuration,
//! groups, alerts, rules, firmware, users, the outbox, offsets and leases.
//!
//! SQLite by default, PostgreSQL to scale out. Every statement has one text for both, and every change is one
//! transaction.

#![cfg_attr(test, allow(clippy::large_futures, reason = "a test's own future may be large"))]

mod alerts;
mod audit;
mod commands;
mod commissioning;
mod configs;
mod db;
mod dead_letters;
mod device_events;
mod device_updates;
mod devices;
mod error;
mod firmware;
mod groups;
mod keys;
mod leases;
mod log_facts;
mod notifications;
mod open;
mod outbox;
mod presence;
mod prune;
mod rule_states;
mod rules;
mod scope;
mod secrets;
mod sessions;
mod settings;
mod silences;
mod sites;
mod statement;
mod stream;
#[cfg(test)]
mod testing;
mod users;
mod value;

pub use alerts::{
    AlertChange, AlertCounts, AlertFilter, NewAlert, RecordedEpisode, Reminders, SystemCondition,
};
pub use audit::{AuditFilter, By};
pub use commands::{Answer, CommandFilter, Given, GroupGiven, NewCommand, ReadUntil, Resend};
pub use commissioning::{Created, Edited, Replaced};
pub use db::Control;
pub use dead_letters::{Clockless, DeadLetterUpdates, ReplayOf, ReplayOutcome};
pub use device_events::{DeviceEventKind, NewDeviceEvent, StatusStep};
pub use device_updates::DeviceUpdate;
pub use devices::{DeviceFilter, DeviceSecrets, DeviceSort};
pub use error::{Error, ErrorKind};
pub use firmware::{
    FirmwareDeleted, FirmwareMade, MemberChange, NewRollout, ROLLOUTS_LEASE, RolloutChange,
    RolloutChanged, RolloutDeviceFilter, RolloutFilter, RolloutOffer, RolloutStarted, RolloutStep,
    RolloutVerb, StoredFirmware, Strayed, Target,
};
pub use leases::Lease;
pub use log_facts::LogFacts;
pub use notifications::{
    DeviceMembership, DueNotice, NOTIFICATIONS_LEASE, NoticeChange, NoticeItem, NoticeOutcome,
    NoticePosition, NotificationMade,
};
pub use outbox::{OUTBOX_LEASE, OutboxWatch, Outgoing};
pub use presence::DevicePresence;
pub use rule_states::RepairChange;
pub use secrets::{hash_secret, new_secret};
pub use sessions::{NewSession, Rotation};
pub use sites::{DeviceMeter, DeviceSite};
pub use stream::{Applied, Changes, OffsetMove};
pub use users::{User, UserChange, UserChanged};
