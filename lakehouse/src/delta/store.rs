//! The object store that the lake lies on: how it is opened, and whether two writers are safe on it.

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

use super::durable::DurableFiles;
use crate::error::{Error, ErrorKind};

/// The URL schemes of S3.
const S3: [&str; 2] = ["s3", "s3a"];

/// Opens stores on S3 with object_store, which signs requests with keys, region and endpoint from the
/// environment. delta-rs offers the same behind a feature that compiles the AWS SDK.
#[derive(Debug, Clone, Copy)]
struct S3Factory;

impl ObjectStoreFactory for S3Factory {
    fn parse_url_opts(&self, url: &Url, _: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let store = AmazonS3Builder::from_env()
            .with_url(url.as_str())
            // Commits rely on conditional puts, so the environment must not switch them off.
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            // Together with the bounded retries, so that the caller learns within a minute that the store
            // is away.
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

/// Opens stores of local files.
#[derive(Debug, Clone, Copy)]
struct FilesFactory;

impl ObjectStoreFactory for FilesFactory {
    fn parse_url_opts(&self, url: &Url, _: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let path = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
        Ok((Arc::new(DurableFiles::new()), path))
    }
}

fn retries() -> RetryConfig {
    // Short at first: most failures are over within a second. Bounded, since every caller has a retry of
    // its own that also reports the store as away.
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

/// Registers both factories with delta-rs, which keeps them in process-wide maps.
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

/// The folder of a `file://` URL.
pub(super) fn local_folder(url: &Url) -> Option<PathBuf> {
    (url.scheme() == "file").then(|| url.to_file_path().ok()).flatten()
}

/// Syncs the directory entries of a table's commits.
///
/// A process that was killed may have written a commit whose entry is not on the disk yet. The offsets
/// in it are about to be trusted, so it must not disappear any more.
pub(super) async fn sync_commits(table: &Url) -> Result<(), Error> {
    let Some(log) = local_folder(table).map(|folder| folder.join("_delta_log")) else {
        return Ok(());
    };
    let work = move || match DurableFiles::new().sync_folder(&log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let text = format!("{} (lake.url) can't be synced: {error}", log.display());
            Err(Error::new(ErrorKind::Setup, text).caused_by(error))
        }
        _ => Ok(()),
    };
    off_thread(work).await
}

/// Runs work that blocks on the disk.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let panicked = |e: tokio::task::JoinError| {
        Error::new(ErrorKind::Internal, format!("lake: {e}")).caused_by(e)
    };
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

pub(super) fn is_s3(url: &Url) -> bool {
    S3.contains(&url.scheme())
}

/// Checks that a conditional put fails where an object exists. On a store that overwrites it instead,
/// two commits of one version could both succeed, and the first would be lost.
pub(super) async fn check_conditional_puts(table: &Url) -> Result<(), Error> {
    let away = |e: DeltaTableError| Error::from(e).at(table);
    let log_store =
        DeltaTableBuilder::from_url(table.clone()).map_err(away)?.build_storage().map_err(away)?;
    let store = log_store.object_store(None);
    let probe = Path::from(format!("_acuvim_probe/{}", uuid::Uuid::new_v4()));
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let put = async || store.put_opts(&probe, PutPayload::from_static(b"probe"), create()).await;
    put().await.map_err(|e| first_put(e).at(table))?;
    let again = put().await;
    // A leftover is harmless, so a failure to delete is ignored.
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

/// A put creates its object, so all that can be missing is the bucket.
fn first_put(error: object_store::Error) -> Error {
    let no_bucket = matches!(error, object_store::Error::NotFound { .. });
    let error = Error::from(error);
    match no_bucket {
        true => error.of_kind(ErrorKind::Setup),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_put_that_finds_nothing_means_a_missing_bucket() {
        let missing =
            || object_store::Error::NotFound { path: "probe".to_owned(), source: "404".into() };
        assert_eq!(first_put(missing()).kind(), ErrorKind::Setup);
        assert_eq!(Error::from(missing()).kind(), ErrorKind::Unavailable);
        let away = object_store::Error::Generic { store: "S3", source: "timeout".into() };
        assert_eq!(first_put(away).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn only_file_urls_have_a_folder() {
        let folder = |url: &str| local_folder(&Url::parse(url).expect("a URL"));
        assert_eq!(folder("file:///data/my%20lake/"), Some(PathBuf::from("/data/my lake/")));
        assert_eq!(folder("s3://bucket/lake"), None);
        assert_eq!(folder("file://host/data"), None, "of another host");
    }

    #[test]
    fn both_schemes_of_s3_are_known() {
        let of = |url: &str| is_s3(&Url::parse(url).expect("a URL"));
        assert!(of("s3://bucket/lake") && of("s3a://bucket/lake"));
        assert!(!of("file:///s3") && !of("gs://bucket"));
    }

    #[tokio::test]
    async fn commits_are_synced_where_there_are_any() {
        let dir = tempfile::tempdir().expect("dir");
        let table = Url::from_directory_path(dir.path()).expect("url");
        sync_commits(&table).await.expect("a table that does not exist yet");
        let remote = Url::parse("s3://bucket/lake").expect("url");
        sync_commits(&remote).await.expect("puts there are durable");
        std::fs::create_dir_all(dir.path().join("_delta_log")).expect("folder");
        sync_commits(&table).await.expect("a table without commits");
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_not_the_end() {
        let error = off_thread::<()>(|| panic!("on purpose")).await.expect_err("it panicked");
        assert_eq!(error.kind(), ErrorKind::Internal);
    }

    #[tokio::test]
    async fn local_files_refuse_a_second_conditional_put() {
        register();
        let dir = tempfile::tempdir().expect("dir");
        let table = Url::from_directory_path(dir.path()).expect("url");
        check_conditional_puts(&table).await.expect("they do");
        let left = std::fs::read_dir(dir.path().join("_acuvim_probe")).expect("folder").count();
        assert_eq!(left, 0, "the probe is deleted");
    }
}
