//! Local files that survive a power cut: a write is answered only once its bytes and its name are on
//! the disk. object_store's own store of local files leaves that to the kernel, which takes half a
//! minute for it, while the log may let go of records as soon as a commit has their rows.

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

/// What makes files stay.
pub trait Disk: Send + Sync + std::fmt::Debug + 'static {
    /// Returns once the bytes of a file, or the entries of a folder, would survive a power cut.
    ///
    /// # Errors
    /// When the disk says that they might not.
    fn sync(&self, path: &FilePath) -> io::Result<()>;
}

/// The disk that there is.
#[derive(Debug)]
struct RealDisk;

impl Disk for RealDisk {
    fn sync(&self, path: &FilePath) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

static DISK: OnceLock<Arc<dyn Disk>> = OnceLock::new();

/// Puts another disk under the local files of this process, before its first lake is opened; answers
/// whether it came early enough. For tests that cut the power.
pub fn put_under(disk: Arc<dyn Disk>) -> bool {
    DISK.set(disk).is_ok()
}

/// Local files, each synced with the folders that lead to it.
#[derive(Debug, Clone)]
pub(crate) struct DurableFiles {
    files: LocalFileSystem,
    disk: Arc<dyn Disk>,
    /// Folders that were synced up to the root: their own entries are on the disk. A folder is put
    /// here by who has synced it, not by who has made it, which may be a process that was killed.
    rooted: Arc<Mutex<HashSet<PathBuf>>>,
}

impl DurableFiles {
    pub fn new() -> Self {
        let disk = Arc::clone(DISK.get_or_init(|| Arc::new(RealDisk)));
        Self { files: LocalFileSystem::new(), disk, rooted: Arc::default() }
    }

    /// Syncs what a folder names, and the folder's own place.
    pub fn keep_folder(&self, folder: &FilePath) -> io::Result<()> {
        sync_folder(self.disk.as_ref(), folder)?;
        let mut synced = Vec::new();
        let mut at = folder;
        while let Some(parent) = at.parent().filter(|_| !self.is_rooted(at)) {
            match sync_folder(self.disk.as_ref(), parent) {
                Ok(()) => {}
                // Who may not read a folder has made none in it.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
            synced.push(at.to_path_buf());
            at = parent;
        }
        self.rooted.lock().unwrap_or_else(PoisonError::into_inner).extend(synced);
        Ok(())
    }

    fn is_rooted(&self, folder: &FilePath) -> bool {
        self.rooted.lock().unwrap_or_else(PoisonError::into_inner).contains(folder)
    }

    fn keep_name(&self, path: &FilePath) -> io::Result<()> {
        path.parent().map_or(Ok(()), |folder| self.keep_folder(folder))
    }

    /// Syncs a file that has its name already.
    fn keep(&self, path: &FilePath) -> io::Result<()> {
        self.disk.sync(path)?;
        self.keep_name(path)
    }

    /// Writes a file whole: under its name there is nothing or all of it, also after a power cut.
    fn write(&self, path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
        let (mut file, staged) = stage(path)?;
        let written = payload.iter().try_for_each(|part| file.write_all(part));
        drop(file);
        let named = written.and_then(|()| self.disk.sync(&staged)).and_then(|()| match create {
            // Unlike a rename, a link replaces nothing.
            true => std::fs::hard_link(&staged, path),
            false => std::fs::rename(&staged, path),
        });
        if create || named.is_err() {
            // Left behind, it is in nobody's way: no listing shows it.
            let _ = std::fs::remove_file(&staged);
        }
        named?;
        self.keep_name(path)
    }
}

/// Some file systems keep their folders by themselves, and refuse to be asked for it.
fn sync_folder(disk: &dyn Disk, folder: &FilePath) -> io::Result<()> {
    match disk.sync(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}

/// A new file beside another, in the shape that object_store uses for uploads and never lists.
fn stage(path: &FilePath) -> io::Result<(File, PathBuf)> {
    let mut number = 1_u64;
    loop {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        let staged = PathBuf::from(staged);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Ok(file) => return Ok((file, staged)),
            Err(error) => match (error.kind(), path.parent()) {
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

/// Runs what waits for the disk where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
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
            // Files have neither; it says so.
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
        // What comes back after a power cut is in no version, and is removed again.
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
        blocking(move || store.keep(&path).map_err(|e| failed(&path, e))).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let old = self.files.path_to_filesystem(from)?;
        let path = self.files.path_to_filesystem(to)?;
        self.files.rename_opts(from, to, options).await?;
        let store = self.clone();
        blocking(move || {
            // The new name first: in between, the file may have both, but never none.
            let kept = store.keep(&path).and_then(|()| store.keep_name(&old));
            kept.map_err(|e| failed(&path, e))
        })
        .await
    }
}

/// A file that comes in parts. No commit names it before it is complete, so it may have its name a
/// moment before it is on the disk.
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
        blocking(move || store.keep(&path).map_err(|e| failed(&path, e))).await?;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_created_is_never_replaced_and_no_half_made_file_is_listed() {
        let dir = tempfile::tempdir().expect("dir");
        let root = Path::from_absolute_path(dir.path()).expect("path");
        let (store, path) = (DurableFiles::new(), root.join("a").join("b.json"));
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&path, "one".into(), create()).await.expect("put");
        let again = store.put_opts(&path, "two".into(), create()).await.expect_err("is there");
        assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
        let read = async || store.get(&path).await.expect("get").bytes().await.expect("bytes");
        assert_eq!(read().await, "one");
        store.put(&path, "three".into()).await.expect("put");
        assert_eq!(read().await, "three");
        let files = std::fs::read_dir(dir.path().join("a")).expect("folder").count();
        assert_eq!(files, 1, "nothing is left of what was refused");
    }
}
