//! Where images are kept: local files or S3, under names of our own.

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

use crate::{Error, ErrorKind};

/// What tells whether a stored object is still the one that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    modified: DateTime<Utc>,
    etag: Option<String>,
}

/// An object and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

/// The images' store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Of local files: what is written there must be told to stay.
    folder: Option<PathBuf>,
}

impl ImageStore {
    /// Opens the store at a `file://` or `s3://` URL; S3's keys and region come from the environment,
    /// as the lake's do.
    ///
    /// # Errors
    /// When the URL or what it needs can't be.
    pub fn open(url: &Url) -> Result<Self, Error> {
        let setup = |e: String| Error::new(ErrorKind::Setup, format!("firmware.url: {e}"));
        match url.scheme() {
            "file" => {
                let folder = url.to_file_path().map_err(|()| setup(format!("{url} is no path")))?;
                std::fs::create_dir_all(&folder)
                    .map_err(|e| setup(format!("{}: {e}", folder.display())))?;
                keep_place(&folder);
                let store = LocalFileSystem::new_with_prefix(&folder)?;
                let store = Self::new(Arc::new(store), Path::default());
                Ok(Self { folder: Some(folder), ..store })
            }
            "s3" | "s3a" => {
                let bucket = url.host_str().ok_or_else(|| setup(format!("{url} has no bucket")))?;
                let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build()?;
                let prefix = Path::from_url_path(url.path()).map_err(|e| setup(e.to_string()))?;
                Ok(Self::new(Arc::new(store), prefix))
            }
            other => Err(setup(format!("{other}: is neither file nor s3"))),
        }
    }

    /// A store that is open already, below a prefix.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { store, prefix, folder: None }
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    /// Stores an image under a name that nothing else has. It is there as a whole or not at all, and
    /// stays over a power cut.
    ///
    /// # Errors
    /// When the store can't take it.
    pub async fn put(&self, bytes: Bytes) -> Result<String, Error> {
        let name = format!("{}.bin", Uuid::now_v7());
        self.store.put_opts(&self.path(&name), bytes.into(), PutMode::Create.into()).await?;
        if let Some(folder) = &self.folder {
            let lost = |e: std::io::Error| {
                Error::new(ErrorKind::Unavailable, format!("the image can't be kept: {e}"))
            };
            let file = tokio::fs::File::open(folder.join(&name)).await.map_err(lost)?;
            file.sync_all().await.map_err(lost)?;
            let names = tokio::fs::File::open(folder).await.map_err(lost)?;
            match names.sync_all().await {
                // Some file systems keep their folders by themselves, and refuse to be asked for it.
                Err(e) if matches!(e.kind(), InvalidInput | Unsupported) => {}
                kept => kept.map_err(lost)?,
            }
        }
        Ok(name)
    }

    /// Reads an object whole, with what tells whether it changes; one that is larger than it may be is
    /// not read.
    ///
    /// # Errors
    /// When it is not there, or is too large, or the store is away.
    pub async fn get(&self, name: &str, most: u64) -> Result<(Bytes, Stamp), Error> {
        let found = self.store.get(&self.path(name)).await?;
        if found.meta.size > most {
            return Err(Error::new(ErrorKind::Damaged, "the stored image has grown"));
        }
        let stamp = stamp(&found.meta);
        Ok((found.bytes().await?, stamp))
    }

    /// What tells whether an object changes.
    ///
    /// # Errors
    /// When it is not there, or the store is away.
    pub async fn stamp(&self, name: &str) -> Result<Stamp, Error> {
        Ok(stamp(&self.store.head(&self.path(name)).await?))
    }

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Every object there is.
    ///
    /// # Errors
    /// When the store is away.
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

/// A folder that was just made must be there after a power cut, and those above it. Who may not read one
/// of them has made none in it.
fn keep_place(folder: &std::path::Path) {
    for above in folder.ancestors().skip(1) {
        let _ = std::fs::File::open(above).and_then(|above| above.sync_all());
    }
}

fn stamp(meta: &object_store::ObjectMeta) -> Stamp {
    Stamp { size: meta.size, modified: meta.last_modified, etag: meta.e_tag.clone() }
}
