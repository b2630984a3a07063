//! A caller's view of the devices that a rule or silence names: those that it sees, and no others.

use std::collections::HashSet;

use acuvim_control::{Control, DeviceSite};
use acuvim_model::{DeviceScope, Scope};
use uuid::Uuid;

use crate::{auth::Caller, problem::ApiError};

/// The scopes that a caller may see; none: all.
pub(super) struct ScopeView(Option<Own>);

/// The caller's devices, with the groups and tags that these have.
#[derive(Debug, Default)]
struct Own {
    devices: HashSet<String>,
    groups: HashSet<Uuid>,
    tags: HashSet<String>,
}

impl Own {
    fn of(scope: &Scope, sites: Vec<DeviceSite>) -> Self {
        let mut own = Self { groups: scope.group_ids.iter().copied().collect(), ..Self::default() };
        for site in sites {
            let tags = site.tags.and_then(|tags| serde_json::from_value::<Vec<String>>(tags).ok());
            own.tags.extend(tags.unwrap_or_default());
            own.groups.extend(site.group_id);
            own.devices.insert(site.device_id);
        }
        own
    }
}

impl ScopeView {
    pub(super) async fn of(control: &Control, caller: &Caller) -> Result<Self, ApiError> {
        let Some(scope) = caller.scope() else { return Ok(Self(None)) };
        let sites = control.scoped_sites(scope).await?;
        Ok(Self(Some(Own::of(scope, sites))))
    }

    /// Removes what the caller does not see from a scope. False if nothing is left of a scope that named
    /// something.
    pub(super) fn narrow(&self, scope: &mut DeviceScope) -> bool {
        let Some(own) = &self.0 else { return true };
        if scope.is_all() {
            return true;
        }
        scope.device_ids.retain(|id| own.devices.contains(id));
        scope.group_ids.retain(|id| own.groups.contains(id));
        scope.tags.retain(|tag| own.tags.contains(tag));
        !scope.is_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_names_none_of_the_callers_devices_is_not_shown() {
        let (ours, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let site = DeviceSite {
            device_id: "mine".into(),
            group_id: Some(ours),
            tags: Some(json!(["roof"])),
            nominal_voltage_v: None,
            nominal_frequency_hz: None,
        };
        let scope = Scope { device_ids: vec!["mine".into()], group_ids: vec![] };
        let shown = ScopeView(Some(Own::of(&scope, vec![site])));
        let names = |devices: &[&str], groups: &[Uuid], tags: &[&str]| DeviceScope {
            device_ids: devices.iter().map(|id| (*id).to_owned()).collect(),
            group_ids: groups.to_vec(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        for mut foreign in
            [names(&["other"], &[], &[]), names(&[], &[theirs], &[]), names(&[], &[], &["cellar"])]
        {
            assert!(!shown.narrow(&mut foreign), "{foreign:?}");
        }
        let mut both = names(&["other", "mine"], &[theirs, ours], &["cellar", "roof"]);
        assert!(shown.narrow(&mut both));
        assert_eq!(both, names(&["mine"], &[ours], &["roof"]));
        assert!(shown.narrow(&mut DeviceScope::default()), "it is for all");
        let mut foreign = names(&["other"], &[], &[]);
        assert!(ScopeView(None).narrow(&mut foreign) && foreign.device_ids == ["other"]);
    }
}
