//! An object store over local files that survives a power cut: a write returns only when the bytes of
//! the file and its directory entry are on the disk.
//!
//! object_store's `LocalFileSystem` leaves syncing to the kernel, which may take half a minute. The log
//! may delete records as soon as a commit covers them, so the commit must not be lost after that.

use std::{
    collections::HashSet,
    fmt::{Display, Formatter},
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
    UploadPart, local::LocalFileSystem, path::Path,
};

/// Syncs files. Tests that simulate power cuts replace it.
pub trait Disk: Send + Sync + std::fmt::Debug + 'static {
    /// Returns when the bytes of a file, or the entries of a folder, would survive a power cut.
    ///
    /// # Errors
    /// When the disk reports that they might not.
    fn sync(&self, path: &FilePath) -> io::Result<()>;
}

#[derive(Debug)]
struct RealDisk;

impl Disk for RealDisk {
    fn sync(&self, path: &FilePath) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

static DISK: OnceLock<Arc<dyn Disk>> = OnceLock::new();

/// Replaces the disk below the local files of this process. Returns false if a lake was opened before.
/// For tests that simulate power cuts.
pub fn put_under(disk: Arc<dyn Disk>) -> bool {
    DISK.set(disk).is_ok()
}

/// Local files, each synced together with the folders on its path.
#[derive(Debug, Clone)]
pub(crate) struct DurableFiles {
    files: LocalFileSystem,
    disk: Arc<dyn Disk>,
    /// Folders whose own directory entries are synced up to the root, so that they need no further
    /// syncs. Creating a folder does not add it here: its creator may have been killed before syncing.
    synced_folders: Arc<Mutex<HashSet<PathBuf>>>,
}

impl DurableFiles {
    pub fn new() -> Self {
        let disk = Arc::clone(DISK.get_or_init(|| Arc::new(RealDisk)));
        Self { files: LocalFileSystem::new(), disk, synced_folders: Arc::default() }
    }

    /// Syncs the entries of a folder, and the entries that lead to it.
    pub fn sync_folder(&self, folder: &FilePath) -> io::Result<()> {
        sync_entries(self.disk.as_ref(), folder)?;
        let mut synced = Vec::new();
        let mut at = folder;
        // Every folder on the path has an entry in its parent, and any of them may be new.
        while let Some(parent) = at.parent().filter(|_| !self.is_synced(at)) {
            match sync_entries(self.disk.as_ref(), parent) {
                Ok(()) => {}
                // A process without the right to read a folder cannot have created one in it.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
            synced.push(at.to_path_buf());
            at = parent;
        }
        self.synced_folders.lock().unwrap_or_else(PoisonError::into_inner).extend(synced);
        Ok(())
    }

    fn is_synced(&self, folder: &FilePath) -> bool {
        self.synced_folders.lock().unwrap_or_else(PoisonError::into_inner).contains(folder)
    }

    fn sync_name(&self, path: &FilePath) -> io::Result<()> {
        path.parent().map_or(Ok(()), |folder| self.sync_folder(folder))
    }

    /// Syncs a file that already has its final name.
    fn sync_file(&self, path: &FilePath) -> io::Result<()> {
        self.disk.sync(path)?;
        self.sync_name(path)
    }

    /// Writes a file atomically: even after a power cut it is either complete or absent.
    fn write(&self, path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
        let (mut file, staged) = stage(path)?;
        let written = payload.iter().try_for_each(|part| file.write_all(part));
        drop(file);
        let named = written.and_then(|()| self.disk.sync(&staged)).and_then(|()| match create {
            // Unlike a rename, a link fails if the name is taken.
            true => std::fs::hard_link(&staged, path),
            false => std::fs::rename(&staged, path),
        });
        if create || named.is_err() {
            // A leftover is harmless: no listing shows it.
            let _ = std::fs::remove_file(&staged);
        }
        named?;
        self.sync_name(path)
    }
}

/// Some file systems persist directory entries by themselves and reject the request to sync them.
fn sync_entries(disk: &dyn Disk, folder: &FilePath) -> io::Result<()> {
    match disk.sync(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}

/// Creates a temporary file beside another, named as object_store names uploads, which it never lists.
fn stage(path: &FilePath) -> io::Result<(File, PathBuf)> {
    let mut number = 1_u64;
    loop {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        let staged = PathBuf::from(staged);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Ok(file) => return Ok((file, staged)),
            Err(error) => match (error.kind(), path.parent()) {
                // The leftover of a process that was killed, or another write of this one.
                (ErrorKind::AlreadyExists, _) => number += 1,
                (ErrorKind::NotFound, Some(folder)) => std::fs::create_dir_all(folder)?,
                _ => return Err(error),
            },
        }
    }
}

fn failed(path: &FilePath, error: io::Error) -> object_store::Error {
    let source = Box::new(error);
    let path = path.display().to_string();
    match source.kind() {
        ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source },
        ErrorKind::NotFound => object_store::Error::NotFound { path, source },
        _ => object_store::Error::Generic { store: "local files", source },
    }
}

/// Runs work that waits for the disk on a thread where it blocks no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        // Outside of a runtime there are no other tasks to block.
        Err(_) => work(),
    }
}

impl Display for DurableFiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "DurableFiles({})", self.files)
    }
}

#[async_trait]
impl ObjectStore for DurableFiles {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) || !opts.attributes.is_empty() {
            // Local files support neither. The inner store reports that.
            return self.files.put_opts(location, payload, opts).await;
        }
        let path = self.files.path_to_filesystem(location)?;
        let (store, create) = (self.clone(), matches!(opts.mode, PutMode::Create));
        blocking(move || store.write(&path, &payload, create).map_err(|e| failed(&path, e)))
            .await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.files.path_to_filesystem(location)?;
        let upload = self.files.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload { upload, path, store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        // Not synced: a file that reappears after a power cut belongs to no version, and cleaning
        // deletes it again.
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let path = self.files.path_to_filesystem(to)?;
        self.files.copy_opts(from, to, options).await?;
        let store = self.clone();
        blocking(move || store.sync_file(&path).map_err(|e| failed(&path, e))).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let old = self.files.path_to_filesystem(from)?;
        let path = self.files.path_to_filesystem(to)?;
        self.files.rename_opts(from, to, options).await?;
        let store = self.clone();
        blocking(move || {
            // The new name first: the file may have both names in between, but never none.
            let synced = store.sync_file(&path).and_then(|()| store.sync_name(&old));
            synced.map_err(|e| failed(&path, e))
        })
        .await
    }
}

/// A file that is uploaded in parts. No commit refers to it before `complete` returns, so its name may
/// appear before its bytes are synced.
#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    path: PathBuf,
    store: DurableFiles,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.upload.complete().await?;
        let (store, path) = (self.store.clone(), self.path.clone());
        blocking(move || store.sync_file(&path).map_err(|e| failed(&path, e))).await?;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests;
