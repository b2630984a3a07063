//! The command line: help, errors in settings, the simulated fleet, and queries to a running server.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use crate::harness::{PASSWORD, PATIENCE, Server, T0, binary, reading};

fn acuvim(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("the binary runs")
}

fn refusal(args: &[&str]) -> String {
    let output = acuvim(args);
    assert!(!output.status.success(), "{args:?} must fail");
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    text
}

#[test]
fn help_names_every_command_and_where_to_begin() {
    let text = String::from_utf8(acuvim(&["--help"]).stdout).expect("text");
    for word in
        ["serve", "demo", "simulate", "sql", "check", "config", "log", "ACUVIM__SECTION__KEY"]
    {
        assert!(text.contains(word), "{word}");
    }
    for command in ["serve", "demo", "simulate", "sql", "check", "config", "log"] {
        assert!(acuvim(&[command, "--help"]).status.success(), "{command}");
    }
}

#[test]
fn a_bad_setting_or_place_stops_the_start_with_one_line() {
    let dir = tempfile::tempdir().expect("dir");
    // The server warns of a directory that others can read.
    let owner = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(dir.path(), owner).expect("its rights");
    let at = dir.path().to_string_lossy().into_owned();
    let serve = |extra: &[&str]| refusal(&[&["serve", "--data-dir", &at], extra].concat());
    let text = serve(&["--set", "log.partitions=99"]);
    assert!(text.contains("log.partitions is 99: allowed are 1 to 64"), "{text}");
    assert!(serve(&["--set", "http.colour=red"]).contains("colour"));
    assert!(serve(&["--config", "/no/such/file.toml"]).contains("/no/such/file.toml"));
    assert!(serve(&["--set", "lake.url=ftp://x/y"]).contains("ftp"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("address").to_string();
    let text = serve(&["--http-listen", "127.0.0.1:0", "--mqtt-listen", &port]);
    let want = format!(
        "acuvim: {port} (mqtt.listen) is in use; set ACUVIM__MQTT__LISTEN or --mqtt-listen"
    );
    assert_eq!(text, want);
    let file = dir.path().join("a-file");
    std::fs::write(&file, "x").expect("write");
    let text = refusal(&["serve", "--data-dir", &file.join("below").to_string_lossy()]);
    assert!(text.contains("data.dir"), "{text}");
}

#[test]
fn config_prints_what_is_in_force_with_secrets_masked() {
    let secret = "jwt.secret=0123456789abcdef0123456789abcdef";
    let output = acuvim(&["config", "--set", secret, "--http-listen", "127.0.0.1:5001"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("listen = \"127.0.0.1:5001\""), "{text}");
    assert!(text.contains("secret = \"********\"") && !text.contains("abcdef"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_simulate_and_check_against_a_running_server() {
    let dir = tempfile::tempdir().expect("dir");
    let at = dir.path().to_string_lossy().into_owned();
    let check = acuvim(&["check", "--data-dir", &at]);
    assert!(check.status.success());
    let server = Server::start(dir.path(), &[]).await;
    let device = server.device("d1").await;
    device.publish("acuvim/d1/telemetry", reading(T0), false).await.expect("ack");
    server.wait_for("SELECT count(*) FROM telemetry", 1).await;

    std::fs::write(dir.path().join("initial-admin-password"), PASSWORD).expect("write");
    let query = "SELECT device_id, voltage_l1_v FROM telemetry";
    let sql = |extra: &[&str]| {
        let args = [&["sql", query, "--url", &server.http, "--data-dir", &at], extra].concat();
        let output = acuvim(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(sql(&["--csv"]), "device_id,voltage_l1_v\nd1,230.4\n");
    assert!(sql(&[]).contains("(1 rows; "));
    let refused = refusal(&["sql", "DROP TABLE x", "--url", &server.http, "--data-dir", &at]);
    assert!(refused.contains("only a SELECT"), "{refused}");

    let broker = server.mqtt.to_string();
    let args = ["simulate", "--broker", &broker, "--devices", "5", "--interval", "0.2"];
    let output = acuvim(&[&args[..], &["--run-for", "4", "--bad", "0.2"]].concat());
    let text = String::from_utf8(output.stdout).expect("text");
    let said = text.lines().last().expect("a summary");
    assert!(said.starts_with("acknowledged in all:"), "{text}");
    let number = |word: &str| -> i64 {
        let before = said.split(word).next().expect("the word").trim_end();
        before.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
    };
    // The fleet counts acknowledgements while it runs; one more per device may have come at the end.
    let (live, drained) = (number(" live readings"), number(" from SD cards"));
    assert!(live > 20 && drained > 0, "{said}");
    // The last readings are in the log, and reach the tail a moment later.
    let count = "SELECT count(*) FROM telemetry WHERE device_id <> 'd1'";
    let begun = Instant::now();
    let stored = loop {
        let stored = server.number(count).await;
        if stored >= live + drained || begun.elapsed() > PATIENCE {
            break stored;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!((live + drained..=live + drained + 305).contains(&stored), "{stored}: {said}");
    server.wait_for("SELECT count(*) FROM devices WHERE registered", 5).await;

    let check = acuvim(&["check", "--data-dir", &at]);
    assert!(!check.status.success(), "the log is the server's");
    let text = String::from_utf8(check.stdout).expect("text");
    assert!(text.contains("ok   control") && text.contains("FAIL log"), "{text}");
    server.stop().await;
}
