use super::*;
use proptest::prelude::*;
use serde_json::json;

fn check(command: &str, params: Value) -> Result<(), (String, String)> {
    let Value::Object(params) = params else { panic!("an object") };
    check_params(CommandKind::parse(command).expect("a command"), &params)
}

#[test]
fn what_each_command_takes() {
    for (command, params) in [
        ("ping", json!({})),
        ("set_config", json!({"section": "telemetry", "values": {"interval_s": 10}})),
        ("get_config", json!({})),
        ("get_config", json!({"section": "wifi"})),
        ("factory_reset", json!({"confirm": true})),
        ("wifi_set", json!({"ssid": "plant", "password": "12345678"})),
        ("wifi_set", json!({"ssid": "open"})),
        ("transport_set", json!({"mode": "gsm"})),
        ("ota_update", json!({"url": "http://h/x", "version": "1", "checksum": "a".repeat(64)})),
        ("modbus_read", json!({"address": 0x4000, "count": 2})),
        ("modbus_write", json!({"address": 1, "values": [0, 65_535]})),
        ("set_interval", json!({"heartbeat_s": 60})),
        ("log_tail", json!({"lines": 200})),
    ] {
        assert_eq!(check(command, params.clone()), Ok(()), "{command} {params}");
    }
}

#[test]
fn the_field_at_fault_is_named() {
    for (command, params, field) in [
        ("ping", json!({"x": 1}), "params.x"),
        ("factory_reset", json!({}), "params.confirm"),
        ("factory_reset", json!({"confirm": false}), "params.confirm"),
        ("wifi_set", json!({"ssid": ""}), "params.ssid"),
        ("wifi_set", json!({"ssid": "a", "password": "short"}), "params.password"),
        ("transport_set", json!({"mode": "carrier pigeon"}), "params.mode"),
        ("modbus_read", json!({"address": 65_536, "count": 1}), "params.address"),
        ("modbus_read", json!({"address": 1.5, "count": 1}), "params.address"),
        ("modbus_write", json!({"address": 1, "values": []}), "params.values"),
        ("modbus_write", json!({"address": 1, "values": [70_000]}), "params.values"),
        ("set_interval", json!({}), "params"),
        ("set_config", json!({"section": "nope", "values": {"a": 1}}), "params.section"),
        ("set_config", json!({"section": "wifi", "values": {}}), "params.values"),
        (
            "set_config",
            json!({"section": "telemetry", "values": {"interval_s": 0}}),
            "params.values.interval_s",
        ),
    ] {
        let fault = check(command, params.clone()).expect_err("a fault");
        assert_eq!(fault.0, field, "{command} {params}: {}", fault.1);
    }
}

proptest! {
    #[test]
    fn any_params_are_judged(key in ".{0,12}", number in any::<f64>(), text in ".{0,40}") {
        for command in CommandKind::ALL {
            for value in [json!(number), json!(text), json!([text]), json!({&text: number})] {
                let mut params = Map::new();
                params.insert(key.clone(), value.clone());
                for param in command.params() {
                    params.insert(param.name.to_owned(), value.clone());
                }
                let _ = check_params(command, &params);
            }
        }
    }
}

/// A value that the shape takes.
fn good(shape: Shape) -> Value {
    match shape {
        Shape::Whole(from, _) => json!(from),
        Shape::Text(from, _) => json!("x".repeat(from)),
        Shape::OneOf(words) => json!(words[0]),
        Shape::Yes => json!(true),
        Shape::Registers(_) => json!([1]),
        Shape::Section => json!("sd"),
        Shape::Values => json!({ "a": 1 }),
    }
}

/// All parameters of a command with values that it takes.
fn full(command: CommandKind) -> Map<String, Value> {
    command.params().iter().map(|p| (p.name.to_owned(), good(p.shape))).collect()
}

fn edges(shape: Shape) -> (Vec<Value>, Vec<Value>) {
    match shape {
        Shape::Whole(from, to) => (
            vec![json!(from), json!(to)],
            vec![json!(from - 1), json!(to + 1), json!(1.5), json!("1"), json!(null), json!([1])],
        ),
        Shape::Text(from, to) => (
            vec![json!("ü".repeat(from)), json!("ü".repeat(to))],
            vec![
                json!("x".repeat(from - 1)),
                json!("x".repeat(to + 1)),
                json!(format!("\n{}", "x".repeat(from))),
                json!(format!("\0{}", "x".repeat(from))),
                json!(MASK),
                json!(12_345_678),
                json!(null),
            ],
        ),
        Shape::OneOf(words) => (
            words.iter().map(|word| json!(word)).collect(),
            vec![json!(""), json!(words[0].to_uppercase()), json!(words.join(", ")), json!(1)],
        ),
        Shape::Yes => (
            vec![json!(true)],
            vec![json!(false), json!("true"), json!(1), json!(null), json!([true])],
        ),
        Shape::Registers(most) => (
            vec![json!([0]), json!([65_535]), json!(vec![7; most])],
            vec![
                json!([]),
                json!(vec![7; most + 1]),
                json!([65_536]),
                json!([-1]),
                json!([1.5]),
                json!(["1"]),
                json!([1, null]),
                json!(7),
            ],
        ),
        Shape::Section => (
            Section::ALL.map(|section| json!(section.as_str())).to_vec(),
            vec![json!(""), json!("WIFI"), json!("network"), json!(1), json!(null)],
        ),
        Shape::Values => (
            vec![json!({ "a": null }), json!({ "a": { "b": [1] } })],
            vec![json!({}), json!([]), json!("a"), json!(null)],
        ),
    }
}

#[test]
fn every_parameter_is_taken_up_to_its_edges_and_refused_beyond() {
    for command in CommandKind::ALL {
        for param in command.params() {
            let (fits, beyond) = edges(param.shape);
            let with = |value: &Value| {
                let mut params = full(command);
                params.insert(param.name.to_owned(), value.clone());
                check_params(command, &params)
            };
            for value in fits {
                // The ranges of single values are the section's matter.
                assert_eq!(with(&value), Ok(()), "{command} {} {value}", param.name);
            }
            for value in beyond {
                let fault = with(&value).expect_err("a fault");
                assert_eq!(fault.0, format!("params.{}", param.name), "{command} {value}");
                assert!(!fault.1.is_empty());
            }
        }
    }
}

#[test]
fn what_must_be_given_is_missed_and_what_may_be_is_not() {
    for command in CommandKind::ALL {
        for param in command.params() {
            let mut params = full(command);
            params.remove(param.name);
            let missing = Err((format!("params.{}", param.name), "is missing".to_owned()));
            let want = if param.required { missing } else { Ok(()) };
            // Of the intervals one must be there.
            if !(command == CommandKind::SetInterval && params.is_empty()) {
                assert_eq!(check_params(command, &params), want, "{command} {}", param.name);
            }
        }
    }
}

#[test]
fn a_parameter_that_the_command_has_not_is_answered_with_those_it_has() {
    let said = |command: &str| check(command, json!({ "x": 1 })).expect_err("a fault").1;
    assert_eq!(said("ping"), "ping takes no parameters");
    assert_eq!(said("log_tail"), "log_tail takes lines");
    assert_eq!(said("modbus_read"), "modbus_read takes address, count, function");
}

#[test]
fn the_dangerous_commands_are_for_admins_or_for_now_alone() {
    let of = |pick: fn(CommandKind) -> bool| -> Vec<&str> {
        CommandKind::ALL.into_iter().filter(|c| pick(*c)).map(CommandKind::as_str).collect()
    };
    assert_eq!(of(CommandKind::is_for_admins), ["factory_reset", "ota_rollback", "modbus_write"]);
    assert_eq!(of(CommandKind::is_only_now), ["reboot", "factory_reset", "modbus_write"]);
    for command in CommandKind::ALL {
        assert_eq!(CommandKind::parse(command.as_str()), Some(command));
        assert_eq!(command.to_string(), command.as_str());
    }
    for bad in ["", "Ping", "ping ", "wifi-scan"] {
        assert_eq!(CommandKind::parse(bad), None, "{bad}");
    }
}
