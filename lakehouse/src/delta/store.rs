//! The object store that the lake lies on: how it is spoken to, and whether it can be trusted with
//! two writers.

use std::{path::PathBuf, sync::Arc, time::Duration};

use deltalake::{
    DeltaResult, DeltaTableBuilder, DeltaTableError,
    logstore::{
        LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig,
        default_logstore, logstore_factories, object_store_factories,
    },
};
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    path::Path,
};
use url::Url;

use crate::{Error, ErrorKind, durable::DurableFiles};

/// The URL schemes of S3.
const S3: [&str; 2] = ["s3", "s3a"];

/// How a lake on S3 is opened: by object_store, which signs requests itself, with keys, region and
/// endpoint from the environment. delta-rs has the same behind a feature that compiles the AWS SDK.
#[derive(Debug, Clone, Copy)]
struct S3Factory;

impl ObjectStoreFactory for S3Factory {
    fn parse_url_opts(&self, url: &Url, _: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let store = AmazonS3Builder::from_env()
            .with_url(url.as_str())
            // A commit is a conditional put, whatever the environment says.
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            // A request is answered or given up within half a minute, so that its caller learns that
            // the store is away.
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), "20s")
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), "5s")
            .with_retry(retries())
            .build()?;
        let path = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
        Ok((Arc::new(store), path))
    }
}

impl LogStoreFactory for S3Factory {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}

/// How a lake of local files is opened.
#[derive(Debug, Clone, Copy)]
struct FilesFactory;

impl ObjectStoreFactory for FilesFactory {
    fn parse_url_opts(&self, url: &Url, _: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let path = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
        Ok((Arc::new(DurableFiles::new()), path))
    }
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            ..BackoffConfig::default()
        },
        max_retries: 5,
        retry_timeout: Duration::from_secs(30),
    }
}

/// Tells delta-rs how the stores that a lake may lie on are opened; it keeps that for the process.
pub(crate) fn register() {
    if let Ok(url) = Url::parse("file://") {
        object_store_factories().insert(url, Arc::new(FilesFactory));
    }
    for scheme in S3 {
        if let Ok(url) = Url::parse(&format!("{scheme}://")) {
            object_store_factories().insert(url.clone(), Arc::new(S3Factory));
            logstore_factories().insert(url, Arc::new(S3Factory));
        }
    }
}

/// The folder of a lake or table of local files.
pub(crate) fn local_folder(url: &Url) -> Option<PathBuf> {
    (url.scheme() == "file").then(|| url.to_file_path().ok()).flatten()
}

/// Syncs the names of a table's commits. A process that was killed may have made one whose name is
/// not on the disk yet, and what it covers is about to be believed.
pub(crate) async fn keep_commits(table: &Url) -> Result<(), Error> {
    let Some(log) = local_folder(table).map(|folder| folder.join("_delta_log")) else {
        return Ok(());
    };
    let kept = tokio::task::spawn_blocking(move || match DurableFiles::new().keep_folder(&log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::new(
            ErrorKind::Setup,
            format!("{} (lake.url) can't be synced: {error}", log.display()),
        )),
        _ => Ok(()),
    });
    kept.await.map_err(|e| Error::new(ErrorKind::Internal, format!("lake: {e}")))?
}

pub(crate) fn is_s3(url: &Url) -> bool {
    S3.contains(&url.scheme())
}

/// Tries whether the store refuses to overwrite: on one that does not, two commits of one version
/// could both seem to succeed, and one be gone.
pub(crate) async fn check_conditional_puts(table: &Url) -> Result<(), Error> {
    let away = |e: DeltaTableError| Error::from(e).at(table);
    let log_store =
        DeltaTableBuilder::from_url(table.clone()).map_err(away)?.build_storage().map_err(away)?;
    let store = log_store.object_store(None);
    let probe = Path::from(format!("_acuvim_probe/{}", uuid::Uuid::new_v4()));
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let put = async || store.put_opts(&probe, PutPayload::from_static(b"probe"), create()).await;
    put().await.map_err(|e| Error::from(e).at(table))?;
    let again = put().await;
    // Left behind, it is in nobody's way.
    let _ = store.delete(&probe).await;
    match again {
        Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(Error::from(error).at(table)),
        Ok(_) => Err(Error::new(
            ErrorKind::Setup,
            format!(
                "{table} (lake.url) overwrites what a conditional put must not: commits would be \
                 lost there; use a store that honours If-None-Match"
            ),
        )),
    }
}

/// What a store's error means: rights and names are for a person, the rest passes.
pub(crate) fn kind(error: &object_store::Error) -> ErrorKind {
    use object_store::Error as E;
    match error {
        E::PermissionDenied { .. }
        | E::Unauthenticated { .. }
        | E::NotImplemented { .. }
        | E::NotSupported { .. }
        | E::InvalidPath { .. }
        | E::UnknownConfigurationKey { .. } => ErrorKind::Setup,
        // The bucket: what we ask for by name is there.
        E::NotFound { source, .. } if source.to_string().contains("NoSuchBucket") => {
            ErrorKind::Setup
        }
        _ => ErrorKind::Unavailable,
    }
}
