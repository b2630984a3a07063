//! Dead letters as they are stored, to be brought again.

use acuvim_schemas::{
    DeviceKind, Identity, Kind, Record, record::Headers, tables::Table, time::Micros,
};
use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::{Int32Type, Int64Type, TimestampMicrosecondType},
};
use bytes::Bytes;
use datafusion::{
    logical_expr::utils::disjunction,
    prelude::{col, lit},
};

use crate::{Error, Lake, lake::no_table, lake::timestamp, writer::column};

/// Which dead letters. What is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct LetterFilter {
    /// Of this device.
    pub device_id: Option<String>,
    /// With this reason.
    pub reason: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Received from then on.
    pub from: Option<Micros>,
    /// Received before.
    pub to: Option<Micros>,
    /// Exactly these.
    pub identities: Vec<Identity>,
    /// Only of these devices, where not all may be seen.
    pub devices: Option<Vec<String>>,
    /// Only from behind this one.
    pub after: Option<(Micros, Identity)>,
    /// At most so many, the oldest first.
    pub limit: usize,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// What it is known by.
    pub identity: Identity,
    /// Whose; empty if nobody knows.
    pub device_id: String,
    /// When it came.
    pub received_at: Micros,
    /// What it was.
    pub kind: Kind,
    /// The topic it came on.
    pub topic: String,
    /// Its bytes.
    pub payload: Bytes,
    /// Whether all of its bytes are there.
    pub whole: bool,
}

impl Letter {
    /// Whether it can be brought again.
    #[must_use]
    pub fn can_be_replayed(&self) -> bool {
        // An answer to a command is of its moment.
        let again = self.kind.of_device().is_some_and(|kind| kind != DeviceKind::Resp);
        self.whole && again && !self.device_id.is_empty()
    }

    /// The record that brings it again, with its time where that became known.
    #[must_use]
    pub fn into_record(self, resolved_ts: Option<Micros>, received_at: Micros) -> Record {
        Record {
            key: self.device_id.into(),
            value: self.payload,
            headers: Headers {
                kind: self.kind,
                topic: self.topic.into(),
                received_at,
                retained: false,
                reject: None,
                replay_of: Some(self.identity),
                resolved_ts,
            },
        }
    }
}

impl Lake {
    /// Dead letters, stored or in the tail, in the order of the log.
    ///
    /// # Errors
    /// When files can't be read.
    pub async fn dead_letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>, Error> {
        let table = self.view(true)?.table(Table::DeadLetters).ok_or_else(no_table)?;
        let mut rows = self.engine.session().read_table(table as _)?;
        for (name, value) in
            [("device_id", &filter.device_id), ("reason", &filter.reason), ("kind", &filter.kind)]
        {
            if let Some(value) = value {
                rows = rows.filter(col(name).eq(lit(value.as_str())))?;
            }
        }
        if let Some(from) = filter.from {
            rows = rows.filter(col("received_at").gt_eq(timestamp(from)))?;
        }
        if let Some(to) = filter.to {
            rows = rows.filter(col("received_at").lt(timestamp(to)))?;
        }
        if let Some(devices) = &filter.devices {
            let devices = devices.iter().map(|d| lit(d.as_str())).collect();
            rows = rows.filter(col("device_id").in_list(devices, false))?;
        }
        if !filter.identities.is_empty() {
            let these = filter.identities.iter().map(|i| {
                col("offset")
                    .eq(lit(i.offset))
                    .and(col("partition").eq(lit(i.partition)))
                    .and(col("epoch").eq(lit(i.epoch)))
                    .and(col("item").eq(lit(i.item)))
            });
            rows = rows.filter(disjunction(these).unwrap_or_else(|| lit(false)))?;
        }
        if let Some((received_at, after)) = &filter.after {
            // In the order of the list; epochs do not mix within a moment.
            let at = timestamp(*received_at);
            let behind =
                col("partition").gt(lit(after.partition)).or(col("partition")
                    .eq(lit(after.partition))
                    .and(col("offset").gt(lit(after.offset)).or(
                        col("offset").eq(lit(after.offset)).and(col("item").gt(lit(after.item))),
                    )));
            let later = col("received_at").gt(at.clone());
            rows = rows.filter(later.or(col("received_at").eq(at).and(behind)))?;
        }
        let rows = rows
            .sort(vec![
                col("received_at").sort(true, false),
                col("partition").sort(true, false),
                col("offset").sort(true, false),
                col("item").sort(true, false),
            ])?
            .limit(0, Some(filter.limit))?
            .collect()
            .await?;
        let mut letters = Vec::new();
        for batch in &rows {
            letters.extend(read(batch)?);
        }
        Ok(letters)
    }
}

fn read(batch: &RecordBatch) -> Result<Vec<Letter>, Error> {
    let text = |name: &str| Ok::<_, Error>(column(batch, name)?.as_string::<i32>());
    let int = |name: &str| Ok::<_, Error>(column(batch, name)?.as_primitive::<Int32Type>());
    let long = |name: &str| Ok::<_, Error>(column(batch, name)?.as_primitive::<Int64Type>());
    let (devices, kinds, topics) = (text("device_id")?, text("kind")?, text("topic")?);
    let received = column(batch, "received_at")?.as_primitive::<TimestampMicrosecondType>();
    let payloads = column(batch, "payload")?.as_binary::<i32>();
    let (lengths, offsets) = (long("payload_length")?, long("offset")?);
    let (epochs, partitions, items) = (int("epoch")?, int("partition")?, int("item")?);
    let letter = |row: usize| {
        let payload = Bytes::copy_from_slice(payloads.value(row));
        Letter {
            identity: Identity {
                epoch: epochs.value(row),
                partition: partitions.value(row),
                offset: offsets.value(row),
                item: items.value(row),
            },
            device_id: match devices.is_valid(row) {
                true => devices.value(row).to_owned(),
                false => String::new(),
            },
            received_at: received.value(row),
            kind: Kind::parse(kinds.value(row)).unwrap_or(Kind::Reject),
            topic: topics.value(row).to_owned(),
            whole: i64::try_from(payload.len()).is_ok_and(|n| n == lengths.value(row)),
            payload,
        }
    };
    Ok((0..batch.num_rows()).map(letter).collect())
}
