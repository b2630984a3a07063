//! The embedded log: one node, no other process, on fjall.
//!
//! Appends that come while a sync is under way share the next one. A partition is a row of
//! segments, each a keyspace of its own, because fjall frees a keyspace at once and a range never.

mod partition;
mod retention;
mod writer;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::spawn_blocking,
};

pub use retention::Retention;

use crate::{Batch, Bounds, Claim, Entry, Error, ErrorKind, Log, LogTopic, Position, ReadLimit};
use partition::Partition;
use writer::Request;

/// How an embedded log is set up.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The folder that holds it.
    pub path: PathBuf,
    /// Partitions of every topic.
    pub partitions: u32,
    /// The largest entry it takes, in bytes.
    pub max_entry_bytes: usize,
    /// Bytes that may wait for the disk before appends wait too.
    pub max_pending_bytes: usize,
    /// A segment is closed once it holds as many bytes.
    pub segment_bytes: u64,
    /// Appends stop when the disk has fewer bytes left, so that it is never full.
    pub min_free_bytes: u64,
    /// The cursors of those who must have got a record of the uplink before retention drops it.
    pub sinks: Vec<&'static str>,
}

impl EmbeddedOptions {
    /// The defaults, at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            partitions: 4,
            max_entry_bytes: 4 << 20,
            max_pending_bytes: 64 << 20,
            segment_bytes: 64 << 20,
            min_free_bytes: 256 << 20,
            sinks: vec!["lake", "control"],
        }
    }
}

/// A log in a folder of this machine, for one process.
#[derive(Debug)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    pending_bytes: Arc<Semaphore>,
    failed: watch::Receiver<Option<String>>,
    writer: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What readers and the writer thread both see.
pub(crate) struct Shared {
    options: EmbeddedOptions,
    id: String,
    db: Database,
    meta: Keyspace,
    partitions: BTreeMap<(LogTopic, u32), Partition>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl EmbeddedLog {
    /// Opens the log, or makes one. What a crash left torn is dropped: it was never acknowledged.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] when another process has it or the folder can't be written,
    /// [`ErrorKind::Corrupt`] when what is there can't be read.
    pub async fn open(options: EmbeddedOptions) -> Result<Self, Error> {
        let shared = spawn_blocking(move || Shared::open(options)).await.map_err(stopped)??;
        let shared = Arc::new(shared);
        let pending_bytes = Arc::new(Semaphore::new(shared.options.max_pending_bytes));
        let (requests, queue) = mpsc::channel(1024);
        let (failing, failed) = watch::channel(None);
        let writer = writer::start(Arc::clone(&shared), queue, failing)?;
        let writer = std::sync::Mutex::new(Some(writer));
        Ok(Self { shared, requests, pending_bytes, failed, writer })
    }

    /// Which log this is: made with it, and of no other.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Says when a write has failed: from then on the log takes nothing until it is opened again,
    /// since nobody can tell what of that write is on the disk.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Drops closed segments that are too old or too many and that every sink has got.
    /// Answers with the bytes given up.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the disk fails.
    pub async fn retain(&self, now: std::time::SystemTime, keep: Retention) -> Result<u64, Error> {
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || retention::retain(&shared, now, keep)).await.map_err(stopped)?
    }

    /// Ends the writer once everything handed over is durable.
    pub async fn close(self) {
        drop(self.requests);
        let writer = self.writer.lock().ok().and_then(|mut w| w.take());
        if let Some(writer) = writer {
            let _ = spawn_blocking(move || writer.join()).await;
        }
    }

    /// The bytes on disk, journals included.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the disk fails.
    pub fn disk_space(&self) -> Result<u64, Error> {
        self.shared.db.disk_space().map_err(disk)
    }

    fn refuse_too_large(&self, entries: &[(u32, Entry)]) -> Result<usize, Error> {
        let limit = self.shared.options.max_entry_bytes;
        match entries.iter().map(|(_, e)| e.size()).max() {
            Some(size) if size > limit => Err(Error::new(
                ErrorKind::Refused,
                format!("an entry of {size} bytes is over the log's limit of {limit}"),
            )),
            _ => Ok(entries.iter().map(|(_, e)| e.size()).sum()),
        }
    }
}

impl Shared {
    fn open(options: EmbeddedOptions) -> Result<Self, Error> {
        move_half_made(&options.path)?;
        let db = Database::builder(&options.path)
            .cache_size(16 << 20)
            .max_journaling_size(64 << 20)
            .worker_threads(1)
            .open()
            .map_err(|e| opening(&options.path, &e))?;
        let meta = db.keyspace("meta", keyspace).map_err(disk)?;
        let id = id(&db, &meta)?;
        let mut partitions = BTreeMap::new();
        for topic in LogTopic::ALL {
            for number in 0..options.partitions {
                partitions.insert((topic, number), Partition::open(&db, &meta, topic, number)?);
            }
        }
        Ok(Self { options, id, db, meta, partitions })
    }

    fn partition(&self, topic: LogTopic, number: u32) -> Result<&Partition, Error> {
        self.partitions.get(&(topic, number)).ok_or_else(|| {
            let name = topic.name();
            Error::new(ErrorKind::Setup, format!("{name} has no partition {number}"))
        })
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn partitions(&self) -> u32 {
        self.shared.options.partitions
    }

    async fn append(
        &self,
        topic: LogTopic,
        entries: Vec<(u32, Entry)>,
    ) -> Result<Vec<Position>, Error> {
        let bytes = self.refuse_too_large(&entries)?;
        for (partition, _) in &entries {
            self.shared.partition(topic, *partition)?;
        }
        let bytes = u32::try_from(bytes.min(self.shared.options.max_pending_bytes));
        let permit = Arc::clone(&self.pending_bytes)
            .acquire_many_owned(bytes.unwrap_or(u32::MAX))
            .await
            .map_err(stopped)?;
        let (reply, answer) = oneshot::channel();
        let request = Request { topic, entries, reply, _permit: permit };
        self.requests.send(request).await.map_err(stopped)?;
        answer.await.map_err(stopped)?
    }

    async fn read(
        &self,
        topic: LogTopic,
        partition: u32,
        from: i64,
        limit: ReadLimit,
    ) -> Result<Batch, Error> {
        let mut end = self.shared.partition(topic, partition)?.end();
        if *end.borrow_and_update() <= from && !limit.wait.is_zero() {
            let _ = tokio::time::timeout(limit.wait, end.wait_for(|end| *end > from)).await;
        }
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || shared.partition(topic, partition)?.read(from, limit))
            .await
            .map_err(stopped)?
    }

    async fn bounds(&self, topic: LogTopic, partition: u32) -> Result<Bounds, Error> {
        self.shared.partition(topic, partition)?.bounds()
    }

    async fn cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
    ) -> Result<Option<i64>, Error> {
        let (shared, key) = (Arc::clone(&self.shared), cursor_key(name, topic, partition));
        spawn_blocking(move || number(&shared.meta, &key)).await.map_err(stopped)?
    }

    async fn set_cursor(
        &self,
        name: &str,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error> {
        self.shared.partition(topic, partition)?;
        let (shared, key) = (Arc::clone(&self.shared), cursor_key(name, topic, partition));
        spawn_blocking(move || {
            let mut batch = shared.db.batch().durability(Some(PersistMode::SyncData));
            batch.insert(&shared.meta, key.as_bytes(), offset.to_be_bytes());
            batch.commit().map_err(disk)
        })
        .await
        .map_err(stopped)?
    }

    async fn truncate_before(
        &self,
        topic: LogTopic,
        partition: u32,
        offset: i64,
    ) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || {
            let partition = shared.partition(topic, partition)?;
            partition.truncate_before(&shared.db, &shared.meta, offset).map(|_| ())
        })
        .await
        .map_err(stopped)?
    }

    /// All of them: the embedded log is for one process.
    async fn claim(&self, _group: &str) -> Result<Claim, Error> {
        Ok(Claim::of(0..self.shared.options.partitions))
    }
}

/// Small memtables: there are as many as there are open segments.
fn keyspace() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(8 << 20)
}

fn cursor_key(name: &str, topic: LogTopic, partition: u32) -> String {
    format!("cursor/{}/{partition}/{name}", topic.name())
}

fn number(meta: &Keyspace, key: &str) -> Result<Option<i64>, Error> {
    let value = meta.get(key.as_bytes()).map_err(disk)?;
    Ok(value.and_then(|v| v.as_ref().try_into().ok()).map(i64::from_be_bytes))
}

/// The log's id; a log without one gets it.
fn id(db: &Database, meta: &Keyspace) -> Result<String, Error> {
    if let Some(id) = meta.get("id").map_err(disk)? {
        return Ok(String::from_utf8_lossy(&id).into_owned());
    }
    let id = uuid::Uuid::new_v4().to_string();
    let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(meta, "id", id.as_bytes());
    batch.commit().map_err(disk)?;
    Ok(id)
}

/// A folder without `version` beside a journal is what a crash leaves while fjall first makes it, which
/// refuses such a folder for ever. It may as well be a whole log that has lost that file, so it is moved
/// aside and never deleted. Whoever opens the log then sees by its id that it is another one.
fn move_half_made(path: &Path) -> Result<(), Error> {
    let setup = |e: std::io::Error| {
        Error::new(ErrorKind::Setup, format!("{}: {e} (the embedded log's folder)", path.display()))
    };
    let has_version = path.join("version").try_exists().map_err(setup)?;
    if has_journal(path).map_err(setup)? && !has_version {
        let aside = free_name_beside(path);
        tracing::warn!(
            path = %path.display(), moved_to = %aside.display(),
            "the log folder has a journal and no `version`: its making was interrupted, or the file \
             was lost; it is moved aside, and a new log begins"
        );
        std::fs::rename(path, &aside).map_err(setup)?;
    }
    std::fs::create_dir_all(path).map_err(setup)
}

/// Whether there is a journal of fjall's, which numbers them: `0.jnl`, `1.jnl`.
fn has_journal(path: &Path) -> std::io::Result<bool> {
    if !path.try_exists()? {
        return Ok(false);
    }
    for file in std::fs::read_dir(path)? {
        if file?.path().extension().is_some_and(|e| e == "jnl") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A name that nothing has yet: `log.aside-1` for `log`.
fn free_name_beside(path: &Path) -> PathBuf {
    let named = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".aside-{n}"));
        PathBuf::from(name)
    };
    (1..).map(named).find(|name| !name.exists()).unwrap_or_else(|| named(0))
}

fn opening(path: &Path, error: &fjall::Error) -> Error {
    let path = path.display();
    match error {
        fjall::Error::Locked => Error::new(
            ErrorKind::Setup,
            format!("{path} is in use by another process; the embedded log is for one"),
        ),
        fjall::Error::Io(e) => Error::new(ErrorKind::Setup, format!("{path}: {e}")),
        other => Error::new(ErrorKind::Corrupt, format!("{path} can't be read: {other}")),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn disk(error: fjall::Error) -> Error {
    Error::unavailable(format!("the embedded log's disk: {error}"))
}

fn stopped<E>(_: E) -> Error {
    Error::unavailable("the log is stopping")
}
