//! Scopes: which devices a caller may see, as a condition in statements. All devices of a site are visible
//! together, so that a replaced device and its successor are.

use acuvim_model::Scope;
use serde_json::Value as Json;

use crate::{error::Error, statement::Statement};

/// Adds the condition that a device `d` is in the scope. Without a scope every device is.
pub(crate) fn within(statement: &mut Statement, scope: Option<&Scope>) {
    let Some(scope) = scope else { return };
    // A scope that names nothing is no device, never every device.
    statement.push("AND (1 = 0", []);
    if !scope.device_ids.is_empty() {
        statement.push("OR d.site IN (SELECT site FROM devices WHERE device_id IN", []);
        statement.push_list(scope.device_ids.iter().map(Into::into));
        statement.push(")", []);
    }
    if !scope.group_ids.is_empty() {
        statement.push("OR d.site IN (SELECT site FROM devices WHERE group_id IN", []);
        statement.push_list(scope.group_ids.iter().map(|id| (*id).into()));
        statement.push(")", []);
    }
    statement.push(")", []);
}

pub(crate) fn to_json(scope: Option<&Scope>) -> Option<Json> {
    scope.and_then(|scope| serde_json::to_value(scope).ok())
}

/// Reads a stored scope. One that can't be read is an error, because no scope at all means every device.
pub(crate) fn from_json(stored: Option<Json>) -> Result<Option<Scope>, Error> {
    match stored {
        None | Some(Json::Null) => Ok(None),
        Some(json) => {
            serde_json::from_value(json).map(Some).map_err(|e| Error::stored("a stored scope", e))
        }
    }
}

#[cfg(test)]
mod tests;
