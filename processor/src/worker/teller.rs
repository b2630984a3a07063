//! Commits changes to control beside the stream, so that readings become visible however slow control
//! is, and also while it is away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use acuvim_control::{Applied, Changes, Control, DeviceNote, ErrorKind, OffsetMove};
use acuvim_log::{Log, LogTopic};
use chrono::Utc;
use tokio::sync::{mpsc, watch};

use super::{CONTROL_INTERVAL, CURSOR, Ended, Worker, changes::away};
use crate::{notes::moment, state::StateSender};

/// Notes on devices that one transaction stores at most.
const AT_ONCE: usize = 1000;

/// The next offset, and what came before it.
type Telling = (i64, Changes);

/// Whether more can be handed over.
pub(super) enum Ready {
    /// It can: there is room for one.
    Free,
    /// Not now.
    Busy,
    /// Never again.
    Ended,
}

/// The handle of the task that tells.
pub(super) struct Teller {
    sender: mpsc::Sender<Telling>,
    task: tokio::task::JoinHandle<Result<(), Ended>>,
    noter: Noter,
    /// How many tellings were handed over, and how many of them control has.
    told: AtomicU64,
    stored: watch::Receiver<u64>,
}

/// Tells the embedded log's retention what control has got; behind by a little, it keeps more than
/// it must.
#[derive(Clone)]
struct Noter {
    log: Arc<dyn Log>,
    partition: u32,
    /// Kafka's retention asks nobody.
    shared: bool,
}

impl Teller {
    /// Begins to tell control of a worker's partition, whose next offset is stored as given.
    pub fn start(worker: &Worker, control_at: Option<i64>) -> Self {
        let (sender, tellings) = mpsc::channel(1);
        let noter = Noter {
            log: Arc::clone(&worker.parts.log),
            partition: worker.partition,
            shared: worker.options.shared,
        };
        let (stored, watch) = watch::channel(0);
        let task = Task {
            stored,
            control: worker.parts.control.clone(),
            epoch: worker.parts.epoch,
            state: worker.state.clone(),
            control_at,
            noter: noter.clone(),
            noted: Instant::now(),
        };
        Self {
            sender,
            task: tokio::spawn(task.run(tellings)),
            noter,
            told: AtomicU64::new(0),
            stored: watch,
        }
    }

    /// Whether more can be handed over now, or, unless that is asked, once it can.
    pub async fn ready(&self, now: bool) -> Ready {
        let permit = match now {
            true => self.sender.try_reserve(),
            false => match self.sender.reserve().await {
                Ok(permit) => Ok(permit),
                Err(_) => return Ready::Ended,
            },
        };
        match permit {
            Ok(_) => Ready::Free,
            Err(mpsc::error::TrySendError::Full(())) => Ready::Busy,
            Err(mpsc::error::TrySendError::Closed(())) => Ready::Ended,
        }
    }

    /// Hands over; there must be room. Nobody else takes it: the worker is the only one that tells.
    pub fn tell(&self, next: i64, changes: Changes) {
        // Fails only if the task has ended, which the next call of `ready` finds out.
        if self.sender.try_send((next, changes)).is_ok() {
            self.told.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether control has everything that was handed over.
    pub fn has_stored(&self) -> bool {
        *self.stored.borrow() == self.told.load(Ordering::Relaxed)
    }

    pub async fn note(&self, next: i64) {
        self.noter.note(next).await;
    }

    /// Waits until everything handed over is in control, or can't be.
    pub async fn end(mut self) -> Result<(), Ended> {
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.sender, closed));
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(error) => {
                Err(Ended::Fatal(crate::Fatal::Broken(format!("a teller ended: {error}"))))
            }
        }
    }
}

impl Drop for Teller {
    /// A worker that was given up owes nothing: whoever comes next reads it again.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Noter {
    async fn note(&self, next: i64) {
        if self.shared {
            return;
        }
        let noted = self.log.set_cursor(CURSOR, LogTopic::Uplink, self.partition, next).await;
        if let Err(error) = noted {
            tracing::debug!(%error, "the log's cursor was not noted");
        }
    }
}

struct Task {
    control: Control,
    epoch: i32,
    state: StateSender,
    /// The next offset as control has it.
    control_at: Option<i64>,
    noter: Noter,
    noted: Instant,
    stored: watch::Sender<u64>,
}

impl Task {
    async fn run(mut self, mut tellings: mpsc::Receiver<Telling>) -> Result<(), Ended> {
        while let Some((next, changes)) = tellings.recv().await {
            self.tell(next, changes).await?;
            self.stored.send_modify(|stored| *stored += 1);
            if self.noted.elapsed() >= CONTROL_INTERVAL {
                self.noter.note(next).await;
                self.noted = Instant::now();
            }
        }
        Ok(())
    }

    /// Commits changes together with the offset. Of many notes on devices, some at a time, so that
    /// others get their turn: a note that is stored twice is stored once.
    async fn tell(&mut self, next: i64, mut changes: Changes) -> Result<(), Ended> {
        while changes.devices.len() > AT_ONCE {
            let rest = changes.devices.split_off(AT_ONCE);
            let devices = std::mem::replace(&mut changes.devices, rest);
            let resend = changes.resend.clone();
            // What is said once goes with the offset alone.
            changes.devices.extend(devices.iter().filter_map(DeviceNote::said_once));
            let devices = devices.into_iter().map(DeviceNote::said_again).collect();
            let part = Changes { devices, resend, ..Changes::default() };
            self.commit(self.control_at, part).await?;
            if changes.devices.iter().all(|note| note.of_known) {
                break;
            }
        }
        // An alert that is raised or cleared twice is so once; states go with the offset alone.
        while changes.alerts.len() > AT_ONCE {
            let rest = changes.alerts.split_off(AT_ONCE);
            let alerts = std::mem::replace(&mut changes.alerts, rest);
            self.commit(self.control_at, Changes { alerts, ..Changes::default() }).await?;
        }
        self.commit(Some(next), changes).await?;
        self.control_at = Some(next);
        Ok(())
    }

    /// Commits, however often it must be tried.
    async fn commit(&mut self, next: Option<i64>, mut changes: Changes) -> Result<(), Ended> {
        let (partition, expected) = (self.noter.partition, self.control_at);
        let step = |next| OffsetMove { partition, expected, next };
        changes.moves = next.into_iter().map(step).collect();
        let mut failed = false;
        loop {
            changes.now = moment(Utc::now().timestamp_micros());
            match self.control.apply(self.epoch, &changes).await {
                Ok(Applied::Done) => break,
                Ok(Applied::Overtaken { partition }) => {
                    // A commit that failed before may have been made all the same.
                    let at = self.control.offset(self.epoch, partition).await;
                    if failed && at.is_ok_and(|at| at == next) {
                        break;
                    }
                    return Err(Ended::Overtaken);
                }
                // What one device said may not hold up all others.
                Err(error) if error.kind() == ErrorKind::Invalid && !changes.is_empty() => {
                    let notes = changes.len();
                    metrics::counter!("acuvim_notes_dropped_total").increment(notes as u64);
                    tracing::error!(partition, ?next, notes, %error, "notes that control can't take");
                    let (moves, read_until) = (changes.moves, changes.read_until);
                    changes = Changes { moves, read_until, ..Changes::default() };
                }
                Err(error) => {
                    failed = true;
                    away(&self.state, &error).await?;
                }
            }
        }
        self.state.control(None);
        Ok(())
    }
}
