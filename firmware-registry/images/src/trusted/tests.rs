//! The cache over a store in a folder, which the tests change behind its back.

use std::path::Path;

use url::Url;

use super::*;

struct Test {
    root: tempfile::TempDir,
    images: TrustedImages,
}

/// An image in the store, and what was recorded of it at its upload.
#[derive(Clone)]
struct Uploaded {
    name: String,
    sha256: String,
    bytes: Bytes,
}

impl Test {
    fn new(max_bytes: usize, recheck: Duration) -> Self {
        let root = tempfile::tempdir().expect("dir");
        let url = Url::from_directory_path(root.path().join("images")).expect("a URL");
        let store = ImageStore::open(&url).expect("a store");
        Self { root, images: TrustedImages::new(store, max_bytes, recheck) }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.root.path().join("images")
    }

    async fn upload(&self, length: usize, byte: u8) -> Uploaded {
        let bytes = Bytes::from(vec![byte; length]);
        let name = self.images.store().put(bytes.clone()).await.expect("stored");
        Uploaded { name, sha256: hex::encode(Sha256::digest(&bytes)), bytes }
    }

    async fn get(&self, image: &Uploaded) -> Result<Bytes, Error> {
        self.images.bytes(&image.name, &image.sha256, image.bytes.len() as u64).await
    }

    /// The kind of error, if the image is not served exactly as it was uploaded.
    async fn fault(&self, image: &Uploaded) -> Option<ErrorKind> {
        match self.get(image).await {
            Ok(bytes) => {
                assert_eq!(bytes, image.bytes);
                None
            }
            Err(error) => Some(error.kind()),
        }
    }
}

fn remove(folder: &Path, image: &Uploaded) {
    std::fs::remove_file(folder.join(&image.name)).expect("removed");
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_image_larger_than_the_memory_is_served_and_pushes_no_other_out() {
    let test = Test::new(1000, LONG);
    let (small, large) = (test.upload(600, 1).await, test.upload(1001, 2).await);
    for _ in 0..2 {
        assert_eq!(test.fault(&small).await, None);
        assert_eq!(test.fault(&large).await, None);
        assert_eq!(test.images.held_bytes(), 600);
    }
    remove(&test.folder(), &small);
    assert_eq!(test.fault(&small).await, None, "it is still in memory");
    let exact = test.upload(1000, 3).await;
    assert_eq!(test.fault(&exact).await, None);
    assert_eq!(test.images.held_bytes(), 1000, "one that just fits takes all of it");
}

#[tokio::test]
async fn the_image_that_was_used_least_recently_makes_room() {
    let test = Test::new(250, LONG);
    let [one, two, three] =
        [test.upload(100, 1).await, test.upload(100, 2).await, test.upload(100, 3).await];
    for image in [&one, &two, &one, &three] {
        assert_eq!(test.fault(image).await, None);
    }
    assert_eq!(test.images.held_bytes(), 200);
    for image in [&one, &two, &three] {
        remove(&test.folder(), image);
    }
    assert_eq!((test.fault(&one).await, test.fault(&three).await), (None, None));
    assert_eq!(test.fault(&two).await, Some(ErrorKind::NotFound));
}

/// Devices go on with their downloads while the store is away.
#[tokio::test]
async fn a_store_that_is_away_keeps_nobody_from_a_verified_image() {
    let test = Test::new(1000, Duration::ZERO);
    let (held, unread) = (test.upload(100, 1).await, test.upload(100, 2).await);
    assert_eq!(test.fault(&held).await, None);
    std::fs::rename(test.folder(), test.root.path().join("away")).expect("moved");
    std::fs::write(test.folder(), "not a folder").expect("written");
    for _ in 0..3 {
        assert_eq!(test.fault(&held).await, None);
    }
    assert_eq!(test.fault(&unread).await, Some(ErrorKind::Unavailable));
    std::fs::remove_file(test.folder()).expect("removed");
    std::fs::rename(test.root.path().join("away"), test.folder()).expect("moved back");
    assert_eq!(test.fault(&unread).await, None);
}

/// A release that was deleted must not be handed out from memory.
#[tokio::test]
async fn an_image_that_is_gone_from_the_store_is_gone_from_memory() {
    let test = Test::new(1000, Duration::ZERO);
    let image = test.upload(100, 1).await;
    assert_eq!(test.fault(&image).await, None);
    remove(&test.folder(), &image);
    assert_eq!(test.fault(&image).await, Some(ErrorKind::NotFound));
    assert_eq!(test.images.held_bytes(), 0);
}

#[tokio::test]
async fn a_changed_image_is_refused_and_not_kept() {
    let test = Test::new(1000, Duration::ZERO);
    let image = test.upload(100, 1).await;
    let path = test.folder().join(&image.name);
    for wrong in [vec![2_u8; 100], vec![1; 99], vec![1; 101], vec![]] {
        std::fs::write(&path, &wrong).expect("written");
        let fault = test.fault(&image).await;
        assert_eq!(fault, Some(ErrorKind::Damaged), "{} bytes", wrong.len());
        assert_eq!(test.images.held_bytes(), 0);
    }
    std::fs::write(&path, &image.bytes).expect("written");
    assert_eq!(test.fault(&image).await, None, "it was restored from a backup");
}

#[tokio::test]
async fn within_the_recheck_the_store_is_not_asked() {
    let test = Test::new(1000, LONG);
    let image = test.upload(100, 1).await;
    assert_eq!(test.fault(&image).await, None);
    std::fs::write(test.folder().join(&image.name), "changed").expect("written");
    assert_eq!(test.fault(&image).await, None);
    test.images.forget(&image.name);
    test.images.forget("of nothing");
    assert_eq!(test.fault(&image).await, Some(ErrorKind::Damaged), "it is read anew");
}

/// A thousand devices ask at once: one of them reads, and all get the same bytes.
#[tokio::test]
async fn all_who_ask_at_once_share_one_copy() {
    let test = Test::new(1000, LONG);
    let image = test.upload(100, 1).await;
    let all = futures::future::join_all((0..100).map(|_| test.get(&image))).await;
    let first = all[0].as_ref().expect("served").as_ptr();
    assert!(all.iter().all(|got| got.as_ref().expect("served").as_ptr() == first));
}
