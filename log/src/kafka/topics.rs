//! The topics: created when missing, and refused when their settings could lose records.

use std::time::Duration;

use acuvim_wire::record::LogTopic;
use rdkafka::{
    TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
    },
    consumer::Consumer as _,
    error::RDKafkaErrorCode,
    metadata::Metadata,
};

use super::{
    client::{Quiet, consumer, number, request_bytes, unavailable},
    options::{KafkaOptions, REQUEST_TIMEOUT},
};
use crate::error::{Error, ErrorKind};

/// Copies of every record, where there are as many brokers.
const REPLICAS: usize = 3;

fn admin_options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}

/// Creates missing topics and checks all of them.
pub(super) async fn prepare(
    admin: &AdminClient<Quiet>,
    options: &KafkaOptions,
) -> Result<(), Error> {
    let metadata = tokio::task::block_in_place(|| reach(options))?;
    let brokers = metadata.brokers().len();
    for topic in LogTopic::ALL {
        let name = options.topic(topic);
        if partitions_of(&metadata, &name).is_none() {
            create(admin, options, &name, brokers).await?;
        }
    }
    let metadata =
        tokio::task::block_in_place(|| admin.inner().fetch_metadata(None, REQUEST_TIMEOUT))
            .map_err(|e| unavailable("log.url", &e))?;
    for topic in LogTopic::ALL {
        check(admin, options, &options.topic(topic), &metadata).await?;
    }
    Ok(())
}

/// Fetches the metadata with a consumer: librdkafka tells only a consumer that the login was refused, other
/// clients see no answer.
fn reach(options: &KafkaOptions) -> Result<Metadata, Error> {
    let consumer = consumer(options, &options.named("setup"))?;
    let error = match consumer.fetch_metadata(None, REQUEST_TIMEOUT) {
        Ok(metadata) => return Ok(metadata),
        Err(error) => error,
    };
    for _ in 0..MAX_EVENTS {
        let event = consumer.poll(Duration::from_millis(100)).and_then(Result::err);
        if event.and_then(|e| e.rdkafka_error_code()) == Some(RDKafkaErrorCode::Authentication) {
            let what = "Kafka (log.url) refuses the login: user or password is wrong";
            return Err(Error::new(ErrorKind::Setup, what));
        }
    }
    Err(unavailable("log.url", &error))
}

/// How many events of the consumer are searched for the reason.
const MAX_EVENTS: u32 = 20;

fn partitions_of(metadata: &Metadata, name: &str) -> Option<usize> {
    let topic = metadata.topics().iter().find(|t| t.name() == name)?;
    (topic.error().is_none()).then(|| topic.partitions().len())
}

async fn create(
    admin: &AdminClient<Quiet>,
    options: &KafkaOptions,
    name: &str,
    brokers: usize,
) -> Result<(), Error> {
    let replicas = brokers.clamp(1, REPLICAS);
    let in_sync = if replicas > 1 { "2" } else { "1" };
    let retention = options.retention.as_millis().to_string();
    let largest = request_bytes(options).to_string();
    let replication = TopicReplication::Fixed(i32::try_from(replicas).unwrap_or(1));
    let topic = NewTopic::new(name, number(options.partitions), replication)
        .set("cleanup.policy", "delete")
        .set("retention.ms", &retention)
        .set("retention.bytes", "-1")
        .set("max.message.bytes", &largest)
        .set("min.insync.replicas", in_sync)
        .set("unclean.leader.election.enable", "false");
    let created = admin.create_topics([&topic], &admin_options()).await;
    let created = created.map_err(|e| unavailable("create topics", &e))?;
    match created.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) => {
            if replicas < REPLICAS {
                tracing::info!(
                    topic = name,
                    replicas,
                    "created a topic with fewer than three replicas"
                );
            }
            wait_for_leaders(admin, options, name).await
        }
        Some(Err((_, code))) => {
            let ours = matches!(
                code,
                RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::PolicyViolation
                    | RDKafkaErrorCode::InvalidConfig
                    | RDKafkaErrorCode::InvalidPartitions
            );
            Err(Error::new(
                if ours { ErrorKind::Setup } else { ErrorKind::Unavailable },
                format!("Kafka (log.url) does not let us create the topic {name}: {code}"),
            ))
        }
        None => Err(Error::unavailable("Kafka (create topics): no answer")),
    }
}

/// Waits until the partitions of a new topic have leaders: before that, requests fail as if it did not exist.
async fn wait_for_leaders(
    admin: &AdminClient<Quiet>,
    options: &KafkaOptions,
    name: &str,
) -> Result<(), Error> {
    let wanted = usize::try_from(options.partitions).unwrap_or(usize::MAX);
    for _ in 0..100 {
        let metadata = tokio::task::block_in_place(|| {
            admin.inner().fetch_metadata(Some(name), REQUEST_TIMEOUT)
        });
        let led = metadata.is_ok_and(|m| {
            m.topics().iter().any(|t| {
                let led = t.partitions().iter().filter(|p| p.leader() >= 0).count();
                // An existing topic with another number of partitions is left to `check`.
                led >= wanted || (led > 0 && led == t.partitions().len())
            })
        });
        if led {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Error::unavailable(format!("Kafka: the topic {name} has no leaders")))
}

async fn check(
    admin: &AdminClient<Quiet>,
    options: &KafkaOptions,
    name: &str,
    metadata: &Metadata,
) -> Result<(), Error> {
    let refuse =
        |what: String| Err(Error::new(ErrorKind::Setup, format!("{name} (log.url) {what}")));
    let topic = metadata.topics().iter().find(|t| t.name() == name);
    let Some(topic) = topic.filter(|t| t.error().is_none()) else {
        return Err(Error::unavailable(format!("Kafka does not know the topic {name} yet")));
    };
    let partitions = topic.partitions().len();
    if u32::try_from(partitions) != Ok(options.partitions) {
        return refuse(format!(
            "has {partitions} partitions, and log.partitions is {}: set it so, or see \
             `acuvim log repartition`",
            options.partitions
        ));
    }
    let replicas = topic.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(1);
    let configs = admin
        .describe_configs([&ResourceSpecifier::Topic(name)], &admin_options())
        .await
        .map_err(|e| unavailable("describe topics", &e))?;
    let Some(Ok(config)) = configs.into_iter().next() else {
        return Err(Error::unavailable("Kafka (describe topics): no answer"));
    };
    // A broker that does not know a new topic yet answers without settings.
    if config.get("cleanup.policy").and_then(|e| e.value.as_ref()).is_none_or(String::is_empty) {
        return Err(Error::unavailable(format!("Kafka has no settings of the topic {name} yet")));
    }
    match fault(options, &config, replicas) {
        Some(what) => refuse(what),
        None => Ok(()),
    }
}

/// What is wrong with the settings of a topic, and how to correct it.
fn fault(options: &KafkaOptions, config: &ConfigResource, replicas: usize) -> Option<String> {
    let text = |key: &str| config.get(key).and_then(|e| e.value.clone()).unwrap_or_default();
    let value = |key: &str| text(key).parse::<i128>().unwrap_or(-1);
    let largest = i128::try_from(request_bytes(options)).unwrap_or(i128::MAX);
    let keep = i128::try_from(options.retention.as_millis()).unwrap_or(i128::MAX);
    let retention = value("retention.ms");
    if text("cleanup.policy") != "delete" {
        Some("is compacted, which drops records: set cleanup.policy to delete".to_owned())
    } else if retention != -1 && retention < keep {
        Some(format!(
            "keeps records for {retention} ms, less than log.retention_hours: set retention.ms to \
             at least {keep}"
        ))
    } else if value("retention.bytes") != -1 {
        Some(format!(
            "drops records over {} bytes, whether the lake has them or not: set retention.bytes \
             to -1",
            value("retention.bytes")
        ))
    } else if value("max.message.bytes") < largest {
        Some(format!(
            "takes messages of {} bytes at most: set max.message.bytes to at least {largest}",
            value("max.message.bytes")
        ))
    } else if replicas > 1 && value("min.insync.replicas") < 2 {
        Some(format!(
            "has {replicas} replicas and acknowledges what only one has: set min.insync.replicas \
             to 2"
        ))
    } else if text("unclean.leader.election.enable") == "true" {
        Some(
            "may elect a leader that lacks acknowledged records: set \
             unclean.leader.election.enable to false"
                .to_owned(),
        )
    } else {
        None
    }
}

/// Drops the records before the offsets of the list.
pub(super) async fn truncate(
    admin: &AdminClient<Quiet>,
    before: TopicPartitionList,
) -> Result<(), Error> {
    let done = admin.delete_records(&before, &admin_options()).await;
    let done = done.map_err(|e| unavailable("truncate", &e))?;
    done.elements().iter().try_for_each(|e| e.error()).map_err(|e| unavailable("truncate", &e))
}

/// Deletes the topics of the current epoch; ones that are gone already are no error.
pub(super) async fn delete(
    admin: &AdminClient<Quiet>,
    options: &KafkaOptions,
) -> Result<(), Error> {
    let names: Vec<String> = LogTopic::ALL.into_iter().map(|t| options.topic(t)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let done = admin.delete_topics(&names, &admin_options()).await;
    for one in done.map_err(|e| unavailable("delete topics", &e))? {
        match one {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((name, code)) => {
                return Err(Error::unavailable(format!("Kafka keeps the topic {name}: {code}")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
