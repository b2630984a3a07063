//! Which settings of a topic are refused, and what the operator is told to do.

use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

use super::*;

/// The settings of a topic as this program creates it, with some changed.
fn settings(changed: &[(&str, &str)]) -> ConfigResource {
    let created = [
        ("cleanup.policy", "delete"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "-1"),
        ("max.message.bytes", "4259840"),
        ("min.insync.replicas", "2"),
        ("unclean.leader.election.enable", "false"),
    ];
    let entry = |(name, value): (&str, &str)| {
        let new = changed.iter().find(|(changed, _)| *changed == name);
        ConfigEntry {
            name: name.to_owned(),
            value: Some(new.map_or(value, |(_, new)| *new).to_owned()),
            source: ConfigSource::Default,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        }
    };
    ConfigResource {
        specifier: OwnedResourceSpecifier::Topic("acuvim.uplink".to_owned()),
        entries: created.into_iter().map(entry).collect(),
    }
}

#[test]
fn a_topic_as_it_is_created_is_good() {
    let options = KafkaOptions::at("x");
    for replicas in [1, 3] {
        assert_eq!(fault(&options, &settings(&[]), replicas), None);
    }
    for better in [
        ("retention.ms", "-1"),
        ("retention.ms", "604800001"),
        ("max.message.bytes", "9999999"),
        ("min.insync.replicas", "3"),
    ] {
        assert_eq!(fault(&options, &settings(&[better]), 3), None, "{better:?}");
    }
}

#[test]
fn each_way_to_lose_records_is_refused_with_the_setting_to_correct() {
    let options = KafkaOptions::at("x");
    for (setting, value, says) in [
        ("cleanup.policy", "compact", "set cleanup.policy to delete"),
        ("cleanup.policy", "compact,delete", "set cleanup.policy to delete"),
        ("retention.ms", "604799999", "at least 604800000"),
        ("retention.ms", "0", "keeps records for 0 ms"),
        ("retention.bytes", "0", "set retention.bytes to -1"),
        ("retention.bytes", "1073741824", "drops records over 1073741824 bytes"),
        ("max.message.bytes", "4259839", "at least 4259840"),
        ("min.insync.replicas", "1", "set min.insync.replicas to 2"),
        ("unclean.leader.election.enable", "true", "unclean.leader.election.enable to false"),
    ] {
        let refused = fault(&options, &settings(&[(setting, value)]), 3).expect("refused");
        assert!(refused.contains(says), "{setting} = {value}: {refused}");
    }
}

/// With one replica there is nothing that could be in sync with it.
#[test]
fn a_single_broker_needs_no_second_replica() {
    let alone = settings(&[("min.insync.replicas", "1")]);
    assert_eq!(fault(&KafkaOptions::at("x"), &alone, 1), None);
    assert!(fault(&KafkaOptions::at("x"), &alone, 2).is_some());
}

/// A broker that leaves a setting out must not pass as one that has a good value.
#[test]
fn a_setting_without_a_value_is_not_taken_for_a_good_one() {
    for setting in ["cleanup.policy", "max.message.bytes", "min.insync.replicas"] {
        let mut without = settings(&[]);
        without.entries.retain(|entry| entry.name != setting);
        assert!(fault(&KafkaOptions::at("x"), &without, 3).is_some(), "{setting}");
    }
}
