//! The task that commits changes to control, one batch after the other.

use std::time::{Duration, Instant};

use acuvim_control::{Applied, Changes, Control, DeviceUpdate, ErrorKind, OffsetMove};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::cursor::ControlCursor;
use crate::{
    api_time::api_now,
    fatal::Fatal,
    partition::{context::control_unavailable, stop::StopReason},
    state::StateSender,
};

/// The most changes of one kind that one transaction stores; with more, others would wait for the
/// database too long.
pub(super) const CHUNK: usize = 1000;

/// How often the log's cursor is moved.
const CURSOR_INTERVAL: Duration = Duration::from_secs(5);

/// Where a partition's changes are written.
pub(crate) struct ControlTarget {
    pub control: Control,
    pub epoch: i32,
    pub partition: u32,
    pub state: StateSender,
    /// The embedded log's cursor; `None` on Kafka, whose retention does not depend on it.
    pub cursor: Option<ControlCursor>,
}

/// Whether the task takes another batch.
pub(super) enum Readiness {
    Ready,
    /// It still has one waiting.
    Busy,
    /// It has ended, and never will.
    Ended,
}

/// The changes of all records before an offset.
struct Write {
    next: i64,
    changes: Changes,
}

/// The handle of the task.
pub(super) struct WriteTask {
    sender: mpsc::Sender<Write>,
    task: JoinHandle<Result<(), StopReason>>,
    /// How many batches were handed over, and how many of them are stored.
    sent: u64,
    stored: watch::Receiver<u64>,
}

impl WriteTask {
    /// Starts to write; `stored_next` is the offset that control has stored for the partition.
    pub fn spawn(target: ControlTarget, stored_next: Option<i64>) -> Self {
        // One batch waits while one is written; more gather with the sender.
        let (sender, writes) = mpsc::channel(1);
        let (stored_sender, stored) = watch::channel(0);
        let committer =
            Committer { target, stored_next, cursor_moved: Instant::now(), stored: stored_sender };
        Self { sender, task: tokio::spawn(committer.run(writes)), sent: 0, stored }
    }

    /// Whether the task takes another batch now.
    pub fn readiness(&self) -> Readiness {
        match self.sender.try_reserve() {
            Ok(_) => Readiness::Ready,
            Err(mpsc::error::TrySendError::Full(())) => Readiness::Busy,
            Err(mpsc::error::TrySendError::Closed(())) => Readiness::Ended,
        }
    }

    /// Waits until the task takes another batch.
    pub async fn wait_ready(&self) -> Readiness {
        match self.sender.reserve().await {
            Ok(_) => Readiness::Ready,
            Err(_) => Readiness::Ended,
        }
    }

    /// Hands a batch over. The task has to be ready, and stays so, because this is its only sender.
    pub fn send(&mut self, next: i64, changes: Changes) {
        // Fails only if the task has ended, which the next check of its readiness finds.
        if self.sender.try_send(Write { next, changes }).is_ok() {
            self.sent += 1;
        }
    }

    /// Whether everything handed over is stored.
    pub fn has_stored_all(&self) -> bool {
        *self.stored.borrow() == self.sent
    }

    /// Waits until everything handed over is stored, or can't be.
    pub async fn finish(mut self) -> Result<(), StopReason> {
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.sender, closed));
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(error) => {
                let text = format!("the task that writes to control ended: {error}");
                Err(StopReason::Fatal(Fatal::Broken(text)))
            }
        }
    }
}

impl Drop for WriteTask {
    /// A partition that is given up owes nothing: its next owner reads the same records again.
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Committer {
    target: ControlTarget,
    /// The offset that control has stored.
    stored_next: Option<i64>,
    cursor_moved: Instant,
    stored: watch::Sender<u64>,
}

impl Committer {
    async fn run(mut self, mut writes: mpsc::Receiver<Write>) -> Result<(), StopReason> {
        while let Some(Write { next, changes }) = writes.recv().await {
            self.write(next, changes).await?;
            // Counted before the cursor moves, for which nobody has to wait.
            self.stored.send_modify(|stored| *stored += 1);
            if let Some(cursor) = &self.target.cursor
                && self.cursor_moved.elapsed() >= CURSOR_INTERVAL
            {
                cursor.move_to(next).await;
                self.cursor_moved = Instant::now();
            }
        }
        Ok(())
    }

    /// Commits a batch and its offset. A large one is committed in chunks, of which only the last
    /// moves the offset: after a crash in between, the chunks before it are written again. They
    /// hold only changes that may be written twice; all others are stored with the offset.
    async fn write(&mut self, next: i64, mut changes: Changes) -> Result<(), StopReason> {
        while changes.devices.len() > CHUNK {
            let rest = changes.devices.split_off(CHUNK);
            let devices = std::mem::replace(&mut changes.devices, rest);
            let resend = changes.resend.clone();
            changes.devices.extend(devices.iter().filter_map(DeviceUpdate::once_only));
            let devices = devices.into_iter().map(DeviceUpdate::repeatable).collect();
            let chunk = Changes { devices, resend, ..Changes::default() };
            self.commit(self.stored_next, chunk).await?;
            // What is left are the parts that have to go with the offset.
            if changes.devices.iter().all(|device| device.of_known) {
                break;
            }
        }
        // Idempotent as well: an alert has a fixed id. The states of its rule go with the offset.
        while changes.alerts.len() > CHUNK {
            let rest = changes.alerts.split_off(CHUNK);
            let alerts = std::mem::replace(&mut changes.alerts, rest);
            self.commit(self.stored_next, Changes { alerts, ..Changes::default() }).await?;
        }
        self.commit(Some(next), changes).await?;
        self.stored_next = Some(next);
        Ok(())
    }

    /// Commits changes, however often it has to be tried.
    async fn commit(&self, next: Option<i64>, mut changes: Changes) -> Result<(), StopReason> {
        let ControlTarget { control, epoch, partition, state, .. } = &self.target;
        let (partition, expected) = (*partition, self.stored_next);
        changes.moves =
            next.into_iter().map(|next| OffsetMove { partition, expected, next }).collect();
        let mut failed = false;
        loop {
            // Anew at each attempt, because commands get their time from the attempt that succeeds.
            changes.now = api_now();
            match control.apply(*epoch, &changes).await {
                Ok(Applied::Done) => break,
                Ok(Applied::Overtaken { partition }) => {
                    // A commit that failed may have been made all the same.
                    let stored = control.offset(*epoch, partition).await;
                    if failed && stored.is_ok_and(|stored| stored == next) {
                        break;
                    }
                    return Err(StopReason::Overtaken);
                }
                // The data of one device must not hold up all others, so the changes are dropped
                // and only the offset is stored.
                Err(error) if error.kind() == ErrorKind::Invalid && !changes.is_empty() => {
                    let dropped = changes.len();
                    metrics::counter!("acuvim_notes_dropped_total").increment(dropped as u64);
                    tracing::error!(
                        partition, ?next, dropped, %error,
                        "control refuses these changes; they are dropped"
                    );
                    let (moves, read_until) = (changes.moves, changes.read_until);
                    changes = Changes { moves, read_until, ..Changes::default() };
                }
                Err(error) => {
                    failed = true;
                    control_unavailable(state, error).await?;
                }
            }
        }
        state.control(None);
        Ok(())
    }
}
