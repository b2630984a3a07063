//! What an evaluation results in.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use acuvim_wire::{Micros, time::SECOND};
use uuid::Uuid;

use crate::episode::Step;

/// An episode that becomes known later than this after it began is backfilled, and pages nobody.
pub const BACKFILLED_AFTER: Micros = 15 * 60 * SECOND;

/// A step of an episode of a rule on a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// The id of the device.
    pub device_id: Arc<str>,
    /// The id of the rule.
    pub rule_id: Uuid,
    /// The version of the rule.
    pub rule_version: i64,
    /// What happened to the episode.
    pub step: Step,
    /// The value that broke the limit.
    pub value: Option<f64>,
    /// The limit that was exceeded.
    pub threshold: Option<f64>,
    /// The message, for people; empty at the end of an episode.
    pub message: String,
    /// Whether it became known long after it happened.
    pub backfilled: bool,
}

/// The result of evaluating a run of readings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// The steps, in order for each device and rule.
    pub steps: Vec<Stepped>,
    /// The devices with late readings, each with the earliest.
    pub late: HashMap<Arc<str>, Micros>,
    /// The devices with changed states.
    pub changed: HashSet<Arc<str>>,
    /// Rules that could not be evaluated, and why.
    pub failed: Vec<(Uuid, String)>,
}
