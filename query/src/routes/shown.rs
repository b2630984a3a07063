//! What a caller is shown of the devices that a rule or a silence names: its own, and no others.

use std::collections::HashSet;

use acuvim_schemas::api::DeviceScope;
use uuid::Uuid;

use crate::{App, auth::Caller, problem::ApiError};

/// The devices and groups that a caller may be told of; none: all.
pub(super) struct Shown(Option<(HashSet<String>, Vec<Uuid>)>);

impl Shown {
    pub(super) async fn to(app: &App, caller: &Caller) -> Result<Self, ApiError> {
        let Some(scope) = caller.scope() else { return Ok(Self(None)) };
        let devices = app.control().scoped_device_ids(scope).await?;
        Ok(Self(Some((devices.into_iter().collect(), scope.group_ids.clone()))))
    }

    /// Leaves out what is not the caller's; false if nothing is left of what was not for all.
    pub(super) fn narrow(&self, scope: &mut DeviceScope) -> bool {
        let Some((devices, groups)) = &self.0 else { return true };
        if scope.is_all() {
            return true;
        }
        scope.device_ids.retain(|id| devices.contains(id));
        scope.group_ids.retain(|id| groups.contains(id));
        !scope.is_all()
    }
}
