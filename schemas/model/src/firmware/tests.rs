use super::*;
use serde_json::{Value, json};

#[test]
fn of_an_edit_what_is_not_given_stays() {
    let edit = |json: Value| serde_json::from_value::<FirmwareEdit>(json);
    let none = edit(json!({})).expect("an edit");
    assert!(none.active.is_none() && none.release_notes.is_none() && none.mandatory.is_none());
    assert_eq!(edit(json!({ "active": false })).expect("an edit").active, Some(false));
    for bad in [json!({ "enabled": true }), json!({ "active": "true" }), json!({ "checksum": "x" })]
    {
        assert!(edit(bad.clone()).is_err(), "{bad}");
    }
}

/// Devices with little memory read this answer: a manifest is only there if there is one.
#[test]
fn a_check_without_a_manifest_does_not_mention_it() {
    let none = json!({
        "update_available": false, "version": null, "url": null, "size": null, "checksum": null,
        "release_notes": null, "mandatory": false
    });
    let check: FirmwareCheck = serde_json::from_value(none.clone()).expect("a check");
    assert_eq!(serde_json::to_value(&check).expect("JSON"), none);
    let manifest = SignedManifest { manifest: "{\"v\": 1}".into(), signature: "c2ln".into() };
    let signed = FirmwareCheck { manifest: Some(manifest), ..check };
    let shown = serde_json::to_value(&signed).expect("JSON");
    // Byte for byte as it was signed, blanks included.
    assert_eq!(shown["manifest"], json!({ "manifest": "{\"v\": 1}", "signature": "c2ln" }));
    assert_eq!(serde_json::from_value::<FirmwareCheck>(shown).expect("a check"), signed);
}
