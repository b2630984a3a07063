use super::*;
use serde_json::json;

/// A misspelt scope must not be read as none, which means every device.
#[test]
fn a_misspelt_scope_is_refused_and_gives_no_rights() {
    let user = |more: Value| {
        let mut body = json!({ "username": "u", "password": "p", "role": "Viewer" });
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        serde_json::from_value::<NewUser>(body)
    };
    assert_eq!(user(json!({})).expect("a user").scope, None);
    assert_eq!(user(json!({ "scope": null })).expect("a user").scope, None);
    // An empty scope is one: it sees nothing.
    assert_eq!(user(json!({ "scope": {} })).expect("a user").scope, Some(Scope::default()));
    for bad in [
        json!({ "scopes": {} }),
        json!({ "scope": { "devices": ["d1"] } }),
        json!({ "scope": { "device_ids": "d1" } }),
        json!({ "scope": { "group_ids": ["north"] } }),
        json!({ "role": "viewer" }),
    ] {
        assert!(user(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn an_edit_or_a_key_with_an_unknown_field_is_refused() {
    let edit = |json: Value| serde_json::from_value::<UserEdit>(json);
    let least = edit(json!({ "role": "Admin" })).expect("an edit");
    assert!(least.scope.is_none() && least.enabled.is_none() && least.password.is_none());
    assert!(
        edit(json!({})).is_err() && edit(json!({ "role": "Admin", "disabled": true })).is_err()
    );
    let key = |json: Value| serde_json::from_value::<NewKey>(json);
    let least = key(json!({ "name": "grafana", "role": "Viewer" })).expect("a key");
    assert!(least.scope.is_none() && least.expires_at.is_none());
    assert!(
        key(json!({ "name": "grafana", "role": "Viewer", "expires": "2030-01-01T00:00:00Z" }))
            .is_err()
    );
    let without_zone =
        json!({ "name": "grafana", "role": "Viewer", "expires_at": "2030-01-01T00:00:00" });
    assert!(key(without_zone).is_err());
}

#[test]
fn the_caller_and_a_new_key_show_their_parts_side_by_side() {
    let me = Me {
        user: UserInfo { id: Uuid::nil(), username: "u".into(), role: Role::Operator },
        scope: None,
    };
    let id = "00000000-0000-0000-0000-000000000000";
    let want = json!({ "id": id, "username": "u", "role": "Operator", "scope": null });
    assert_eq!(serde_json::to_value(&me).expect("JSON"), want);
    assert_eq!(serde_json::from_value::<Me>(want).expect("a caller"), me);
    let key = Key {
        id: Uuid::nil(),
        name: "grafana".into(),
        role: Role::Viewer,
        scope: Some(Scope { device_ids: vec!["d1".into()], group_ids: vec![] }),
        expires_at: None,
        created_at: DateTime::UNIX_EPOCH,
    };
    let shown = serde_json::to_value(CreatedKey { key, secret: "s".into() }).expect("JSON");
    let want = json!({
        "id": id, "name": "grafana", "role": "Viewer",
        "scope": { "device_ids": ["d1"], "group_ids": [] }, "expires_at": null,
        "created_at": "1970-01-01T00:00:00Z", "secret": "s"
    });
    assert_eq!(shown, want);
}
