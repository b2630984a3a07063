//! The stream's judgement of one partition: its devices' presence and vitals, and its rules. What it
//! decides is handed to control with the offsets it comes from.

mod alerts;
mod counters;
mod fleet;
mod repair;
mod settings;

pub(crate) use alerts::{anomaly_change, rule_change};
pub(crate) use counters::{Counters, Suspect};
pub(crate) use fleet::{Counted, Fleet, Learnt};
pub(crate) use repair::{Repair, Repairs, begin_of, last_ts};
pub(crate) use settings::{Judging, JudgingWatch, follow};
