//! The writer thread: takes all appends that arrived during the last sync, lays them out as one value per
//! partition, and syncs once for all of them.

use std::{collections::BTreeMap, sync::Arc, thread};

use acuvim_wire::{
    entry::Entry,
    record::{LogTopic, Position},
};
use fjall::PersistMode;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::{layout, shared::Shared, store::disk};
use crate::error::{Error, ErrorKind};

/// The most bytes that one sync covers: more would make the first of its callers wait too long.
const GROUP_BYTES: usize = 8 << 20;

/// One caller's append.
#[derive(Debug)]
pub(super) struct Request {
    pub topic: LogTopic,
    pub entries: Vec<(u32, Entry)>,
    pub reply: oneshot::Sender<Result<Vec<Position>, Error>>,
    /// Held until the answer, so that the bytes waiting for the disk are bounded.
    pub _permit: OwnedSemaphorePermit,
}

/// Starts the thread; it ends when every sender is dropped.
pub(super) fn start(
    shared: Arc<Shared>,
    mut queue: mpsc::Receiver<Request>,
    failing: watch::Sender<Option<String>>,
) -> Result<thread::JoinHandle<()>, Error> {
    thread::Builder::new()
        .name("log-writer".to_owned())
        .spawn(move || {
            // After the first failed write every append gets its error. Nobody can tell how much of that
            // write is on the disk, and what follows a torn batch is dropped at the next start.
            let mut failed: Option<Error> = None;
            while let Some(first) = queue.blocking_recv() {
                let group = gather(first, &mut queue);
                let written = match &failed {
                    Some(error) => Err(error.clone()),
                    // A full disk is no failed write: nothing was begun.
                    None => check_free_space(&shared).and_then(|()| {
                        write(&shared, &group).inspect_err(|error| {
                            failing.send_replace(Some(error.to_string()));
                            failed = Some(error.clone());
                        })
                    }),
                };
                answer(group, written);
            }
        })
        .map_err(|e| {
            Error::new(ErrorKind::Setup, format!("can't start the log's writer thread: {e}"))
        })
}

fn gather(first: Request, queue: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let size = |r: &Request| r.entries.iter().map(|(_, e)| e.size()).sum::<usize>();
    let mut bytes = size(&first);
    let mut group = vec![first];
    // Never waits for more: on an idle log each append is answered as fast as the disk is.
    while bytes < GROUP_BYTES
        && let Ok(next) = queue.try_recv()
    {
        bytes += size(&next);
        group.push(next);
    }
    group
}

/// Writes a group durably. Returns the positions for each request.
fn write(shared: &Shared, group: &[Request]) -> Result<Vec<Vec<Position>>, Error> {
    let mut runs: BTreeMap<(LogTopic, u32), Vec<&Entry>> = BTreeMap::new();
    let mut positions = Vec::with_capacity(group.len());
    for request in group {
        let mut own = Vec::with_capacity(request.entries.len());
        for (number, entry) in &request.entries {
            let base = shared.partition(request.topic, *number)?.next_offset();
            let run = runs.entry((request.topic, *number)).or_default();
            // Known before the commit, because no other thread moves the end.
            let ahead = i64::try_from(run.len()).unwrap_or(i64::MAX);
            own.push(Position { partition: *number, offset: base + ahead });
            run.push(entry);
        }
        positions.push(own);
    }
    commit(shared, &runs)?;
    Ok(positions)
}

fn commit(shared: &Shared, runs: &BTreeMap<(LogTopic, u32), Vec<&Entry>>) -> Result<(), Error> {
    let mut batch = shared.db.batch().durability(Some(PersistMode::SyncData));
    let mut ends = Vec::with_capacity(runs.len());
    for ((topic, number), entries) in runs {
        let partition = shared.partition(*topic, *number)?;
        if partition.active().is_some_and(|s| s.bytes >= shared.options.segment_bytes) {
            partition.roll(&shared.db, &shared.meta)?;
        }
        let Some(segment) = partition.active() else { continue };
        let base = partition.next_offset();
        let value = layout::encode(entries.iter().copied());
        let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        ends.push((partition, base + count, value.len() as u64));
        batch.insert(&segment.keyspace, base.to_be_bytes(), value);
    }
    batch.commit().map_err(disk)?;
    for (partition, end, bytes) in ends {
        partition.appended(end, bytes);
    }
    Ok(())
}

fn answer(group: Vec<Request>, written: Result<Vec<Vec<Position>>, Error>) {
    match written {
        Ok(positions) => {
            for (request, own) in group.into_iter().zip(positions) {
                // Fails if the caller is gone, who then was promised nothing.
                let _ = request.reply.send(Ok(own));
            }
        }
        Err(error) => {
            for request in group {
                let _ = request.reply.send(Err(error.clone()));
            }
        }
    }
}

/// Refuses to write on a nearly full disk: fjall stops on a full one until it is opened again.
fn check_free_space(shared: &Shared) -> Result<(), Error> {
    let options = &shared.options;
    let stat = rustix::fs::statvfs(&options.path)
        .map_err(|e| Error::unavailable(format!("{}: {e}", options.path.display())))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < options.min_free_bytes {
        return Err(Error::unavailable(format!(
            "{} has {} MiB left, fewer than log.min_free_mb",
            options.path.display(),
            free >> 20
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
