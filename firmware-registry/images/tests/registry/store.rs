//! One suite for every store of images: local files and a real S3.

use std::{sync::Arc, time::Duration};

use acuvim_firmware_registry::{ErrorKind, ImageStore, Sample, TrustedImages};
use bytes::Bytes;
use object_store::{ObjectStoreExt as _, aws::AmazonS3Builder, path::Path};
use sha2::{Digest as _, Sha256};

use crate::services::{self, Services};

/// Overwrites the object under a name.
type Change = Box<dyn Fn(&str, Vec<u8>) + Send + Sync>;

/// A store, and a way to change its objects from outside.
struct TestStore {
    store: ImageStore,
    change: Change,
}

fn image(version: &str) -> (Bytes, String) {
    let bytes = Bytes::from(Sample::application(version, 100_000).bytes());
    let hash = hex::encode(Sha256::digest(&bytes));
    (bytes, hash)
}

async fn suite(test: &TestStore) {
    let (bytes, hash) = image("1.2.0");
    let size = bytes.len() as u64;
    let name = test.store.put(bytes.clone()).await.expect("stored");
    let other = test.store.put(bytes.clone()).await.expect("stored");
    assert_ne!(name, other, "names are of our own");
    let mut listed: Vec<String> =
        test.store.list().await.expect("a list").into_iter().map(|stored| stored.name).collect();
    listed.sort();
    let mut both = [name.clone(), other.clone()];
    both.sort();
    assert_eq!(listed, both);
    let (read, stamp) = test.store.get(&name, size).await.expect("read");
    assert_eq!(read, bytes);
    assert_eq!(test.store.stamp(&name).await.expect("a stamp"), stamp);
    let larger = test.store.get(&name, size - 1).await.expect_err("larger than it may be");
    assert_eq!(larger.kind(), ErrorKind::Damaged);
    test.store.delete(&other).await.expect("deleted");
    test.store.delete(&other).await.expect("deleted already");
    let gone = test.store.get(&other, size).await.expect_err("gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);

    let images = TrustedImages::new(test.store.clone(), 1 << 20, Duration::ZERO);
    for _ in 0..3 {
        assert_eq!(images.bytes(&name, &hash, size).await.expect("trusted"), bytes);
    }
    // Changed from outside by one bit, at the same length.
    let mut changed = bytes.to_vec();
    changed[50_000] ^= 1;
    (test.change)(&name, changed);
    let refused = images.bytes(&name, &hash, size).await.expect_err("not what was uploaded");
    assert_eq!(refused.kind(), ErrorKind::Damaged);
    (test.change)(&name, bytes.to_vec());
    assert_eq!(images.bytes(&name, &hash, size).await.expect("as it was"), bytes);
    test.store.delete(&name).await.expect("deleted");
    assert!(images.bytes(&name, &hash, size).await.is_err(), "gone from memory too");
}

#[tokio::test(flavor = "multi_thread")]
async fn local_files() {
    let dir = tempfile::tempdir().expect("dir");
    let url = url::Url::from_directory_path(dir.path().join("firmware")).expect("a URL");
    let folder = dir.path().join("firmware");
    let change = move |name: &str, bytes: Vec<u8>| {
        std::fs::write(folder.join(name), bytes).expect("written");
    };
    let test =
        TestStore { store: ImageStore::open(&url).expect("a store"), change: Box::new(change) };
    suite(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let services = tokio::task::block_in_place(Services::of_run);
    let endpoint = tokio::task::block_in_place(|| services.s3());
    let bucket = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id(services::S3_KEY)
        .with_secret_access_key(services::S3_SECRET)
        .with_bucket_name("acuvim")
        .build()
        .expect("a bucket");
    let (bucket, prefix) =
        (Arc::new(bucket), Path::from(format!("{}/firmware", Services::unique_name())));
    let store = ImageStore::new(Arc::clone(&bucket) as _, prefix.clone());
    let runtime = tokio::runtime::Handle::current();
    let change = move |name: &str, bytes: Vec<u8>| {
        let path = prefix.clone().join(name);
        tokio::task::block_in_place(|| {
            runtime.block_on(bucket.put(&path, bytes.into())).expect("written");
        });
    };
    suite(&TestStore { store, change: Box::new(change) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_and_keeps_the_last_used() {
    let dir = tempfile::tempdir().expect("dir");
    let url = url::Url::from_directory_path(dir.path()).expect("a URL");
    let store = ImageStore::open(&url).expect("a store");
    let mut stored = Vec::new();
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        let (bytes, hash) = image(version);
        stored.push((store.put(bytes.clone()).await.expect("stored"), hash, bytes));
    }
    // Room for two images and a half.
    let images = TrustedImages::new(store, 250_000, Duration::from_secs(3600));
    for (name, hash, bytes) in &stored {
        let asks = (0..50).map(|_| images.bytes(name, hash, bytes.len() as u64));
        for got in futures::future::join_all(asks).await {
            assert_eq!(got.expect("trusted"), *bytes);
        }
        std::fs::remove_file(dir.path().join(name)).expect("removed");
        // Served from memory, without looking at the store again so soon.
        images.bytes(name, hash, bytes.len() as u64).await.expect("in memory");
    }
    assert_eq!(images.held_bytes(), stored[2].2.len() + stored[3].2.len(), "the last two");
    let (name, hash, bytes) = &stored[0];
    assert!(images.bytes(name, hash, bytes.len() as u64).await.is_err(), "let go of");
}
