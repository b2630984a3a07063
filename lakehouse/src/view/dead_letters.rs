//! Dead letters as they are stored, for replaying them.

use acuvim_tables::Table;
use acuvim_wire::{DeviceKind, Identity, Kind, Record, record::Headers, time::Micros};
use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    datatypes::{Int32Type, Int64Type},
};
use bytes::Bytes;
use datafusion::{
    logical_expr::{Expr, utils::disjunction},
    prelude::{col, lit},
};

use super::reader::Reader;
use crate::{
    batch::{column, times, timestamp},
    error::Error,
};

/// Selects dead letters. Absent conditions do not restrict.
#[derive(Debug, Clone, Default)]
pub struct LetterFilter {
    /// Only of this device.
    pub device_id: Option<String>,
    /// Only with this reason.
    pub reason: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only received at or after this time.
    pub from: Option<Micros>,
    /// Only received before this time.
    pub to: Option<Micros>,
    /// Only these, if there are any.
    pub identities: Vec<Identity>,
    /// Only of these devices, for a caller who may not see all.
    pub devices: Option<Vec<String>>,
    /// Only those after this one in the order of the list, for paging.
    pub after: Option<(Micros, Identity)>,
    /// The most that are returned, the oldest first.
    pub limit: usize,
}

impl LetterFilter {
    fn conditions(&self) -> Vec<Expr> {
        let mut all = Vec::new();
        for (name, value) in
            [("device_id", &self.device_id), ("reason", &self.reason), ("kind", &self.kind)]
        {
            all.extend(value.as_ref().map(|value| col(name).eq(lit(value.as_str()))));
        }
        all.extend(self.from.map(|from| col("received_at").gt_eq(timestamp(from))));
        all.extend(self.to.map(|to| col("received_at").lt(timestamp(to))));
        all.extend(self.devices.as_ref().map(|devices| {
            let devices = devices.iter().map(|d| lit(d.as_str())).collect();
            col("device_id").in_list(devices, false)
        }));
        // An empty list selects by the other conditions, as an absent one does.
        if !self.identities.is_empty() {
            let any = disjunction(self.identities.iter().map(has_identity));
            all.push(any.unwrap_or_else(|| lit(false)));
        }
        all.extend(self.after.as_ref().map(|(received_at, after)| is_behind(*received_at, after)));
        all
    }
}

fn has_identity(identity: &Identity) -> Expr {
    col("offset")
        .eq(lit(identity.offset))
        .and(col("partition").eq(lit(identity.partition)))
        .and(col("epoch").eq(lit(identity.epoch)))
        .and(col("item").eq(lit(identity.item)))
}

/// The condition that a letter comes later in the list than another. Epochs are not compared: letters
/// of two epochs are never received at the same time.
fn is_behind(received_at: Micros, other: &Identity) -> Expr {
    let at = timestamp(received_at);
    let later_item = col("offset").eq(lit(other.offset)).and(col("item").gt(lit(other.item)));
    let later_offset = col("partition")
        .eq(lit(other.partition))
        .and(col("offset").gt(lit(other.offset)).or(later_item));
    let behind = col("partition").gt(lit(other.partition)).or(later_offset);
    col("received_at").gt(at.clone()).or(col("received_at").eq(at).and(behind))
}

/// A message or reading that could not be used, as it is stored with its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The identity of the record's item.
    pub identity: Identity,
    /// The device; empty if it is unknown.
    pub device_id: String,
    /// When the record was received.
    pub received_at: Micros,
    /// The kind of the record.
    pub kind: Kind,
    /// The MQTT topic of the message.
    pub topic: String,
    /// The stored bytes of the payload.
    pub payload: Bytes,
    /// Whether these are all bytes of the payload. Of a large one only the beginning is stored.
    pub whole: bool,
}

impl Letter {
    /// Whether it can be replayed. Answers to commands can't: the command is over.
    #[must_use]
    pub fn can_be_replayed(&self) -> bool {
        let again = self.kind.of_device().is_some_and(|kind| kind != DeviceKind::Resp);
        self.whole && again && !self.device_id.is_empty()
    }

    /// The record that replays it. `resolved_ts` is the time of the reading, where it became known
    /// later.
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

impl Reader {
    /// Dead letters in tables and tail, in log order.
    pub async fn dead_letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>, Error> {
        let mut rows = self.query(self.hot(Table::DeadLetters)?)?;
        for condition in filter.conditions() {
            rows = rows.filter(condition)?;
        }
        // The same order as in `is_behind`, or pages would skip letters.
        let order = ["received_at", "partition", "offset", "item"];
        let rows = rows
            .sort(Vec::from(order.map(|name| col(name).sort(true, false))))?
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
    let received = times(batch, "received_at")?;
    let payloads = column(batch, "payload")?.as_binary::<i32>();
    let (lengths, offsets) = (long("payload_length")?, long("offset")?);
    let (epochs, partitions, items) = (int("epoch")?, int("partition")?, int("item")?);
    let letter = |(row, received_at): (usize, &Micros)| {
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
            received_at: *received_at,
            // A kind that only a later version knows can be shown but not replayed, like a reject.
            kind: Kind::parse(kinds.value(row)).unwrap_or(Kind::Reject),
            topic: topics.value(row).to_owned(),
            whole: i64::try_from(payload.len()).is_ok_and(|n| n == lengths.value(row)),
            payload,
        }
    };
    Ok(received.iter().enumerate().map(letter).collect())
}

#[cfg(test)]
mod tests;
