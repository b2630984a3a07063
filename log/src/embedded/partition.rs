//! One partition of one topic: its segments, its end offset, and reads across segments.

use std::sync::{PoisonError, RwLock};

use acuvim_wire::record::LogTopic;
use bytes::Bytes;
use fjall::{Database, Keyspace, PersistMode};
use tokio::sync::watch;

use super::{
    layout,
    store::{disk, keyspace, number as number_of},
};
use crate::{
    batch::{Batch, Bounds, ReadLimit},
    error::{Error, ErrorKind},
};

/// A range of offsets in a keyspace of its own. Keys are base offsets, values are batches of entries.
#[derive(Clone)]
pub(super) struct Segment {
    pub base: i64,
    pub bytes: u64,
    pub keyspace: Keyspace,
}

pub(super) struct Partition {
    topic: LogTopic,
    number: u32,
    state: RwLock<State>,
    end: watch::Sender<i64>,
}

struct State {
    /// Never empty, ascending by base; the last one is the active one, which takes appends.
    segments: Vec<Segment>,
    /// Offsets below this were dropped by `truncate_before`, even where a segment still holds them.
    low: i64,
}

impl Partition {
    pub fn open(
        db: &Database,
        meta: &Keyspace,
        topic: LogTopic,
        number: u32,
    ) -> Result<Self, Error> {
        let prefix = segment_prefix(topic, number);
        let mut segments = Vec::new();
        for name in db.list_keyspace_names() {
            let Some(base) = name.strip_prefix(&prefix).and_then(|base| base.parse().ok()) else {
                continue;
            };
            let keyspace = db.keyspace(&name, keyspace).map_err(disk)?;
            // What is not flushed yet counts as nothing, so the active segment may become larger after a
            // restart.
            segments.push(Segment { base, bytes: keyspace.disk_space(), keyspace });
        }
        segments.sort_by_key(|s| s.base);
        let low = number_of(meta, &low_key(topic, number))?.unwrap_or(0);
        if segments.is_empty() {
            segments.push(make_segment(db, meta, topic, number, low)?);
        }
        let end = segments.last().map_or(Ok(low), end_of)?;
        let state = RwLock::new(State { segments, low });
        Ok(Self { topic, number, state, end: watch::Sender::new(end) })
    }

    pub fn end(&self) -> watch::Receiver<i64> {
        self.end.subscribe()
    }

    pub fn next_offset(&self) -> i64 {
        *self.end.borrow()
    }

    pub fn bounds(&self) -> Result<Bounds, Error> {
        let end = self.next_offset();
        let start = self.with(|state| state.start());
        Ok(Bounds { start, end })
    }

    /// The segment that takes the next append.
    pub fn active(&self) -> Option<Segment> {
        self.with(|state| state.segments.last().cloned())
    }

    /// Makes what is durable now visible to readers.
    pub fn appended(&self, end: i64, bytes: u64) {
        self.with_mut(|state| {
            if let Some(active) = state.segments.last_mut() {
                active.bytes += bytes;
            }
        });
        // Last, because readers wake up by it.
        self.end.send_replace(end);
    }

    /// Closes the active segment; the next append goes to a new one.
    pub fn roll(&self, db: &Database, meta: &Keyspace) -> Result<(), Error> {
        let segment = make_segment(db, meta, self.topic, self.number, self.next_offset())?;
        let closed = self.with_mut(|state| {
            let closed = state.segments.last().map(|closed| closed.keyspace.clone());
            state.segments.push(segment);
            closed
        });
        // Without further writes its memtable would never fill up, and stay in memory until the journal is
        // full.
        match closed {
            Some(closed) => closed.rotate_memtable().map(|_| ()).map_err(disk),
            None => Ok(()),
        }
    }

    /// All segments but the active one, oldest first.
    pub fn closed(&self, meta: &Keyspace) -> Result<Vec<Closed>, Error> {
        let segments = self.with(|state| state.segments.clone());
        segments
            .iter()
            .zip(segments.iter().skip(1))
            .map(|(segment, next)| {
                let made = number_of(meta, &made_key(self.topic, self.number, next.base))?;
                Ok(Closed { end: next.base, bytes: segment.bytes, at: made.unwrap_or(0) })
            })
            .collect()
    }

    /// Drops whole segments below an offset, and hides the rest below it from readers.
    pub fn truncate_before(
        &self,
        db: &Database,
        meta: &Keyspace,
        offset: i64,
    ) -> Result<u64, Error> {
        // A mark beyond the end would hide records that are still to come.
        let low = offset.min(self.next_offset());
        if low <= self.with(|state| state.low) {
            return Ok(0);
        }
        // The mark is stored first: after a crash in between, the next truncation drops the segments.
        let mut batch = db.batch().durability(Some(PersistMode::SyncData));
        batch.insert(meta, low_key(self.topic, self.number).as_bytes(), low.to_be_bytes());
        batch.commit().map_err(disk)?;
        let dropped = self.with_mut(|state| {
            state.low = low;
            // The active segment always stays: after a restart its base tells the next offset.
            let keep = state.segments.iter().skip(1).take_while(|next| next.base <= low).count();
            state.segments.drain(..keep).collect::<Vec<_>>()
        });
        let mut freed = 0;
        for segment in dropped {
            freed += segment.bytes;
            db.delete_keyspace(segment.keyspace).map_err(disk)?;
        }
        Ok(freed)
    }

    pub fn read(&self, from: i64, limit: ReadLimit) -> Result<Batch, Error> {
        let end = self.next_offset();
        let (start, segments) = self.with(|state| {
            // Only the segments from the one that holds the offset on: older ones are not opened.
            let first = state.segments.iter().rposition(|s| s.base <= from).unwrap_or(0);
            (state.start(), state.segments.get(first..).unwrap_or_default().to_vec())
        });
        if from < start || from > end {
            let bounds = Bounds { start, end };
            return Err(Error::out_of_range(self.topic.name(), self.number, bounds, from));
        }
        let mut batch = Batch { entries: Vec::new(), next: from };
        let mut bytes = 0;
        for segment in &segments {
            if !read_segment(segment, end, limit, &mut batch, &mut bytes)? {
                break;
            }
        }
        Ok(batch)
    }

    fn with<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_mut<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A segment that takes no more appends.
pub(super) struct Closed {
    /// The offset after its last one.
    pub end: i64,
    pub bytes: u64,
    /// When it was closed, in microseconds since the epoch.
    pub at: i64,
}

impl State {
    fn start(&self) -> i64 {
        self.segments.first().map_or(self.low, |s| s.base.max(self.low))
    }
}

/// Adds the entries of a segment from `batch.next` on. Returns false once a limit is reached.
fn read_segment(
    segment: &Segment,
    end: i64,
    limit: ReadLimit,
    batch: &mut Batch,
    bytes: &mut usize,
) -> Result<bool, Error> {
    let key = |offset: i64| offset.to_be_bytes();
    let from = batch.next;
    // A batch is stored under its first offset, so the one that holds `from` may begin before it.
    let held = segment.keyspace.range::<[u8; 8], _>(..=key(from)).next_back();
    let held = held.map(|g| g.key()).transpose().map_err(disk)?;
    let first = held.and_then(|k| k.as_ref().try_into().ok()).map_or(from, i64::from_be_bytes);
    for guard in segment.keyspace.range::<[u8; 8], _>(key(first)..key(end)) {
        let (base, value) = guard.into_inner().map_err(disk)?;
        let base = base.as_ref().try_into().map(i64::from_be_bytes);
        let entries = layout::decode(Bytes::from_owner(value));
        let (Ok(base), Some(entries)) = (base, entries) else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("the log segment at offset {} has a damaged batch", segment.base),
            ));
        };
        for (offset, entry) in (base..).zip(entries) {
            if offset < batch.next {
                continue;
            }
            let full = batch.entries.len() >= limit.records || *bytes + entry.size() > limit.bytes;
            if full && !batch.entries.is_empty() {
                return Ok(false);
            }
            // Without this check a reader would pass over what a damaged disk has lost, and nobody notice.
            if offset > batch.next {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("the log lacks the records from offset {} to {offset}", batch.next),
                ));
            }
            *bytes += entry.size();
            batch.next = offset + 1;
            batch.entries.push((offset, entry));
        }
    }
    Ok(true)
}

fn end_of(segment: &Segment) -> Result<i64, Error> {
    let Some(last) = segment.keyspace.last_key_value() else { return Ok(segment.base) };
    let (base, value) = last.into_inner().map_err(disk)?;
    let base = base.as_ref().try_into().map(i64::from_be_bytes).ok();
    base.zip(layout::count(&value)).map(|(base, count)| base + i64::from(count)).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the last batch of a log segment can't be read".to_owned())
    })
}

fn make_segment(
    db: &Database,
    meta: &Keyspace,
    topic: LogTopic,
    number: u32,
    base: i64,
) -> Result<Segment, Error> {
    let name = format!("{}{base:020}", segment_prefix(topic, number));
    let keyspace = db.keyspace(&name, keyspace).map_err(disk)?;
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    // Not synced by itself: the first batch of the segment follows in the same journal, and is.
    meta.insert(made_key(topic, number, base).as_bytes(), now.to_be_bytes()).map_err(disk)?;
    Ok(Segment { base, bytes: 0, keyspace })
}

fn segment_prefix(topic: LogTopic, number: u32) -> String {
    format!("{}/{number}/", topic.name())
}

fn made_key(topic: LogTopic, number: u32, base: i64) -> String {
    format!("made/{}{base:020}", segment_prefix(topic, number))
}

fn low_key(topic: LogTopic, number: u32) -> String {
    format!("low/{}/{number}", topic.name())
}

#[cfg(test)]
mod tests;
