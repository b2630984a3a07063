//! The object store for images: local files or S3. Objects are named by us, never by an upload.

use std::{
    io::ErrorKind::{InvalidInput, Unsupported},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use object_store::{
    ObjectStore, ObjectStoreExt as _, PutMode, aws::AmazonS3Builder, local::LocalFileSystem,
    path::Path,
};
use url::Url;
use uuid::Uuid;

use crate::error::{Error, ErrorKind};

/// Identifies one version of a stored object: it differs once the object was overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    modified: DateTime<Utc>,
    etag: Option<String>,
}

/// An entry of [`ImageStore::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The name of the object.
    pub name: String,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

/// The store for images. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ImageStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The folder of a local store, whose files must be synced to survive a power cut.
    folder: Option<PathBuf>,
}

impl ImageStore {
    /// Opens the store at a `file://` or `s3://` URL. S3 credentials and region come from the
    /// environment, as for the lake.
    ///
    /// # Errors
    /// If the URL is invalid, or the store can't be set up from it.
    pub fn open(url: &Url) -> Result<Self, Error> {
        let setup = |e: String| Error::new(ErrorKind::Setup, format!("firmware.url: {e}"));
        let failed = |path: &std::path::Path, e: std::io::Error| {
            Error::caused(ErrorKind::Setup, &format!("firmware.url: {}", path.display()), e)
        };
        match url.scheme() {
            "file" => {
                let folder =
                    url.to_file_path().map_err(|()| setup(format!("{url} is not a path")))?;
                std::fs::create_dir_all(&folder).map_err(|e| failed(&folder, e))?;
                sync_parents(&folder);
                let store = LocalFileSystem::new_with_prefix(&folder)?;
                let store = Self::new(Arc::new(store), Path::default());
                Ok(Self { folder: Some(folder), ..store })
            }
            "s3" | "s3a" => {
                let bucket = url.host_str().ok_or_else(|| setup(format!("{url} has no bucket")))?;
                let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build()?;
                let prefix = Path::from_url_path(url.path())
                    .map_err(|e| Error::caused(ErrorKind::Setup, "firmware.url", e))?;
                Ok(Self::new(Arc::new(store), prefix))
            }
            other => Err(setup(format!("{other}: is neither file nor s3"))),
        }
    }

    /// Uses a store that is already open, below a prefix.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix, folder: None }
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    /// Stores an image under a new name, and returns the name. Either the whole object is there
    /// afterwards, durably, or none of it.
    ///
    /// # Errors
    /// If the store can't be reached or refuses the object.
    pub async fn put(&self, bytes: Bytes) -> Result<String, Error> {
        // Ordered by time, which helps whoever has to look at the bucket by hand.
        let name = format!("{}.bin", Uuid::now_v7());
        // Create and not overwrite: an object that exists under the name is somebody else's.
        self.store.put_opts(&self.path(&name), bytes.into(), PutMode::Create.into()).await?;
        if let Some(folder) = &self.folder {
            let lost = |e: std::io::Error| {
                Error::caused(ErrorKind::Unavailable, "the image could not be synced to disk", e)
            };
            let file = tokio::fs::File::open(folder.join(&name)).await.map_err(lost)?;
            file.sync_all().await.map_err(lost)?;
            let names = tokio::fs::File::open(folder).await.map_err(lost)?;
            match names.sync_all().await {
                // Some file systems don't support syncing a folder, and need no sync of it.
                Err(e) if matches!(e.kind(), InvalidInput | Unsupported) => {}
                kept => kept.map_err(lost)?,
            }
        }
        Ok(name)
    }

    /// Reads a whole object of at most this many bytes, with its stamp.
    ///
    /// # Errors
    /// If there is no such object, it is larger, or the store can't be reached.
    pub async fn get(&self, name: &str, max_bytes: u64) -> Result<(Bytes, Stamp), Error> {
        let found = self.store.get(&self.path(name)).await?;
        // Before the body is read into memory.
        if found.meta.size > max_bytes {
            return Err(Error::new(
                ErrorKind::Damaged,
                "the stored image is larger than the uploaded one",
            ));
        }
        let stamp = stamp(&found.meta);
        Ok((found.bytes().await?, stamp))
    }

    /// The current stamp of an object.
    ///
    /// # Errors
    /// If there is no such object, or the store can't be reached.
    pub async fn stamp(&self, name: &str) -> Result<Stamp, Error> {
        Ok(stamp(&self.store.head(&self.path(name)).await?))
    }

    /// Deletes an object. Idempotent: deleting a missing object succeeds.
    ///
    /// # Errors
    /// If the store can't be reached.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// All objects of the store, including any that others keep under the same prefix.
    ///
    /// # Errors
    /// If the store can't be reached.
    pub async fn list(&self) -> Result<Vec<Stored>, Error> {
        let prefix = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let found: Vec<_> = self.store.list(prefix).try_collect().await?;
        let stored = found.into_iter().filter_map(|meta| {
            let name = meta.location.filename()?.to_owned();
            Some(Stored { name, modified: meta.last_modified })
        });
        Ok(stored.collect())
    }
}

/// Syncs the parents of a folder that may be new, so that its entry survives a power cut. A parent that
/// can't be opened is skipped: without the right to read it we created nothing in it.
fn sync_parents(folder: &std::path::Path) {
    for above in folder.ancestors().skip(1) {
        let _ = std::fs::File::open(above).and_then(|above| above.sync_all());
    }
}

fn stamp(meta: &object_store::ObjectMeta) -> Stamp {
    Stamp { size: meta.size, modified: meta.last_modified, etag: meta.e_tag.clone() }
}

#[cfg(test)]
mod tests;
