//! The small mutable state: devices, commands, configurations, groups, alerts, rules, firmware,
//! rollouts, users, keys, audit, offsets, outbox, leases and the facts fixed at the first start. SQLite by default, PostgreSQL to scale
//! out; every statement is one text for both.

mod alerts;
mod audit;
mod commands;
mod configs;
mod db;
mod devices;
mod error;
mod firmware;
mod groups;
mod judgements;
mod keys;
mod leases;
mod letters;
mod log_facts;
mod notifications;
mod open;
mod outbox;
mod presence;
mod prune;
mod rules;
mod scope;
mod secrets;
mod sessions;
mod silences;
mod stream;
mod text;
mod users;
mod value;

pub use alerts::{
    AlertChange, AlertCounts, AlertFilter, NewAlert, RecordedEpisode, Reminders, SystemCondition,
};
pub use audit::{AuditFilter, By};
pub use commands::{Answer, CommandFilter, Given, GroupGiven, NewCommand};
pub use db::Control;
pub use devices::{Created, DeviceFilter, DeviceSecrets, DeviceSort, Edited, Replaced};
pub use error::{Error, ErrorKind};
pub use firmware::{
    FirmwareDeleted, FirmwareMade, MemberChange, NewRollout, ROLLOUTS_LEASE, RolloutChange,
    RolloutChanged, RolloutFilter, RolloutMember, RolloutOffer, RolloutStarted, RolloutStep,
    RolloutVerb, RunningRollout, StoredFirmware, Strayed, Target,
};
pub use leases::Lease;
pub use letters::{Clockless, LetterNotes, ReplayOf};
pub use log_facts::LogFacts;
pub use notifications::{
    DevicePlace, DueNotice, NOTIFICATIONS_LEASE, Noted, NoticeChange, NoticeItem, NoticePlace,
    NotificationMade,
};
pub use outbox::{OUTBOX_LEASE, OutboxWatch, Outgoing};
pub use presence::DevicePresence;
pub use rules::{DeviceMeter, DeviceSite};
pub use secrets::{hash_secret, new_secret};
pub use sessions::{NewSession, Rotation};
pub use stream::{
    Applied, Changes, DeviceHappening, DeviceNote, OffsetMove, ReadUntil, RepairChange, Resend,
    StatusStep,
};
pub use users::{User, UserChange, UserChanged};
