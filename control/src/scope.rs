//! Scopes: which devices a caller may see, as a condition in statements. All devices of a site are visible
//! together, so that a replaced device and its successor are.

use acuvim_model::Scope;
use serde_json::Value as Json;

use crate::{error::Error, statement::Statement};

/// Adds the condition that a device `d` is in the scope. Without a scope every device is.
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
mod tests {
    use super::*;

    fn condition(scope: Option<&Scope>) -> (String, usize) {
        let mut statement = Statement::new("WHERE 1 = 1");
        within(&mut statement, scope);
        let (text, values) = statement.into_parts();
        (text.0.split_whitespace().collect::<Vec<_>>().join(" "), values.len())
    }

    #[test]
    fn no_scope_is_every_device_and_an_empty_one_is_none() {
        assert_eq!(condition(None), ("WHERE 1 = 1".to_owned(), 0));
        let empty = Scope { device_ids: vec![], group_ids: vec![] };
        assert_eq!(condition(Some(&empty)), ("WHERE 1 = 1 AND (1 = 0 )".to_owned(), 0));
        let one = Scope { device_ids: vec!["d1".into(), "d2".into()], group_ids: vec![] };
        let (text, values) = condition(Some(&one));
        assert!(text.contains("device_id IN ($1 , $2 )"), "{text}");
        assert_eq!(values, 2);
    }

    #[test]
    fn a_stored_scope_that_cant_be_read_is_not_taken_for_no_scope() {
        assert_eq!(from_json(None).ok(), Some(None));
        assert_eq!(from_json(Some(Json::Null)).ok(), Some(None));
        assert!(from_json(Some(Json::Bool(true))).is_err());
        let scope = Scope { device_ids: vec!["d1".into()], group_ids: vec![] };
        assert_eq!(from_json(to_json(Some(&scope))).ok(), Some(Some(scope)));
    }
}
