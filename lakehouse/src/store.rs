//! The object store that the lake lies on: how it is spoken to, and whether it can be trusted with
//! two writers.

use std::collections::HashMap;

use deltalake::{DeltaTableBuilder, DeltaTableError};
use object_store::{ObjectStoreExt as _, PutMode, PutOptions, PutPayload, path::Path};
use url::Url;

use crate::{Error, ErrorKind};

/// Options for every store, as delta-rs names them: a question is answered or given up within half
/// a minute, so that who waits for it learns that the store is away.
const BOUNDS: [(&str, &str); 6] = [
    ("timeout", "20s"),
    ("connect_timeout", "5s"),
    ("max_retries", "5"),
    ("retry_timeout", "30s"),
    ("backoff_config.init_backoff", "100ms"),
    ("backoff_config.max_backoff", "5s"),
];

/// Options for S3, whatever the environment says: a commit is a conditional put, or it is none.
const S3: [(&str, &str); 2] =
    [("aws_conditional_put", "etag"), ("AWS_S3_ALLOW_UNSAFE_RENAME", "false")];

/// The options that a lake at this URL is opened with; what is given goes before ours.
pub(crate) fn options(url: &Url, given: &HashMap<String, String>) -> HashMap<String, String> {
    if !is_s3(url) {
        return given.clone();
    }
    deltalake::aws::register_handlers(None);
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut all: HashMap<String, String> = BOUNDS.into_iter().map(pair).collect();
    all.extend(given.clone());
    all.extend(S3.into_iter().map(pair));
    all
}

pub(crate) fn is_s3(url: &Url) -> bool {
    ["s3", "s3a"].contains(&url.scheme())
}

/// Tries whether the store refuses to overwrite: on one that does not, two commits of one version
/// could both seem to succeed, and one be gone.
pub(crate) async fn check_conditional_puts(
    table: &Url,
    options: &HashMap<String, String>,
) -> Result<(), Error> {
    let away = |e: DeltaTableError| Error::from(e).at(table);
    let log_store = DeltaTableBuilder::from_url(table.clone())
        .map_err(away)?
        .with_storage_options(options.clone())
        .build_storage()
        .map_err(away)?;
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
