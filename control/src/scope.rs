//! Which devices a caller sees, as a condition of a statement. The loggers of one site are seen
//! together.

use acuvim_schemas::api::Scope;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{Control, Error, ErrorKind, text::Statement};

/// Adds the condition that a device `d` is in a scope; none: every device is.
pub(crate) fn within(statement: &mut Statement, scope: Option<&Scope>) {
    let Some(scope) = scope else { return };
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

/// A scope that can't be read must not become none, which is everything.
pub(crate) fn from_json(stored: Option<Json>) -> Result<Option<Scope>, Error> {
    match stored {
        None | Some(Json::Null) => Ok(None),
        Some(json) => serde_json::from_value(json)
            .map(Some)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("a stored scope: {e}"))),
    }
}

impl Control {
    /// The ids of all devices in a scope, for tables that know nothing of groups.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn scoped_device_ids(&self, scope: &Scope) -> Result<Vec<String>, Error> {
        self.device_ids_of(None, Some(scope)).await
    }

    /// The ids of all devices in a group, in a scope, or both.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device_ids_of(
        &self,
        group: Option<Uuid>,
        scope: Option<&Scope>,
    ) -> Result<Vec<String>, Error> {
        let mut statement = Statement::new("SELECT d.device_id FROM devices d WHERE 1 = 1");
        if let Some(group) = group {
            statement.push("AND d.group_id = ?", [group.into()]);
        }
        within(&mut statement, scope);
        let (text, values) = statement.into_parts();
        let rows: Vec<(String,)> = self.fetch_all(text, values).await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}
