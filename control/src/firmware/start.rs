//! Starting a rollout: which devices it is for, and which it leaves out.

use acuvim_schemas::api::{Deployed, RolloutPlan, Scope, Skipped};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{apply::decide, list::HISTORY};
use crate::{By, Control, Error, ErrorKind, db::Tx, scope::within, text::Statement};

/// Which devices are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// These.
    Devices(Vec<String>),
    /// All of a group.
    Group(Uuid),
    /// All with a tag.
    Tag(String),
}

/// A rollout to be started; its plan has been checked.
pub struct NewRollout<'a> {
    /// What.
    pub version: &'a str,
    /// Why a hardware can't take it; none: it can.
    pub unfit: &'a (dyn Fn(Option<&str>) -> Option<String> + Send + Sync),
    /// To which devices.
    pub target: &'a Target,
    /// How.
    pub plan: &'a RolloutPlan,
    /// A device on which the version has failed so often is left out; none: it is not.
    pub most_failures: Option<i64>,
    /// Whether a device runs a version.
    pub runs: &'a (dyn Fn(Option<&str>, &str) -> bool + Send + Sync),
    /// The stage of each of so many devices, in their order.
    pub stages: &'a (dyn Fn(usize) -> Result<Vec<i64>, (String, String)> + Send + Sync),
}

impl std::fmt::Debug for NewRollout<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewRollout").field("version", &self.version).finish_non_exhaustive()
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutStarted {
    /// It runs.
    Started(Deployed),
    /// There is no such release.
    NoFirmware,
    /// No device is left that could take it; why each is left out.
    Nobody(Vec<Skipped>),
    /// The plan does not fit so many devices: the field, and what it may be.
    BadPlan(String, String),
}

#[derive(sqlx::FromRow)]
struct Candidate {
    device_id: String,
    hardware: Option<String>,
    firmware_version: Option<String>,
    enabled: bool,
    failures: i64,
    busy: bool,
}

/// Devices that a statement names at a time.
const CHUNK: usize = 500;

impl Control {
    /// Starts a rollout.
    ///
    /// # Errors
    /// When the database can't be asked; then none is started.
    pub async fn start_rollout(
        &self,
        new: &NewRollout<'_>,
        scope: Option<&Scope>,
        by: &By,
    ) -> Result<RolloutStarted, Error> {
        for _ in 0..3 {
            match self.try_start(new, scope, by).await {
                // A device got into another rollout at the same moment.
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
        let there: Option<(Uuid,)> = tx
            .fetch_optional("SELECT id FROM firmware WHERE version = $1", vec![new.version.into()])
            .await?;
        if there.is_none() {
            return Ok(RolloutStarted::NoFirmware);
        }
        let (members, skipped) = choose(&mut tx, new, scope).await?;
        if members.is_empty() {
            return Ok(RolloutStarted::Nobody(skipped));
        }
        let stages = match (new.stages)(members.len()) {
            Ok(stages) => stages,
            Err((field, message)) => return Ok(RolloutStarted::BadPlan(field, message)),
        };
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
        for (ordinal, (member, stage)) in (0_i64..).zip(members.iter().zip(stages)) {
            add(&mut tx, rollout_id, new.version, (ordinal, stage, member), by.at).await?;
        }
        let total = i64::try_from(members.len()).unwrap_or(i64::MAX);
        let figures = json!({ "devices": total, "skipped": skipped.len(), "plan": new.plan });
        let reason = format!("{} began it for {total} devices", by.name);
        decide(&mut tx, rollout_id, by.at, ("started", &reason, figures.clone())).await?;
        tx.audit(
            by,
            "rollout.start",
            &rollout_id.to_string(),
            json!({ "version": new.version, "figures": figures }),
        )
        .await?;
        tx.commit().await?;
        let skipped = skipped.into_iter().take(HISTORY).collect();
        Ok(RolloutStarted::Started(Deployed { rollout_id, total, skipped }))
    }
}

/// The devices that it is for, in a fixed order that has nothing to do with their names, and those
/// that are left out.
async fn choose(
    tx: &mut Tx,
    new: &NewRollout<'_>,
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
        match why_not(&device, new) {
            Some(reason) => skipped.push(Skipped { device_id: device.device_id, reason }),
            None => members.push(device),
        }
    }
    members.sort_by_cached_key(|device| scattered(&device.device_id, new.version));
    members.dedup_by(|a, b| a.device_id == b.device_id);
    Ok((members, skipped))
}

/// A device's place among others, which is another for each version: not always the same ones go
/// first.
fn scattered(device_id: &str, version: &str) -> [u8; 16] {
    acuvim_schemas::event::alert_id(device_id, version, 0).into_bytes()
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
    let (text, values) = statement.into_parts();
    tx.fetch_all(text, values).await
}

/// Why a device is left out; none: it is not.
fn why_not(device: &Candidate, new: &NewRollout<'_>) -> Option<String> {
    if !device.enabled {
        return Some("the device is disabled".to_owned());
    }
    if (new.runs)(device.firmware_version.as_deref(), new.version) {
        return Some("it runs this version already".to_owned());
    }
    if let Some(reason) = (new.unfit)(device.hardware.as_deref()) {
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
    (ordinal, stage, device): (i64, i64, &Candidate),
    at: DateTime<Utc>,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO rollout_devices (rollout_id, device_id, version, ordinal, stage, state, since,
             from_version, fetched_some, fetched_all, failures, active)
         VALUES ($1, $2, $3, $4, $5, 'waiting', $6, $7, $8, $8, 0, $9)",
        vec![
            rollout_id.into(),
            device.device_id.as_str().into(),
            version.into(),
            ordinal.into(),
            stage.into(),
            at.into(),
            device.firmware_version.clone().into(),
            false.into(),
            true.into(),
        ],
    )
    .await
    .map(|_| ())
}
