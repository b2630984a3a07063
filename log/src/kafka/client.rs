//! Clients of librdkafka, with the settings that our promises rest on.

use std::time::Duration;

use rdkafka::{
    ClientConfig, ClientContext,
    admin::AdminClient,
    client::Client,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    producer::FutureProducer,
};

use super::{ANSWER, KafkaOptions};
use crate::{Error, ErrorKind};

/// Says what librdkafka says at debug level: what fails reaches us as an error, and is logged
/// where it is handled.
#[derive(Debug, Clone, Default)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

/// A consumer of ours.
pub(super) type QuietConsumer = BaseConsumer<Quiet>;

fn base(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.brokers)
        .set("client.id", "acuvim")
        .set("socket.keepalive.enable", "true")
        // A topic that was deleted stays so: what would be appended there nobody reads.
        .set("allow.auto.create.topics", "false")
        .set("reconnect.backoff.max.ms", "2000")
        // The level of what librdkafka hands to `Quiet`.
        .set_log_level(RDKafkaLogLevel::Warning);
    if let Some((user, password)) = &options.login {
        config
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", user)
            .set("sasl.password", password);
    }
    config
}

pub(super) fn admin(options: &KafkaOptions) -> Result<AdminClient<Quiet>, Error> {
    base(options).create_with_context(Quiet).map_err(|e| setup(&e))
}

/// Durable on all in-sync replicas, in order, without doubles of its own.
pub(super) fn producer(options: &KafkaOptions) -> Result<FutureProducer<Quiet>, Error> {
    let kib = (options.max_pending_bytes >> 10).max(1024);
    base(options)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        // Small, since a device waits; a busy producer fills its batches while one is under way.
        .set("linger.ms", "3")
        .set("batch.size", "1000000")
        .set("message.max.bytes", request_bytes(options).to_string())
        .set("queue.buffering.max.kbytes", kib.to_string())
        .set("queue.buffering.max.messages", "200000")
        // Shorter than a device's patience, longer than a new leader takes.
        .set("message.timeout.ms", "15000")
        .set("request.timeout.ms", "5000")
        .create_with_context(Quiet)
        .map_err(|e| setup(&e))
}

/// A consumer that is told where to read and never decides by itself.
pub(super) fn consumer(options: &KafkaOptions, group: &str) -> Result<QuietConsumer, Error> {
    base(options)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "200")
        // What waits here counts as its messages' bytes, but holds its batch's whole buffer, which
        // for batches of few messages is many times as much. One read's worth is enough.
        .set("queued.min.messages", "4096")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.message.max.bytes", "2097152")
        .create_with_context(Quiet)
        .map_err(|e| setup(&e))
}

/// The configuration of a member of a group, which shares partitions out and reads nothing.
pub(super) fn member(options: &KafkaOptions, group: &str) -> ClientConfig {
    let mut config = base(options);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "latest")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", options.session_timeout.as_millis().to_string())
        .set("heartbeat.interval.ms", (options.session_timeout.as_millis() / 4).to_string())
        .set("max.poll.interval.ms", "20000");
    config
}

/// Room for the largest entry in a request.
pub(super) const fn request_bytes(options: &KafkaOptions) -> usize {
    options.max_entry_bytes + (64 << 10)
}

/// A partition's first offset and the one behind its last. Just behind a change of leaders the
/// brokers may not agree yet who is to be asked.
pub(super) fn watermarks<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partition: u32,
) -> Result<(i64, i64), Error> {
    let mut tries = 0;
    loop {
        let error = match client.fetch_watermarks(topic, number(partition), ANSWER) {
            Ok(bounds) => return Ok(bounds),
            Err(error) => error,
        };
        let changing = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::DestroyBroker
                    | RDKafkaErrorCode::OffsetNotAvailable
            )
        );
        // Brokers that have just begun may not have told of a topic yet, and what the client knows of it
        // then stays as it is for minutes unless it is asked for.
        let unknown = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition
            )
        );
        if unknown {
            let _ = client.fetch_metadata(Some(topic), ANSWER);
        }
        tries += 1;
        if !(changing || unknown) || tries > LEADER_TRIES {
            return Err(away("bounds", &error));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How often who leads a partition is asked again.
const LEADER_TRIES: u32 = 15;

/// Partitions as Kafka numbers them.
pub(super) fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

pub(super) fn setup(error: &KafkaError) -> Error {
    Error::new(ErrorKind::Setup, format!("Kafka (log.url): {error}"))
}

/// What a failed question means: refused credentials are for a person, the rest passes.
pub(super) fn away(what: &str, error: &KafkaError) -> Error {
    let kind = match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed,
        ) => ErrorKind::Setup,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("Kafka ({what}): {error}"))
}
