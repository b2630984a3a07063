//! Messages as they are made: from events, once, together with how far these are read.

use std::collections::HashMap;

use acuvim_schemas::api::DeliveryKind;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{Control, Error, Lease, db::Tx, text::Statement};

/// What one message names; the rest of it is only counted.
const NAMED: usize = 100;

/// Devices that are looked up in one go.
const CHUNK: usize = 500;

/// Up to where a partition's events are noted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoticePlace {
    /// Which partition.
    pub partition: u32,
    /// The next offset.
    pub next: i64,
    /// The highest number of the outbox that was noted.
    pub seq: i64,
}

/// Something that one message is about.
#[derive(Debug, Clone, PartialEq)]
pub struct NoticeItem {
    /// Whom it is for.
    pub notification_id: Uuid,
    /// What is said.
    pub kind: DeliveryKind,
    /// The alert that it is about: it is told once that it began, and once that it is over.
    pub alert_id: Option<Uuid>,
    /// What comes under the same key is one message.
    pub group_key: String,
    /// The message's first line, if it is about this alone.
    pub title: String,
    /// What it is about.
    pub item: Json,
    /// How long the message waits for more of the kind.
    pub wait: TimeDelta,
}

/// What a run of events comes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NoticeChange {
    /// What people are told, in order.
    pub items: Vec<NoticeItem>,
    /// Where the partition was, and where it is behind these events.
    pub from: NoticePlace,
    /// See `from`.
    pub to: NoticePlace,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It is noted.
    Done,
    /// Another process holds the lease, or has noted it.
    Overtaken,
}

/// Where a device stands, as scopes ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevicePlace {
    /// Its group.
    pub group_id: Option<Uuid>,
    /// Its tags.
    pub tags: Vec<String>,
}

/// A message that more may join.
struct Open {
    id: Uuid,
    items: Vec<Json>,
    count: i64,
    title: String,
}

impl Control {
    /// Up to where events of a log are noted, by partition; those that are not here never were.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn notice_places(&self, epoch: i32) -> Result<Vec<NoticePlace>, Error> {
        let rows: Vec<(i64, i64, i64)> = self
            .fetch_all(
                "SELECT partition_number, next_offset, outbox_seq FROM notice_places
                 WHERE epoch = $1",
                vec![i64::from(epoch).into()],
            )
            .await?;
        let place = |(partition, next, seq): (i64, i64, i64)| {
            Some(NoticePlace { partition: u32::try_from(partition).ok()?, next, seq })
        };
        Ok(rows.into_iter().filter_map(place).collect())
    }

    /// Notes where a partition's events begin to be told, unless that is noted: what comes behind it
    /// is told even if this process ends before it comes.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn begin_notices(&self, epoch: i32, place: NoticePlace) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        begin_place(&mut tx, epoch, place).await?;
        tx.commit().await
    }

    /// Where devices stand.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn device_places(
        &self,
        devices: &[String],
    ) -> Result<HashMap<String, DevicePlace>, Error> {
        let mut all = HashMap::new();
        for some in devices.chunks(CHUNK) {
            let mut find =
                Statement::new("SELECT device_id, group_id, tags FROM devices WHERE device_id IN");
            find.push_list(some.iter().map(Into::into));
            let (text, values) = find.into_parts();
            let rows: Vec<(String, Option<Uuid>, Option<Json>)> =
                self.fetch_all(text, values).await?;
            for (id, group_id, tags) in rows {
                let tags = tags.and_then(|tags| serde_json::from_value(tags).ok());
                all.insert(id, DevicePlace { group_id, tags: tags.unwrap_or_default() });
            }
        }
        Ok(all)
    }

    /// Makes the messages that a run of events comes to, together with how far they are read.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn note_notices(
        &self,
        epoch: i32,
        lease: Lease,
        change: &NoticeChange,
        now: DateTime<Utc>,
    ) -> Result<Noted, Error> {
        let mut tx = self.begin().await?;
        if !tx.holds(super::NOTIFICATIONS_LEASE, lease, now).await?
            || !advance(&mut tx, epoch, change).await?
        {
            return Ok(Noted::Overtaken);
        }
        let mut open = HashMap::new();
        for item in &change.items {
            if is_there(&mut tx, item.notification_id).await? && is_new(&mut tx, item, now).await? {
                join(&mut tx, item, &mut open, now).await?;
            }
        }
        for message in open.into_values() {
            store(&mut tx, message).await?;
        }
        tx.commit().await?;
        Ok(Noted::Done)
    }
}

impl Tx {
    /// Whether a lease is still held by this holder.
    pub(crate) async fn holds(
        &mut self,
        name: &str,
        lease: Lease,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let held = self
            .execute(
                "UPDATE leases SET epoch = epoch WHERE name = $1 AND epoch = $2 AND until > $3",
                vec![name.into(), lease.epoch.into(), now.into()],
            )
            .await?;
        Ok(held == 1)
    }
}

async fn begin_place(tx: &mut Tx, epoch: i32, place: NoticePlace) -> Result<(), Error> {
    let (epoch, partition) = (i64::from(epoch), i64::from(place.partition));
    tx.execute(
        "INSERT INTO notice_places (epoch, partition_number, next_offset, outbox_seq)
         VALUES ($1, $2, $3, $4) ON CONFLICT (epoch, partition_number) DO NOTHING",
        vec![epoch.into(), partition.into(), place.next.into(), place.seq.into()],
    )
    .await
    .map(|_| ())
}

async fn advance(tx: &mut Tx, epoch: i32, change: &NoticeChange) -> Result<bool, Error> {
    begin_place(tx, epoch, change.from).await?;
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

/// Whether a notification was not ended meanwhile. From here to the commit it can't be: its row is
/// held.
async fn is_there(tx: &mut Tx, notification: Uuid) -> Result<bool, Error> {
    let held = tx
        .execute("UPDATE notifications SET name = name WHERE id = $1", vec![notification.into()])
        .await?;
    Ok(held == 1)
}

/// Whether an episode is to be told: its beginning once, its end once and only after its beginning.
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
    open: &mut HashMap<Key, Open>,
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
        if message.items.len() < NAMED {
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
    open.insert(key, Open { id, items, count: 1, title: item.title.clone() });
    Ok(())
}

/// The message of the same kind that was not tried yet. Whoever would send it waits until it is whole.
async fn waiting(tx: &mut Tx, item: &NoticeItem) -> Result<Option<Open>, Error> {
    let key = || -> Vec<crate::value::Value> {
        vec![item.notification_id.into(), item.kind.as_str().into(), item.group_key.as_str().into()]
    };
    tx.execute(
        "UPDATE notices SET attempts = 0 WHERE notification_id = $1 AND kind = $2
             AND group_key = $3 AND state = 'waiting' AND attempts = 0",
        key(),
    )
    .await?;
    let row: Option<(Uuid, Json, i64, String)> = tx
        .fetch_optional(
            "SELECT id, items, item_count, title FROM notices
             WHERE notification_id = $1 AND kind = $2 AND group_key = $3 AND state = 'waiting'
                 AND attempts = 0
             ORDER BY id DESC LIMIT 1",
            key(),
        )
        .await?;
    Ok(row.map(|(id, items, count, title)| {
        let items = serde_json::from_value(items).unwrap_or_default();
        Open { id, items, count, title }
    }))
}

/// Stores what joined.
async fn store(tx: &mut Tx, message: Open) -> Result<(), Error> {
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
