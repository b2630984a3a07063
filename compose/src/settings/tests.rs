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
        ("jwt.secret=short", "jwt.secret"),
        ("jwt.secret=please-change-me-please-change-me-please", "jwt.secret"),
        ("log.partitons=4", "partitons"),
        ("lake.flush_rows=many", "lake.flush_rows"),
    ] {
        let error = format!("{:#}", load(&[set], &[]).expect_err(set));
        assert!(error.contains(say), "{set}: {error}");
        assert!(!error.contains('\n'), "one line: {error}");
    }
    assert!(load(&[], &[("ACUVIM__NO__SUCH", "1")]).is_err());
}

#[test]
fn secrets_are_masked() {
    let secret = "0123456789abcdef0123456789abcdef";
    let settings = load(&[&format!("jwt.secret={secret}"), "lake.url=s3://k:pw@b/p"], &[]);
    let shown = toml::to_string(&settings.expect("valid").masked()).expect("toml");
    assert!(!shown.contains(secret) && !shown.contains("pw@"), "{shown}");
}
