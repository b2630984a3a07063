//! What a client missed, read from the log after the position that it names: page by page, as it takes
//! them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use acuvim_log::{ErrorKind, LogTopic, ReadLimit};

use crate::{
    event::{EventOffset, LiveEvent},
    log_events::{message, outbox_number},
    position::{PartitionPosition, StreamPosition},
    state::Live,
};

/// The most that one read returns.
const PAGE: ReadLimit =
    ReadLimit { records: 200, bytes: 1 << 20, wait: Duration::from_millis(100) };

/// The message for a client that missed events which the log has dropped.
const TOO_OLD: &str = "the log does not keep what is so old: what it has follows";

/// The message for a client whose position belongs to a log that was since laid out anew.
const OTHER_LOG: &str = "the log was begun anew since then: ask the API what is there now";

/// Reads from one position to another.
#[derive(Debug)]
pub(crate) struct Replay {
    at: StreamPosition,
    to: StreamPosition,
    /// Partitions that are not read to their end, in order.
    left: VecDeque<usize>,
    /// Why some events are missing, until the client is told.
    gap: Option<Gap>,
}

/// Events that the log does not have any more.
#[derive(Debug, Clone)]
pub(crate) struct Gap {
    pub reason: String,
    /// The position after the gap.
    pub after: StreamPosition,
}

impl Replay {
    /// From what a client has seen to where its connection began.
    pub async fn begin(
        live: &Live,
        seen: &StreamPosition,
        to: &StreamPosition,
    ) -> Result<Self, acuvim_log::Error> {
        let to = to.clone();
        if seen.epoch != to.epoch || seen.partitions.len() != to.partitions.len() {
            let gap = Some(Gap { reason: OTHER_LOG.to_owned(), after: to.clone() });
            return Ok(Self { at: to.clone(), to, left: VecDeque::new(), gap });
        }
        let (mut at, mut left, mut is_gone) = (seen.clone(), VecDeque::new(), false);
        for (partition, (at, to)) in at.partitions.iter_mut().zip(&to.partitions).enumerate() {
            let number = u32::try_from(partition).unwrap_or(u32::MAX);
            // Most partitions of a client that was away for a moment: the log need not be asked.
            if at.next == to.next {
                continue;
            }
            let bounds = live.log().bounds(LogTopic::Events, number).await?;
            if at.next > bounds.end {
                // The log was set back: its records from here on are not those that were seen.
                is_gone = true;
                *at = *to;
            }
            if at.next < bounds.start {
                is_gone = true;
                at.next = bounds.start;
            }
            if at.next < to.next {
                left.push_back(partition);
            }
        }
        let gap = is_gone.then(|| Gap { reason: TOO_OLD.to_owned(), after: at.clone() });
        Ok(Self { at, to, left, gap })
    }

    /// The position up to which the client has got everything that the log has.
    pub const fn at(&self) -> &StreamPosition {
        &self.at
    }

    /// Events that are missing, once for each gap.
    pub fn take_gap(&mut self) -> Option<Gap> {
        self.gap.take()
    }

    /// The next events in order; none once the end is reached. May be dropped while it waits: it then
    /// begins with the same events again.
    pub async fn next(
        &mut self,
        live: &Live,
    ) -> Result<Option<Vec<Arc<LiveEvent>>>, acuvim_log::Error> {
        let Some(partition) = self.left.front().copied() else { return Ok(None) };
        let number = u32::try_from(partition).unwrap_or(u32::MAX);
        let Some(to) = self.to.partitions.get(partition).map(|to| to.next) else {
            return Ok(None);
        };
        let mut position = self.at.partitions.get(partition).copied().unwrap_or_default();
        let batch = match live.log().read(LogTopic::Events, number, position.next, PAGE).await {
            Ok(batch) => batch,
            // The log has dropped these records since the replay began.
            Err(error) if error.kind() == ErrorKind::OutOfRange => {
                let start = live.log().bounds(LogTopic::Events, number).await?.start;
                position.next = start.max(position.next);
                self.set(partition, position);
                self.gap = Some(Gap { reason: TOO_OLD.to_owned(), after: self.at.clone() });
                return Ok(Some(Vec::new()));
            }
            Err(error) => return Err(error),
        };
        // A copy: if this future is dropped in the middle, the next one begins with the same records.
        let (mut events, mut at) = (Vec::new(), self.at.clone());
        for (offset, entry) in &batch.entries {
            // From here on the connection's own queue has them.
            if *offset >= to {
                break;
            }
            let number = outbox_number(entry);
            // An event without a number was delivered once, and live clients have got it.
            let is_new = number.is_none_or(|number| number > position.seq);
            let message = if is_new { message(live, entry).await } else { None };
            let seq = position.seq.max(number.unwrap_or(0));
            position = PartitionPosition { next: offset + 1, seq };
            if let Some(at) = at.partitions.get_mut(partition) {
                *at = position;
            }
            if let Some(message) = message {
                let offset = EventOffset { partition, offset: *offset };
                events.push(Arc::new(LiveEvent::new(message, at.clone(), offset)));
            }
        }
        position.next = batch.next.min(to).max(position.next);
        self.set(partition, position);
        if position.next >= to {
            self.left.pop_front();
        }
        Ok(Some(events))
    }

    fn set(&mut self, partition: usize, position: PartitionPosition) {
        if let Some(at) = self.at.partitions.get_mut(partition) {
            *at = position;
        }
    }
}

#[cfg(test)]
mod tests;
