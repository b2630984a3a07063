//! Making messages from events, exactly once: stored together with the position up to which the events have
//! been read.

use std::collections::HashMap;

use acuvim_model::DeliveryKind;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::targets::NOTIFICATIONS_LEASE;
use crate::{
    db::{Control, Tx},
    error::Error,
    leases::Lease,
    statement::Statement,
    value::Value,
};

/// Items that one message contains. Further ones are only counted.
const MAX_ITEMS: usize = 100;

/// Devices in one statement, far below the 32,766 parameters that SQLite allows.
const CHUNK: usize = 500;

/// The position in a partition up to which messages have been made from its events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoticePosition {
    /// The number of the partition.
    pub partition: u32,
    /// The next offset.
    pub next: i64,
    /// The highest outbox number that was read.
    pub seq: i64,
}

#[derive(sqlx::FromRow)]
struct PositionRow {
    partition_number: i64,
    next_offset: i64,
    outbox_seq: i64,
}

/// An item of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct NoticeItem {
    /// The notification that it is for.
    pub notification_id: Uuid,
    /// The kind of message.
    pub kind: DeliveryKind,
    /// The alert or rollout step that it is about, for which at most one message of each kind is made.
    pub alert_id: Option<Uuid>,
    /// Items with the same key join one message.
    pub group_key: String,
    /// The title of the message, if this is its only item.
    pub title: String,
    /// The content of the item.
    pub item: Json,
    /// How long the message waits for more items.
    pub wait: TimeDelta,
}

/// The messages from a run of events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NoticeChange {
    /// The items, in order.
    pub items: Vec<NoticeItem>,
    /// The position before these events.
    pub from: NoticePosition,
    /// The position after these events.
    pub to: NoticePosition,
}

/// The outcome of storing messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeOutcome {
    /// The messages are stored.
    Done,
    /// Another process holds the lease, or has stored them.
    Overtaken,
}

/// The group and tags of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceMembership {
    /// The group that it is in, if any.
    pub group_id: Option<Uuid>,
    /// All tags that it has.
    pub tags: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct OpenRow {
    id: Uuid,
    items: Json,
    item_count: i64,
    title: String,
}

/// A message that further items may join.
struct OpenMessage {
    id: Uuid,
    items: Vec<Json>,
    count: i64,
    title: String,
}

impl Control {
    /// The positions of all partitions that have one.
    pub async fn notice_positions(&self, epoch: i32) -> Result<Vec<NoticePosition>, Error> {
        let rows: Vec<PositionRow> = self
            .fetch_all(
                "SELECT partition_number, next_offset, outbox_seq FROM notice_places
                 WHERE epoch = $1",
                vec![i64::from(epoch).into()],
            )
            .await?;
        let position = |row: PositionRow| {
            let partition = u32::try_from(row.partition_number).ok()?;
            Some(NoticePosition { partition, next: row.next_offset, seq: row.outbox_seq })
        };
        Ok(rows.into_iter().filter_map(position).collect())
    }

    /// Stores the position from which on messages are made, unless one is stored. Events after it get their
    /// messages even if this process ends before they arrive.
    pub async fn begin_notices(&self, epoch: i32, position: NoticePosition) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        begin_position(&mut tx, epoch, position).await?;
        tx.commit().await
    }

    /// The groups and tags of devices.
    pub async fn device_memberships(
        &self,
        devices: &[String],
    ) -> Result<HashMap<String, DeviceMembership>, Error> {
        let mut all = HashMap::new();
        for some in devices.chunks(CHUNK) {
            let mut find =
                Statement::new("SELECT device_id, group_id, tags FROM devices WHERE device_id IN");
            find.push_list(some.iter().map(Into::into));
            let rows: Vec<(String, Option<Uuid>, Option<Json>)> = self.select(find).await?;
            for (id, group_id, tags) in rows {
                let tags = tags.and_then(|tags| serde_json::from_value(tags).ok());
                all.insert(id, DeviceMembership { group_id, tags: tags.unwrap_or_default() });
            }
        }
        Ok(all)
    }

    /// Stores the messages from a run of events, together with the position after them.
    pub async fn note_notices(
        &self,
        epoch: i32,
        lease: Lease,
        change: &NoticeChange,
        now: DateTime<Utc>,
    ) -> Result<NoticeOutcome, Error> {
        let mut tx = self.begin().await?;
        if !tx.holds(NOTIFICATIONS_LEASE, lease, now).await?
            || !advance(&mut tx, epoch, change).await?
        {
            return Ok(NoticeOutcome::Overtaken);
        }
        let mut open = HashMap::new();
        for item in &change.items {
            if exists(&mut tx, item.notification_id).await? && is_new(&mut tx, item, now).await? {
                join(&mut tx, item, &mut open, now).await?;
            }
        }
        for message in open.into_values() {
            store(&mut tx, message).await?;
        }
        tx.commit().await?;
        Ok(NoticeOutcome::Done)
    }
}

async fn begin_position(tx: &mut Tx, epoch: i32, position: NoticePosition) -> Result<(), Error> {
    let (epoch, partition) = (i64::from(epoch), i64::from(position.partition));
    tx.execute(
        "INSERT INTO notice_places (epoch, partition_number, next_offset, outbox_seq)
         VALUES ($1, $2, $3, $4) ON CONFLICT (epoch, partition_number) DO NOTHING",
        vec![epoch.into(), partition.into(), position.next.into(), position.seq.into()],
    )
    .await
    .map(|_| ())
}

/// Moves the position of a partition. False if it is not at the start of the change.
async fn advance(tx: &mut Tx, epoch: i32, change: &NoticeChange) -> Result<bool, Error> {
    begin_position(tx, epoch, change.from).await?;
    let (epoch, partition) = (i64::from(epoch), i64::from(change.to.partition));
    let moved = tx
        .execute(
            "UPDATE notice_places SET next_offset = $1, outbox_seq = $2
             WHERE epoch = $3 AND partition_number = $4 AND next_offset = $5",
            vec![
                change.to.next.into(),
                change.to.seq.into(),
                epoch.into(),
                partition.into(),
                change.from.next.into(),
            ],
        )
        .await?;
    Ok(moved == 1)
}

/// Whether a notification still exists. Locks its row, so that it can't be deleted before the commit.
async fn exists(tx: &mut Tx, notification: Uuid) -> Result<bool, Error> {
    let held = tx
        .execute("UPDATE notifications SET name = name WHERE id = $1", vec![notification.into()])
        .await?;
    Ok(held == 1)
}

/// Whether an item is to be sent: the beginning of an episode once, and its end once and only after its
/// beginning was sent.
async fn is_new(tx: &mut Tx, item: &NoticeItem, now: DateTime<Utc>) -> Result<bool, Error> {
    let Some(alert_id) = item.alert_id else { return Ok(true) };
    let touched = match item.kind {
        DeliveryKind::Raised | DeliveryKind::Rollout => {
            tx.execute(
                "INSERT INTO notice_episodes (notification_id, alert_id, created_at)
                 VALUES ($1, $2, $3) ON CONFLICT (notification_id, alert_id) DO NOTHING",
                vec![item.notification_id.into(), alert_id.into(), now.into()],
            )
            .await?
        }
        DeliveryKind::Recovered => {
            tx.execute(
                "DELETE FROM notice_episodes WHERE notification_id = $1 AND alert_id = $2",
                vec![item.notification_id.into(), alert_id.into()],
            )
            .await?
        }
        DeliveryKind::Reminder | DeliveryKind::Test => 1,
    };
    Ok(touched == 1)
}

type Key = (Uuid, &'static str, String);

/// Adds an item to the message that waits for more of its kind, or to a new one.
async fn join(
    tx: &mut Tx,
    item: &NoticeItem,
    open: &mut HashMap<Key, OpenMessage>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let key = (item.notification_id, item.kind.as_str(), item.group_key.clone());
    if !open.contains_key(&key)
        && let Some(waiting) = waiting(tx, item).await?
    {
        open.insert(key.clone(), waiting);
    }
    if let Some(message) = open.get_mut(&key) {
        message.count += 1;
        message.title = format!("{} alerts: {}", message.count, item.group_key);
        if message.items.len() < MAX_ITEMS {
            message.items.push(item.item.clone());
        }
        return Ok(());
    }
    let id = Uuid::now_v7();
    let items = vec![item.item.clone()];
    tx.execute(
        "INSERT INTO notices (id, notification_id, kind, group_key, title, items, item_count, state,
             attempts, due_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, 1, 'waiting', 0, $7, $8)",
        vec![
            id.into(),
            item.notification_id.into(),
            item.kind.as_str().into(),
            item.group_key.as_str().into(),
            item.title.as_str().into(),
            json!(items).into(),
            (now + item.wait).into(),
            now.into(),
        ],
    )
    .await?;
    open.insert(key, OpenMessage { id, items, count: 1, title: item.title.clone() });
    Ok(())
}

/// The message with the key of an item that has not been tried yet. Locks it, so that it is not sent before
/// the item has joined.
async fn waiting(tx: &mut Tx, item: &NoticeItem) -> Result<Option<OpenMessage>, Error> {
    let key = || -> Vec<Value> {
        vec![item.notification_id.into(), item.kind.as_str().into(), item.group_key.as_str().into()]
    };
    tx.execute(
        "UPDATE notices SET attempts = 0 WHERE notification_id = $1 AND kind = $2
             AND group_key = $3 AND state = 'waiting' AND attempts = 0",
        key(),
    )
    .await?;
    let row: Option<OpenRow> = tx
        .fetch_optional(
            "SELECT id, items, item_count, title FROM notices
             WHERE notification_id = $1 AND kind = $2 AND group_key = $3 AND state = 'waiting'
                 AND attempts = 0
             ORDER BY id DESC LIMIT 1",
            key(),
        )
        .await?;
    Ok(row.map(|row| OpenMessage {
        id: row.id,
        items: serde_json::from_value(row.items).unwrap_or_default(),
        count: row.item_count,
        title: row.title,
    }))
}

/// Stores a message with the items that joined it.
async fn store(tx: &mut Tx, message: OpenMessage) -> Result<(), Error> {
    tx.execute(
        "UPDATE notices SET items = $1, item_count = $2, title = $3 WHERE id = $4",
        vec![
            json!(message.items).into(),
            message.count.into(),
            message.title.as_str().into(),
            message.id.into(),
        ],
    )
    .await
    .map(|_| ())
}
