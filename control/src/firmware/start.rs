//! Starting a rollout: which devices it gets, and which it leaves out.

use acuvim_model::{Deployed, Firmware, RolloutPlan, Scope, Skipped};
use acuvim_rollout::{Chip, PlanError, check_plan, runs, stages_of, why_unfit};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{
    progress::{Decision, decide},
    release::release,
};
use crate::{
    audit::By,
    db::{Control, Tx},
    error::{Error, ErrorKind},
    scope::within,
    statement::Statement,
};

/// The devices that a rollout is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The devices with these ids.
    Devices(Vec<String>),
    /// All devices in a group.
    Group(Uuid),
    /// All devices with a tag.
    Tag(String),
}

/// A rollout to be started.
#[derive(Debug)]
pub struct NewRollout<'a> {
    /// The version to install.
    pub version: &'a str,
    /// The devices to install it on.
    pub target: &'a Target,
    /// The plan. It is checked against the number of devices that are left.
    pub plan: &'a RolloutPlan,
    /// The chips of hardware, from the settings.
    pub chips: &'a [(String, Chip)],
    /// Leaves out devices on which the version has failed this often; `None` leaves out none.
    pub most_failures: Option<i64>,
}

/// The outcome of starting a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutStarted {
    /// The rollout was started.
    Started(Deployed),
    /// There is no such release.
    NoFirmware,
    /// No device is left; with the reason for each.
    Nobody(Vec<Skipped>),
    /// The plan does not fit the number of devices.
    BadPlan(PlanError),
}

/// A device that may get the rollout.
#[derive(sqlx::FromRow)]
struct Candidate {
    device_id: String,
    hardware: Option<String>,
    firmware_version: Option<String>,
    enabled: bool,
    failures: i64,
    busy: bool,
}

/// A device that gets the rollout, with its place in it.
struct Member {
    ordinal: i64,
    stage: i64,
    device: Candidate,
}

/// Ids in one statement, far below the 32,766 parameters that SQLite allows.
const CHUNK: usize = 500;

/// Left-out devices that are named in the answer.
const MAX_SKIPPED: usize = 1000;

impl Control {
    /// Starts a rollout. Nothing is stored unless it was started.
    pub async fn start_rollout(
        &self,
        new: &NewRollout<'_>,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<RolloutStarted, Error> {
        for _ in 0..3 {
            match self.try_start(new, scope, by).await {
                // A concurrent rollout took one of the devices. It counts as busy at the next attempt.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                started => return started,
            }
        }
        self.try_start(new, scope, by).await
    }

    async fn try_start(
        &self,
        new: &NewRollout<'_>,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<RolloutStarted, Error> {
        let mut tx = self.begin().await?;
        let Some(firmware) = release(&mut tx, new.version).await? else {
            return Ok(RolloutStarted::NoFirmware);
        };
        let (devices, skipped) = choose(&mut tx, new, &firmware, scope).await?;
        if devices.is_empty() {
            return Ok(RolloutStarted::Nobody(skipped));
        }
        if let Err(error) = check_plan(new.plan, devices.len()) {
            return Ok(RolloutStarted::BadPlan(error));
        }
        let total = i64::try_from(devices.len()).unwrap_or(i64::MAX);
        let rollout_id = insert(&mut tx, new, devices, by).await?;
        let figures = json!({ "devices": total, "skipped": skipped.len(), "plan": new.plan });
        let reason = format!("{} began it for {total} devices", by.name);
        let decision = Decision { name: "started", reason: &reason, figures: figures.clone() };
        decide(&mut tx, rollout_id, by.at, decision).await?;
        let detail = json!({ "version": new.version, "figures": figures });
        tx.audit(by, "rollout.start", &rollout_id.to_string(), detail).await?;
        tx.commit().await?;
        let skipped = skipped.into_iter().take(MAX_SKIPPED).collect();
        Ok(RolloutStarted::Started(Deployed { rollout_id, total, skipped }))
    }
}

/// Stores a rollout with its devices, each in its stage.
async fn insert(
    tx: &mut Tx,
    new: &NewRollout<'_>,
    devices: Vec<Candidate>,
    by: &By,
) -> Result<Uuid, Error> {
    let rollout_id = Uuid::now_v7();
    let deadline = by.at + TimeDelta::seconds(i64::from(new.plan.deadline_seconds));
    tx.execute(
        "INSERT INTO rollouts (id, version, state, stage, plan, created_by, created_at,
             deadline_at, forgiven, updated_at)
         VALUES ($1, $2, 'running', 1, $3, $4, $5, $6, 0, $5)",
        vec![
            rollout_id.into(),
            new.version.into(),
            json!(new.plan).into(),
            by.name.as_str().into(),
            by.at.into(),
            deadline.into(),
        ],
    )
    .await?;
    let stages = stages_of(new.plan, devices.len());
    for (ordinal, (device, stage)) in (0..).zip(devices.into_iter().zip(stages)) {
        add(tx, rollout_id, new.version, &Member { ordinal, stage, device }, by.at).await?;
    }
    Ok(rollout_id)
}

/// The devices that get the rollout, in the order in which they get it, and those that are left out.
async fn choose(
    tx: &mut Tx,
    new: &NewRollout<'_>,
    firmware: &Firmware,
    scope: Option<&Scope>,
) -> Result<(Vec<Candidate>, Vec<Skipped>), Error> {
    let mut found: Vec<Candidate> = Vec::new();
    match new.target {
        Target::Devices(ids) => {
            for chunk in ids.chunks(CHUNK) {
                let mut some = candidates(new.version);
                some.push("AND d.device_id IN", []);
                some.push_list(chunk.iter().map(Into::into));
                found.extend(fetch(tx, some, scope).await?);
            }
        }
        Target::Group(group) => {
            let mut all = candidates(new.version);
            all.push("AND d.group_id = ?", [(*group).into()]);
            found = fetch(tx, all, scope).await?;
        }
        Target::Tag(tag) => {
            let mut all = candidates(new.version);
            all.push(
                "AND d.device_id IN (SELECT device_id FROM device_tags WHERE tag = ?)",
                [tag.into()],
            );
            found = fetch(tx, all, scope).await?;
        }
    }
    let mut skipped = Vec::new();
    if let Target::Devices(ids) = new.target {
        let strangers = ids.iter().filter(|id| found.iter().all(|d| d.device_id != **id));
        skipped.extend(strangers.map(|device_id| Skipped {
            device_id: device_id.clone(),
            reason: "there is no such device".to_owned(),
        }));
    }
    let mut members = Vec::new();
    for device in found {
        match why_not(&device, new, firmware) {
            Some(reason) => skipped.push(Skipped { device_id: device.device_id, reason }),
            None => members.push(device),
        }
    }
    members.sort_by_cached_key(|device| sort_key(&device.device_id, new.version));
    // An id may be named twice.
    members.dedup_by(|a, b| a.device_id == b.device_id);
    Ok((members, skipped))
}

/// The sort key of a device. It differs for each version, so that not always the same devices go first.
fn sort_key(device_id: &str, version: &str) -> [u8; 16] {
    acuvim_model::event::alert_id(device_id, version, 0).into_bytes()
}

fn candidates(version: &str) -> Statement {
    let mut all = Statement::new("SELECT d.device_id, d.hardware, d.firmware_version, d.enabled,");
    all.push(
        "(SELECT CAST(COALESCE(SUM(r.failures), 0) AS BIGINT) FROM rollout_devices r
             WHERE r.device_id = d.device_id AND r.version = ?) AS failures,",
        [version.into()],
    );
    all.push(
        "EXISTS (SELECT 1 FROM rollout_devices r WHERE r.device_id = d.device_id AND r.active) AS busy
         FROM devices d WHERE 1 = 1",
        [],
    );
    all
}

async fn fetch(
    tx: &mut Tx,
    mut statement: Statement,
    scope: Option<&Scope>,
) -> Result<Vec<Candidate>, Error> {
    within(&mut statement, scope);
    tx.select(statement).await
}

/// Why a device is left out, if it is.
fn why_not(device: &Candidate, new: &NewRollout<'_>, firmware: &Firmware) -> Option<String> {
    if !device.enabled {
        return Some("the device is disabled".to_owned());
    }
    if runs(device.firmware_version.as_deref(), new.version) {
        return Some("it runs this version already".to_owned());
    }
    if let Some(reason) = why_unfit(firmware, device.hardware.as_deref(), new.chips) {
        return Some(reason);
    }
    if device.busy {
        return Some("it is in another rollout that is not over".to_owned());
    }
    new.most_failures.filter(|most| device.failures >= *most).map(|_| {
        format!(
            "the version has failed on it {} times; \"force\": true tries again",
            device.failures
        )
    })
}

async fn add(
    tx: &mut Tx,
    rollout_id: Uuid,
    version: &str,
    member: &Member,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO rollout_devices (rollout_id, device_id, version, ordinal, stage, state, since,
             from_version, fetched_some, fetched_all, failures, active)
         VALUES ($1, $2, $3, $4, $5, 'waiting', $6, $7, $8, $8, 0, $9)",
        vec![
            rollout_id.into(),
            member.device.device_id.as_str().into(),
            version.into(),
            member.ordinal.into(),
            member.stage.into(),
            at.into(),
            member.device.firmware_version.clone().into(),
            false.into(),
            true.into(),
        ],
    )
    .await
    .map(|_| ())
}
