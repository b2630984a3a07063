use acuvim_model::{DeviceEdit, GroupBody};

use super::*;
use crate::testing::{add_devices, audited, by, device_events, fresh};

async fn opens(control: &Control, id: &str, secret: &str) -> bool {
    control.is_device_secret(id, secret).await.expect("ask")
}

async fn enable(control: &Control, id: &str, enabled: bool, second: i64) {
    let edit = DeviceEdit { enabled: Some(enabled), ..DeviceEdit::default() };
    control.edit_device(id, &edit, None, &by(second)).await.expect("edit");
}

#[tokio::test]
async fn a_secret_opens_its_own_device_while_that_is_enabled() {
    let (_dir, control) = fresh().await;
    let other = add_devices(&control, &["e"]).await;
    let secret = add_devices(&control, &["d"]).await;
    assert!(opens(&control, "d", &secret).await);
    let hash = hash_secret(&secret);
    for wrong in ["", other.as_str(), hash.as_str(), "' OR ''='"] {
        assert!(!opens(&control, "d", wrong).await, "{wrong}");
    }
    assert!(!opens(&control, "none", &secret).await);
    enable(&control, "d", false, 1).await;
    assert!(!opens(&control, "d", &secret).await);
    enable(&control, "d", true, 2).await;
    assert!(opens(&control, "d", &secret).await, "disabling does not lose the secret");
    let rotated = control.rotate_device_secret("d", &by(3)).await.expect("rotate");
    assert!(!opens(&control, "d", &secret).await && opens(&control, "d", &rotated).await);
    assert!(control.revoke_device_secret("d", &by(4)).await.expect("revoke"));
    assert!(!opens(&control, "d", &rotated).await && !opens(&control, "d", "").await);
    assert!(!control.revoke_device_secret("d", &by(5)).await.expect("revoke"), "it has none");
}

#[tokio::test]
async fn brokers_read_secrets_again_after_every_change_of_who_may_connect() {
    let (_dir, control) = fresh().await;
    let mut last = control.credentials_version().await.expect("ask");
    assert_eq!(last, None);
    for step in 0..7 {
        match step {
            0 => drop(add_devices(&control, &["d"]).await),
            1 => enable(&control, "d", false, 1).await,
            2 => enable(&control, "d", true, 2).await,
            3 => drop(control.rotate_device_secret("d", &by(3)).await.expect("rotate")),
            4 => drop(control.replace_device("d", "n", None, &by(4)).await.expect("replace")),
            5 => assert!(control.revoke_device_secret("n", &by(5)).await.expect("revoke")),
            _ => assert!(control.delete_device("d", None, &by(6)).await.expect("delete")),
        }
        let now = control.credentials_version().await.expect("ask");
        assert_ne!(now, last, "step {step}");
        last = now;
    }
    let body = GroupBody { name: "g".into(), ..GroupBody::default() };
    control.create_group(&body, &by(7)).await.expect("group");
    let named = DeviceEdit { name: Some(Some("x".into())), ..DeviceEdit::default() };
    control.edit_device("n", &named, None, &by(8)).await.expect("edit");
    assert_eq!(control.credentials_version().await.expect("ask"), last, "and after nothing else");
}

#[tokio::test]
async fn the_broker_gets_a_hash_for_each_device_that_may_connect() {
    let (_dir, control) = fresh().await;
    let secret = add_devices(&control, &["on"]).await;
    add_devices(&control, &["off", "none", "off without"]).await;
    for id in ["none", "off without"] {
        control.revoke_device_secret(id, &by(1)).await.expect("revoke");
    }
    enable(&control, "off", false, 2).await;
    enable(&control, "off without", false, 2).await;
    let secrets = control.device_secrets().await.expect("ask");
    assert_eq!(secrets.get("on"), Some(&Some(hash_secret(&secret))));
    assert_eq!((secrets.get("off"), secrets.get("off without")), (Some(&None), Some(&None)));
    assert!(!secrets.contains_key("none"), "not refused: it has no secret of its own");
}

#[tokio::test]
async fn a_secret_made_in_advance_makes_the_device_known_once() {
    let (_dir, control) = fresh().await;
    let secret = control.rotate_device_secret("d", &by(1)).await.expect("make");
    control.rotate_device_secret("d", &by(2)).await.expect("rotate");
    assert_eq!(device_events(&control).await, ["registered entered"]);
    let audit = audited(&control).await;
    assert_eq!(audit.iter().filter(|e| e.action == "credentials.rotate").count(), 2);
    assert!(!serde_json::to_string(&audit).expect("JSON").contains(&secret));
}
