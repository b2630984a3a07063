//! Clients of librdkafka, with the settings that the guarantees of the log depend on.

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

use super::options::{KafkaOptions, REQUEST_TIMEOUT};
use crate::{
    batch::Bounds,
    error::{Error, ErrorKind},
};

/// Logs librdkafka's messages at debug level: failures also reach the caller as errors, and are logged where
/// they are handled.
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

pub(super) type QuietConsumer = BaseConsumer<Quiet>;

fn base(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.brokers)
        .set("client.id", "acuvim")
        .set("socket.keepalive.enable", "true")
        // A deleted topic must stay deleted: nobody would read what is appended to a new one.
        .set("allow.auto.create.topics", "false")
        .set("reconnect.backoff.max.ms", "2000")
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

/// A producer whose records are durable on all in-sync replicas, in order and without duplicates of its own.
pub(super) fn producer(options: &KafkaOptions) -> Result<FutureProducer<Quiet>, Error> {
    let kib = (options.max_pending_bytes >> 10).max(1024);
    base(options)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        // Short, because a device waits; under load batches fill up while another one is in flight.
        .set("linger.ms", "3")
        .set("batch.size", "1000000")
        .set("message.max.bytes", request_bytes(options).to_string())
        .set("queue.buffering.max.kbytes", kib.to_string())
        .set("queue.buffering.max.messages", "200000")
        // Shorter than devices wait for a PUBACK, longer than the election of a leader takes.
        .set("message.timeout.ms", "15000")
        .set("request.timeout.ms", "5000")
        .create_with_context(Quiet)
        .map_err(|e| setup(&e))
}

/// A consumer that reads from given offsets and never chooses one by itself.
pub(super) fn consumer(options: &KafkaOptions, group: &str) -> Result<QuietConsumer, Error> {
    base(options)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "200")
        // A queued message keeps the whole buffer of its batch alive, which can be many times its size: so
        // no more is queued than one read takes.
        .set("queued.min.messages", "4096")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.message.max.bytes", "2097152")
        .create_with_context(Quiet)
        .map_err(|e| setup(&e))
}

/// The settings of a group member, which takes part in the assignment of partitions and reads nothing.
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

/// The largest request: the largest entry with its headers.
pub(super) const fn request_bytes(options: &KafkaOptions) -> usize {
    options.max_entry_bytes + (64 << 10)
}

/// What a partition holds. Right after a change of leaders the brokers may not agree yet on who leads, so
/// errors of that kind are retried.
pub(super) fn watermarks<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partition: u32,
) -> Result<Bounds, Error> {
    let mut tries = 0;
    loop {
        let error = match client.fetch_watermarks(topic, number(partition), REQUEST_TIMEOUT) {
            Ok((start, end)) => return Ok(Bounds { start, end }),
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
        // Brokers that have just started may not know a topic yet. The client would then believe for minutes
        // that there is none, unless it asks for the metadata again.
        let unknown = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition
            )
        );
        if unknown {
            let _ = client.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
        }
        tries += 1;
        if !(changing || unknown) || tries > LEADER_TRIES {
            return Err(unavailable("bounds", &error));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How often a request is retried while a partition has no known leader.
const LEADER_TRIES: u32 = 15;

/// The partition as Kafka's type for it.
pub(super) fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// The client can't be created from the settings.
pub(super) fn setup(error: &KafkaError) -> Error {
    Error::new(ErrorKind::Setup, format!("Kafka (log.url): {error}"))
}

/// A failed request: refused credentials need a person, all else passes by itself.
pub(super) fn unavailable(what: &str, error: &KafkaError) -> Error {
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
