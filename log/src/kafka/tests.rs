//! What of the log on Kafka can be told without a broker.

use std::time::Instant;

use rdkafka::producer::Producer as _;

use super::*;
use crate::testing::entry;

/// A log whose brokers are nowhere: clients are created, and connect in the background.
fn log() -> KafkaLog {
    let options = KafkaOptions { max_entry_bytes: 1000, ..KafkaOptions::at("127.0.0.1:1") };
    let admin = client::admin(&options).expect("a client");
    let producer = RwLock::new(client::producer(&options).expect("a producer"));
    let shared = Shared { options, admin, idle: Mutex::default(), cursors: Mutex::default() };
    KafkaLog { shared: Arc::new(shared), producer }
}

#[test]
fn topics_have_the_prefix_and_the_epoch() {
    let options = KafkaOptions { prefix: "site-a".into(), ..KafkaOptions::at("x") };
    assert_eq!(options.topic(LogTopic::Uplink), "site-a.uplink");
    assert_eq!(options.named("cursor.lake"), "site-a.cursor.lake");
    let later = KafkaOptions { epoch: 2, ..options };
    let names: Vec<String> = LogTopic::ALL.into_iter().map(|t| later.topic(t)).collect();
    assert_eq!(names, ["site-a.uplink.e2", "site-a.commands.e2", "site-a.events.e2"]);
}

/// Entries that were handed over are awaited, so that a retry does not overtake them. So nothing may be
/// handed over before everything is checked.
#[tokio::test]
async fn an_append_that_is_refused_hands_nothing_to_the_producer() {
    let log = log();
    for (second, kind) in
        [((4, entry("b")), ErrorKind::Setup), ((0, entry(vec![0_u8; 1000])), ErrorKind::Refused)]
    {
        let error = log.append(LogTopic::Uplink, vec![(0, entry("a")), second]).await;
        assert_eq!(error.expect_err("refused").kind(), kind);
        // Events of the connection count until the client has taken them, which takes a moment; messages would
        // stay for as long as there is no broker.
        let begun = Instant::now();
        while log.producer().in_flight_count() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(5), "{kind:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_partition_that_there_is_not_is_an_error_of_the_settings() {
    let log = log();
    let limit = ReadLimit { records: 1, bytes: 1, wait: Duration::ZERO };
    let topic = LogTopic::Uplink;
    for error in [
        log.read(topic, 4, 0, limit).await.expect_err("no partition"),
        log.bounds(topic, 4).await.expect_err("no partition"),
        log.cursor("c", topic, 4).await.expect_err("no partition"),
        log.set_cursor("c", topic, 4, 0).await.expect_err("no partition"),
        log.truncate_before(topic, 4, 0).await.expect_err("no partition"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Setup);
        assert!(error.to_string().contains("partition 4"), "{error}");
    }
}

#[test]
fn refused_credentials_need_a_person_and_everything_else_passes() {
    let of = |code| {
        let error = unavailable("append", &KafkaError::MessageProduction(code));
        assert!(error.to_string().starts_with("Kafka (append): "), "{error}");
        error.kind()
    };
    for code in [
        RDKafkaErrorCode::Authentication,
        RDKafkaErrorCode::SaslAuthenticationFailed,
        RDKafkaErrorCode::TopicAuthorizationFailed,
        RDKafkaErrorCode::ClusterAuthorizationFailed,
        RDKafkaErrorCode::GroupAuthorizationFailed,
    ] {
        assert_eq!(of(code), ErrorKind::Setup, "{code}");
    }
    for code in [
        RDKafkaErrorCode::MessageTimedOut,
        RDKafkaErrorCode::NotEnoughReplicas,
        RDKafkaErrorCode::BrokerTransportFailure,
        RDKafkaErrorCode::UnknownTopicOrPartition,
    ] {
        assert_eq!(of(code), ErrorKind::Unavailable, "{code}");
    }
}

/// The caller gives up a refused entry for good, so nothing else may be taken for a refusal.
#[test]
fn only_the_size_of_an_entry_is_refused_for_good() {
    let log = log();
    let of = |code| log.produce_error(&KafkaError::MessageProduction(code)).kind();
    assert_eq!(of(RDKafkaErrorCode::MessageSizeTooLarge), ErrorKind::Refused);
    assert_eq!(of(RDKafkaErrorCode::InvalidMessageSize), ErrorKind::Refused);
    assert_eq!(of(RDKafkaErrorCode::Fatal), ErrorKind::Unavailable);
    assert_eq!(of(RDKafkaErrorCode::InvalidRequiredAcks), ErrorKind::Unavailable);
}
