//! Starting a rollout: the request is checked, its gate planned, and the devices chosen.

use acuvim_control::{NewRollout, RolloutStarted, Target};
use acuvim_model::{DeployRequest, Deployed, Role, RolloutPlan, Skipped, problem::Code};
use acuvim_rollout::check_plan;

use super::{error::no_firmware, gate::check_gate, service::Firmware};
use crate::{auth::Caller, checks, clock::now, problem::ApiError};

/// Devices that a request may name.
const DEVICES: usize = 10_000;

impl Firmware {
    /// Starts a rollout. Nothing is started if a part of the request is wrong, or no device is left.
    pub(crate) async fn deploy(
        &self,
        caller: &Caller,
        request: DeployRequest,
    ) -> Result<Deployed, ApiError> {
        caller.require(Role::Operator)?;
        let control = &self.0.control;
        let target = target(&request)?;
        let plan = request.rollout.unwrap_or_default();
        self.check_plan(caller, &plan).await?;
        if let Target::Group(group) = &target {
            let found = control.group(*group, caller.scope()).await?;
            found.ok_or_else(|| ApiError::field("group_id", "there is no such group"))?;
        }
        let release = control.firmware(&request.version).await?.ok_or_else(no_firmware)?;
        if release.manifest_expires.is_some_and(|at| at <= now()) {
            let detail =
                "its signed manifest has expired: devices would refuse it; sign and upload it anew";
            return Err(ApiError::new(Code::Refused, detail));
        }
        let new = NewRollout {
            version: &request.version,
            chips: &self.0.chips,
            target: &target,
            plan: &plan,
            most_failures: (!request.force).then_some(self.0.most_failures),
        };
        match control.start_rollout(&new, caller.scope(), &caller.by()).await? {
            RolloutStarted::Started(deployed) => Ok(deployed),
            RolloutStarted::NoFirmware => Err(no_firmware()),
            RolloutStarted::BadPlan(error) => Err(ApiError::field(&error.field, error.message)),
            RolloutStarted::Nobody(skipped) => Err(nobody(&skipped)),
        }
    }

    async fn check_plan(&self, caller: &Caller, plan: &RolloutPlan) -> Result<(), ApiError> {
        // For any number of devices: stages that depend on their number are checked once it is known.
        check_plan(plan, usize::MAX)
            .map_err(|error| ApiError::field(&error.field, error.message))?;
        if let Some(query) = &plan.health_gate_sql {
            // It reads the data of every device.
            caller.require_all(Role::Operator)?;
            check_gate(&self.0.sql, query).await?;
        }
        Ok(())
    }
}

/// The error of a rollout that would have no device.
fn nobody(skipped: &[Skipped]) -> ApiError {
    let some: Vec<String> =
        skipped.iter().take(5).map(|one| format!("{}: {}", one.device_id, one.reason)).collect();
    let detail = match some.is_empty() {
        true => "no device is meant: nothing was started".to_owned(),
        false => format!(
            "none of {} devices can take it, so nothing was started; {}",
            skipped.len(),
            some.join("; ")
        ),
    };
    ApiError::new(Code::Refused, detail)
}

fn target(request: &DeployRequest) -> Result<Target, ApiError> {
    match (&request.device_ids, &request.group_id, &request.tag) {
        (Some(ids), None, None) => {
            if ids.is_empty() || ids.len() > DEVICES {
                return Err(ApiError::field("device_ids", format!("1 to {DEVICES} of them")));
            }
            ids.iter().try_for_each(|id| checks::device_id("device_ids", id))?;
            Ok(Target::Devices(ids.clone()))
        }
        (None, Some(group), None) => Ok(Target::Group(*group)),
        (None, None, Some(tag)) => {
            checks::short_text("tag", tag)?;
            Ok(Target::Tag(tag.clone()))
        }
        _ => Err(ApiError::field("device_ids", "one of device_ids, group_id and tag")),
    }
}
