use super::*;
use serde_json::json;

fn source(command: &str, params: Value) -> Option<String> {
    let Value::Object(params) = params else { panic!("an object") };
    firmware_source(command, &params)
}

#[test]
fn every_way_to_name_an_address_for_firmware_is_found() {
    let config = |section: &str, values: Value| json!({"section": section, "values": values});
    for (command, params, field) in [
        ("ota_update", json!({"url": "http://h/x"}), "params.url"),
        ("OTA-Update", json!({}), "params.url"),
        ("firmware_update", json!({}), "params.url"),
        (
            "set_config",
            config("ota", json!({"mirror": "h.example/fw.bin"})),
            "params.values.mirror",
        ),
        ("set_config", config("ota", json!({"url": "h/x"})), "params.values.url"),
        ("set_config", config("ota", json!({"at": "http://h"})), "params.values.at"),
        ("set_config", config("ota", json!({"a": {"host": "h"}})), "params.values.a.host"),
        ("set_config", config("ota", json!({"from": ["http://h"]})), "params.values.from"),
        (
            "set_config",
            config("transport", json!({"firmware_url": "h/x"})),
            "params.values.firmware_url",
        ),
    ] {
        let found = source(command, params.clone());
        assert_eq!(found.as_deref(), Some(field), "{command} {params}");
    }
    for (command, params) in [
        ("ping", json!({})),
        ("ota_rollback", json!({})),
        ("set_config", config("ota", json!({"auto": true, "hour": 3, "channel": "stable"}))),
        ("set_config", config("mqtt", json!({"url": "mqtt://h"}))),
        ("set_config", config("telemetry", json!({"interval_s": 10}))),
    ] {
        assert_eq!(source(command, params.clone()), None, "{command} {params}");
    }
}

/// A raw command goes to the device as it is, and its firmware may compare names without case.
#[test]
fn other_spellings_of_the_command_and_the_section_hide_nothing() {
    for command in ["SET_CONFIG", "set-config", "setConfig", "set config"] {
        for section in ["ota", "OTA", " Ota "] {
            let params = json!({ "section": section, "values": { "at": "http://h/fw.bin" } });
            assert_eq!(source(command, params).as_deref(), Some("params.values.at"), "{command}");
        }
    }
    let listed = json!({ "section": "ota", "values": ["x", "http://h/fw.bin"] });
    assert_eq!(source("SET_CONFIG", listed).as_deref(), Some("params.values"));
    for command in ["OTA_UPDATE", "fw_update", "FwFlash", "install_firmware", "otaUpdate"] {
        assert_eq!(source(command, json!({})).as_deref(), Some("params.url"), "{command}");
    }
}

#[test]
fn values_without_an_address_and_other_commands_are_free() {
    for (command, params) in [
        ("set_config", json!({})),
        ("set_config", json!({ "section": "ota" })),
        ("set_config", json!({ "section": "ota", "values": null })),
        ("set_config", json!({ "section": "ota", "values": { "url": 7, "host": null } })),
        ("set_config", json!({ "values": { "server": "h.example" } })),
        ("get_config", json!({ "section": "ota", "values": { "url": "http://h" } })),
        ("calibrate", json!({ "url": "http://h" })),
        ("", json!({})),
    ] {
        assert_eq!(source(command, params.clone()), None, "{command} {params}");
    }
}

#[test]
fn an_address_is_found_at_any_depth() {
    let deep = json!({ "a": [{ "firmware": { "mirrors": [["h.example/fw"]] } }] });
    let params = json!({ "section": "mqtt", "values": deep });
    assert_eq!(source("set_config", params).as_deref(), Some("params.values.a.firmware.mirrors"));
}
