//! The settings of a log on Kafka.

use std::time::Duration;

use acuvim_wire::record::LogTopic;

/// How long a request to the brokers may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of a log on Kafka.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// `host:port`, separated by commas; a few of the brokers are enough.
    pub brokers: String,
    /// User and password for SASL PLAIN.
    pub login: Option<(String, String)>,
    /// The prefix of topics and consumer groups; systems that share a cluster need different ones.
    pub prefix: String,
    /// Partitions of every topic.
    pub partitions: u32,
    /// Incremented by `acuvim log repartition`; each epoch has topics of its own.
    pub epoch: i32,
    /// The largest entry it takes, in bytes.
    pub max_entry_bytes: usize,
    /// Bytes that may wait for the brokers before appends wait too.
    pub max_pending_bytes: usize,
    /// The least time for which topics must keep records. Topics created here keep them for exactly as long.
    pub retention: Duration,
    /// How long a member of a group that sends no heartbeats keeps its partitions.
    pub session_timeout: Duration,
}

impl KafkaOptions {
    /// The defaults, at these brokers.
    pub fn at(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            login: None,
            prefix: "acuvim".to_owned(),
            partitions: 4,
            epoch: 0,
            max_entry_bytes: 4 << 20,
            max_pending_bytes: 64 << 20,
            retention: Duration::from_secs(7 * 86_400),
            // The brokers' default minimum is 6 s.
            session_timeout: Duration::from_secs(8),
        }
    }

    pub(super) fn topic(&self, topic: LogTopic) -> String {
        match self.epoch {
            0 => self.named(topic.suffix()),
            epoch => self.named(&format!("{}.e{epoch}", topic.suffix())),
        }
    }

    pub(super) fn named(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }
}
