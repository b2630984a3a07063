//! Notifications that can't be sent or should not.

use super::*;
use serde_json::{Value, json};

fn checked(change: &Value) -> Result<NotificationBody, Option<String>> {
    let mut whole = json!({"name": "n", "kind": "webhook", "url": "https://hooks.example/a"});
    for (key, value) in change.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    let mut body: NotificationBody = serde_json::from_value(whole).expect("a body");
    let hosts = HostCheck(std::sync::Arc::new(|host| {
        (host == "10.0.0.1").then(|| "not public".to_owned())
    }));
    match notification(&mut body, &hosts) {
        Ok(()) => Ok(body),
        Err(error) => Err(error.problem.errors.first().map(|f| f.field.clone())),
    }
}

#[test]
fn a_webhook_gets_a_secret_and_a_mail_none() {
    let made = checked(&json!({})).expect("good").secret.expect("a secret");
    assert!(made.starts_with("whsec_") && made.len() == 6 + 44, "{made}");
    let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    assert_eq!(checked(&json!({"secret": given})).expect("good").secret.as_deref(), Some(given));
    let mail = json!({"kind": "email", "url": null, "to": ["ops@example.org"]});
    assert_eq!(checked(&mail).expect("good").secret, None);
}

#[test]
fn the_field_at_fault_is_named() {
    for (change, field) in [
        (json!({"name": " n"}), "name"),
        (json!({"url": null}), "url"),
        (json!({"url": "ftp://x"}), "url"),
        (json!({"url": "hooks.example"}), "url"),
        (json!({"url": "http://10.0.0.1/x"}), "url"),
        (json!({"secret": "short"}), "secret"),
        (json!({"to": ["a@b.c"]}), "to"),
        (json!({"kind": "email", "to": ["a@b.c"]}), "url"),
        (json!({"kind": "email", "url": null}), "to"),
        (json!({"kind": "email", "url": null, "to": ["Ops <a@b.c>"]}), "to"),
        (json!({"kind": "email", "url": null, "to": ["a@b@c"]}), "to"),
        (json!({"runbook_url": "javascript:alert(1)"}), "runbook_url"),
        (json!({"group_seconds": 3601}), "group_seconds"),
        (json!({"scope": {"device_ids": ["a b"]}}), "scope.device_ids"),
    ] {
        assert_eq!(checked(&change).err(), Some(Some(field.to_owned())), "{change}");
    }
}

#[test]
fn a_webhook_goes_where_its_url_says_and_carries_no_login() {
    for good in
        ["http://hooks.example", "https://hooks.example:8443/a?b=c#d", "https://[2001:db8::1]/"]
    {
        assert!(checked(&json!({"url": good})).is_ok(), "{good}");
    }
    let too_long = format!("https://hooks.example/{}", "x".repeat(URL));
    for bad in [
        "https://user@hooks.example",
        "https://user:secret@hooks.example",
        "https://",
        "file:///etc/passwd",
        "HTTPS",
        "",
        "http://10.0.0.1:80/x",
        too_long.as_str(),
    ] {
        assert_eq!(checked(&json!({"url": bad})).err(), Some(Some("url".to_owned())), "{bad}");
    }
}

#[test]
fn a_secret_has_24_to_64_bytes() {
    let secret =
        |bytes: usize| json!({"secret": format!("whsec_{}", STANDARD.encode(vec![7; bytes]))});
    for (bytes, is_good) in [(23, false), (24, true), (64, true), (65, false)] {
        assert_eq!(checked(&secret(bytes)).is_ok(), is_good, "{bytes}");
    }
    let bare = STANDARD.encode([7; 32]);
    for bad in [bare.as_str(), "whsec_", "whsec_!!!!", ""] {
        assert_eq!(
            checked(&json!({"secret": bad})).err(),
            Some(Some("secret".to_owned())),
            "{bad}"
        );
    }
    let one = checked(&json!({})).expect("good").secret;
    let other = checked(&json!({})).expect("good").secret;
    assert_ne!(one, other, "each webhook has a secret of its own");
}

#[test]
fn a_mail_has_1_to_20_plain_addresses() {
    let mail = |to: &[&str]| checked(&json!({"kind": "email", "url": null, "to": to}));
    assert!(mail(&["a@b"; ADDRESSES]).is_ok());
    assert!(mail(&["a@b"; ADDRESSES + 1]).is_err());
    let longest = format!("{}@b", "x".repeat(252));
    let too_long = format!("{}@b", "x".repeat(253));
    assert!(mail(&[&longest]).is_ok());
    for bad in [
        "",
        "@",
        "a@",
        "@b",
        "a",
        "a b@c",
        "a@b,c@d",
        "a@b\r\nBcc: c@d",
        "\"a\"@b",
        "ä@b",
        &too_long,
    ] {
        assert_eq!(mail(&["a@b", bad]).err(), Some(Some("to".to_owned())), "{bad:?}");
    }
    let with_secret = json!({"kind": "email", "url": null, "to": ["a@b"], "secret": "whsec_x"});
    assert_eq!(checked(&with_secret).err(), Some(Some("secret".to_owned())));
}

#[test]
fn a_runbook_may_have_the_alerts_type_in_its_url() {
    assert!(
        checked(&json!({"runbook_url": "https://wiki.example/{alert_type}?x={alert_type}"}))
            .is_ok()
    );
    assert!(checked(&json!({"runbook_url": "{alert_type}://wiki.example"})).is_err());
    assert!(checked(&json!({"group_seconds": GROUP})).is_ok());
    assert!(checked(&json!({"alert_types": vec!["a"; TAGS + 1]})).is_err());
}
