//! Kafka through the conformance suite, and what only it has: topics that are set up wrongly,
//! brokers that go away, shares of the partitions.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use acuvim_log::{Claim, ErrorKind, KafkaLog, KafkaOptions, Log, LogTopic};

use crate::{
    conformance::{NO_WAIT, entry, suite},
    services::Services,
};

/// A broker, and names on it of the test's own.
fn broker(services: Services) -> (Services, KafkaOptions) {
    let options =
        KafkaOptions { prefix: Services::unique_name(), ..KafkaOptions::at(services.kafka(1)) };
    (services, options)
}

async fn open(options: &KafkaOptions) -> KafkaLog {
    KafkaLog::open(options.clone()).await.expect("Kafka")
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let (_services, options) = broker(Services::of_run());
    let next = AtomicI32::new(0);
    suite(|| {
        let epoch = next.fetch_add(1, Ordering::Relaxed);
        let options = KafkaOptions { epoch, ..options.clone() };
        async move { Arc::new(open(&options).await) as Arc<dyn Log> }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_could_lose_records_is_refused_with_what_to_do() {
    let (_services, options) = broker(Services::of_run());
    open(&options).await;
    open(&options).await;
    let day = Duration::from_secs(86_400);
    for (wrong, says) in [
        (KafkaOptions { partitions: 3, ..options.clone() }, "has 4 partitions"),
        (KafkaOptions { retention: 30 * day, ..options.clone() }, "retention.ms to at least 2592"),
        (KafkaOptions { max_entry_bytes: 8 << 20, ..options.clone() }, "max.message.bytes"),
    ] {
        let error = KafkaLog::open(wrong).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Setup);
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains(".uplink (log.url)"), "{error}");
    }
    let nobody = KafkaOptions::at("127.0.0.1:1");
    let error = KafkaLog::open(nobody).await.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_away_is_used_again_and_nothing_acknowledged_is_gone() {
    let (services, options) = broker(Services::new());
    let log = Arc::new(open(&options).await);
    let mut acknowledged = Vec::new();
    for n in 0..20 {
        let at = log.append(LogTopic::Uplink, vec![(0, entry("d", format!("{n}")))]).await;
        acknowledged.push((at.expect("append")[0].offset, n.to_string()));
    }
    services.kill("kafka-1");
    let error = log.bounds(LogTopic::Uplink, 0).await.expect_err("away");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let waiting = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            loop {
                let at = log.append(LogTopic::Uplink, vec![(0, entry("d", "later"))]).await;
                match at {
                    Ok(at) => return at[0].offset,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
                }
            }
        }
    });
    services.again(&["kafka-1"]);
    acknowledged.push((waiting.await.expect("task"), "later".to_owned()));
    let got = log.read(LogTopic::Uplink, 0, 0, NO_WAIT).await.expect("read");
    for (offset, value) in acknowledged {
        let held = got.entries.iter().find(|(o, _)| *o == offset).expect("acknowledged and gone");
        assert_eq!(held.1.value, value);
    }
}

async fn wait(claims: &[&Claim], what: impl Fn(&[BTreeSet<u32>]) -> bool) -> Vec<BTreeSet<u32>> {
    let begun = Instant::now();
    loop {
        let owned: Vec<_> = claims.iter().map(|c| c.owned().borrow().clone()).collect();
        if what(&owned) {
            return owned;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{owned:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_share_the_partitions_and_a_dropped_one_leaves_them() {
    let (_services, options) = broker(Services::of_run());
    let log = open(&options).await;
    let all: BTreeSet<u32> = (0..4).collect();
    let first = log.claim("g").await.expect("claim");
    wait(&[&first], |owned| owned[0] == all).await;
    let second = log.claim("g").await.expect("claim");
    let shared = wait(&[&first, &second], |o| o[0].len() == 2 && o[1].len() == 2).await;
    assert_eq!(&shared[0] | &shared[1], all);
    drop(first);
    wait(&[&second], |owned| owned[0] == all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_shown_and_a_refused_one_is_said_to_be() {
    let services = Services::new();
    let brokers = services.kafka_with_login();
    let with = |password: &str| KafkaOptions {
        login: Some(("acuvim".to_owned(), password.to_owned())),
        ..KafkaOptions::at(&brokers)
    };
    let log = open(&with("secret")).await;
    log.append(LogTopic::Uplink, vec![(0, entry("d", "v"))]).await.expect("append");
    assert_eq!(log.read(LogTopic::Uplink, 0, 0, NO_WAIT).await.expect("read").entries.len(), 1);
    let error = KafkaLog::open(with("wrong")).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Setup, "{error}");
    assert!(error.to_string().contains("refuses the login"), "{error}");
}
