//! Where settings come from, what is refused, and that secrets stay hidden.

use super::*;
use std::collections::HashMap;

fn load(set: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Settings> {
    let source: HashMap<String, String> =
        environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flags =
        ServeFlags { set: set.iter().map(|s| (*s).to_owned()).collect(), ..ServeFlags::default() };
    Settings::load_with(&flags, Environment::with_prefix("ACUVIM").source(Some(source)))
}

#[test]
fn defaults_stand_and_are_overridden_in_order() {
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
fn a_bad_setting_is_named_with_what_is_allowed() {
    for (set, say) in [
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
        assert!(error.contains(say), "{set}: {error}");
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
    assert_eq!(settings.roles().expect("roles"), [Role::Query].into());
    assert_eq!(settings.broker().expect("url"), Some(("broker".to_owned(), 8883, true)));
    let kafka = settings.kafka().expect("url").expect("set");
    let login = Some(("u".to_owned(), "p".to_owned()));
    assert_eq!((kafka.brokers.as_str(), kafka.login), ("a:9092,b:9093", login));
    let shown = toml::to_string(&settings.masked()).expect("toml");
    assert!(shown.contains("kafka://u:********@a:9092,b:9093"), "{shown}");
    assert!(!shown.contains("u:p@"), "{shown}");
}

#[test]
fn secrets_are_masked() {
    let secret = "0123456789abcdef0123456789abcdef";
    let settings = load(&[&format!("jwt.secret={secret}"), "lake.url=s3://k:pw@b/p"], &[]);
    let shown = toml::to_string(&settings.expect("valid").masked()).expect("toml");
    assert!(!shown.contains(secret) && !shown.contains("pw@"), "{shown}");
}
