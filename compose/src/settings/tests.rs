//! Which source overrides which, which values are refused, and that secrets are masked.

use std::collections::HashMap;

use super::*;
use super::{
    default_toml::{TEXT, section, setting},
    log::KafkaCluster,
    mqtt::RemoteBroker,
};

fn load(set: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Settings> {
    let source: HashMap<String, String> =
        environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flags =
        ServeFlags { set: set.iter().map(|s| (*s).to_owned()).collect(), ..ServeFlags::default() };
    Settings::load_with(&flags, Environment::with_prefix("ACUVIM").source(Some(source)))
}

/// Every setting of `default.toml`: `section.key`, and the comment above it.
fn described() -> Vec<(String, String)> {
    let (mut all, mut current, mut about) = (Vec::new(), "", String::new());
    for line in TEXT.lines() {
        if let Some(name) = section(line) {
            (current, about) = (name, String::new());
        } else if let Some(name) = setting(line) {
            all.push((format!("{current}.{name}"), std::mem::take(&mut about)));
        } else {
            about.push_str(line.trim_start_matches('#'));
        }
    }
    all
}

#[test]
fn the_defaults_are_valid_and_overridden_in_order() {
    let settings = load(&[], &[]).expect("defaults");
    assert_eq!(settings.http.listen, "127.0.0.1:5000");
    let settings = load(
        &["log.partitions=2"],
        &[("ACUVIM__LOG__PARTITIONS", "3"), ("ACUVIM__LAKE__FLUSH_ROWS", "7")],
    );
    let settings = settings.expect("valid");
    assert_eq!((settings.log.partitions, settings.lake.flush_rows), (2, 7));
}

#[test]
fn the_printed_settings_are_the_default_file_with_other_values() {
    let printed = |settings: &Settings| settings.to_commented_toml().expect("toml");
    assert_eq!(printed(&Settings::built_in().expect("defaults")), TEXT);
    let changed = load(&["mqtt.url=mqtt://broker", "lake.file_mb=64"], &[]).expect("valid");
    let printed = printed(&changed);
    assert_eq!(printed.lines().count(), TEXT.lines().count());
    let lines = ["url = \"mqtt://broker\"", "file_mb = 64", "# Target size of the files of a day"];
    for line in lines {
        assert!(printed.contains(&format!("\n{line}")), "{line}: {printed}");
    }
}

#[test]
fn every_setting_is_described_and_every_range_is_the_one_that_is_checked() {
    let mut ranges = 0;
    for (name, about) in described() {
        assert!(about.trim_end().ends_with('.'), "{name} has a description: {about}");
        let Some((_, range)) = about.split_once("Allowed: ") else { continue };
        let (least, most) = range.trim_end_matches('.').split_once(" to ").expect("a range");
        let bounds: [i64; 2] = [least, most].map(|bound| bound.parse().expect("a number"));
        for outside in [bounds[0] - 1, bounds[1] + 1] {
            let error =
                format!("{:#}", load(&[&format!("{name}={outside}")], &[]).expect_err(&name));
            let wanted = format!("{name} is {outside}: allowed are {least} to {most}");
            // An unsigned setting refuses a negative number before its range is looked at.
            assert!(error.contains(&wanted) || (outside < 0 && error.contains(&name)), "{error}");
        }
        ranges += 1;
    }
    assert!(ranges > 60, "{ranges} ranges");
}

#[test]
fn a_bad_setting_is_named_with_what_is_allowed() {
    for (set, expected) in [
        ("http.listen=here", "http.listen is `here`: allowed is ADDRESS:PORT"),
        ("log.partitions=0", "log.partitions is 0: allowed are 1 to 64"),
        ("mqtt.topic_prefix=a/#", "mqtt.topic_prefix"),
        ("log.topic_prefix=a/b", "log.topic_prefix"),
        ("log.session_timeout_seconds=0", "log.session_timeout_seconds"),
        ("jwt.secret=short", "jwt.secret"),
        ("jwt.secret=please-change-me-please-change-me-please", "jwt.secret is a placeholder"),
        ("jwt.secret=Your_Super_Secret_Key_of_32_characters!", "jwt.secret is a placeholder"),
        ("jwt.secret=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "again and again"),
        ("jwt.secret=abcabcabcabcabcabcabcabcabcabcabcabcabca", "again and again"),
        ("admin.password=Password12345", "admin.password is one that many people have"),
        ("log.partitons=4", "partitons"),
        ("lake.flush_rows=many", "lake.flush_rows"),
        ("process.roles=ingest", "need log.url = kafka://..., since the embedded log is for one"),
        ("process.roles=cook", "allowed are ingest, processor and query"),
        ("log.url=redis://x", "allowed is kafka://host:9092"),
        ("log.url=kafka://host", "allowed is kafka://host:9092"),
        ("mqtt.url=http://x", "allowed are mqtt://host:1883"),
        ("mqtt.url=mqtt://u:secret@x", "`mqtt://u:********@x`"),
        ("mqtt.share_group=a/b", "mqtt.share_group"),
        ("control.url=mysql://u:secret@h/d", "`mysql://u:********@h/d`"),
    ] {
        let error = format!("{:#}", load(&[set], &[]).expect_err(set));
        assert!(error.contains(expected), "{set}: {error}");
        assert!(!error.contains('\n'), "one line: {error}");
    }
    assert!(load(&[], &[("ACUVIM__NO__SUCH", "1")]).is_err());
}

#[test]
fn the_parts_of_a_larger_system_are_named_by_urls() {
    let kafka = "log.url=kafka://u:p@a:9092,b:9093";
    let apart = ["process.roles=query", kafka];
    let error = format!("{:#}", load(&apart, &[]).expect_err("SQLite"));
    assert!(error.contains("control.url = postgres://"), "{error}");
    let postgres = "control.url=postgres://u:p@h/d";
    let settings = load(&[apart[0], kafka, postgres, "mqtt.url=mqtts://broker"], &[]);
    let settings = settings.expect("valid");
    assert_eq!(settings.process.roles().expect("roles"), [Role::Query].into());
    let broker = RemoteBroker { host: "broker".to_owned(), port: 8883, tls: true };
    assert_eq!(settings.mqtt.remote_broker().expect("url"), Some(broker));
    let login = Some(("u".to_owned(), "p".to_owned()));
    let cluster = KafkaCluster { brokers: "a:9092,b:9093".to_owned(), login };
    assert_eq!(settings.log.kafka().expect("url"), Some(cluster));
    let shown = settings.to_commented_toml().expect("toml");
    assert!(shown.contains("kafka://u:********@a:9092,b:9093"), "{shown}");
    assert!(!shown.contains("u:p@"), "{shown}");
}

#[test]
fn secrets_are_masked() {
    let secret = "0123456789abcdef0123456789abcdef";
    let settings = load(&[&format!("jwt.secret={secret}"), "lake.url=s3://k:pw@b/p"], &[]);
    let shown = settings.expect("valid").to_commented_toml().expect("toml");
    assert!(!shown.contains(secret) && !shown.contains("pw@"), "{shown}");
}

#[test]
fn commands_and_their_help_have_the_same_defaults() {
    use clap::{CommandFactory as _, Parser as _};

    use crate::cli::{Cli, Command};

    let defaults = Settings::built_in().expect("defaults");
    let Command::Sql(sql) = Cli::parse_from(["acuvim", "sql", "SELECT 1"]).command else {
        panic!("sql")
    };
    // The environment of the test may name a server; what is compared is the flag's own default.
    if std::env::var_os("ACUVIM_URL").is_none() {
        assert_eq!(sql.server.url, format!("http://{}", defaults.http.listen));
    }
    assert_eq!(sql.server.data_dir, defaults.data.dir);
    let Command::Simulate(fleet) = Cli::parse_from(["acuvim", "simulate"]).command else {
        panic!("simulate")
    };
    assert_eq!(fleet.broker, defaults.mqtt.listen);
    assert_eq!(fleet.topic_prefix, defaults.mqtt.topic_prefix);
    let mut command = Cli::command();
    let help = command.find_subcommand_mut("serve").expect("serve").render_help().to_string();
    // Long lines are wrapped anywhere.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let dir = defaults.data.dir.display().to_string();
    let shown = [
        &defaults.process.roles,
        &dir,
        &defaults.http.listen,
        &defaults.mqtt.listen,
        &defaults.mqtt.websocket_listen,
    ];
    for default in shown {
        assert!(help.contains(&format!("[default: {default}]")), "{default}: {help}");
    }
}
