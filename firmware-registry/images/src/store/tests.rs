//! The store in a folder, and URLs that are none.

use super::*;

fn open(url: &str) -> Result<ImageStore, Error> {
    ImageStore::open(&Url::parse(url).expect("a URL"))
}

#[test]
fn a_url_that_is_no_store_is_an_error_of_the_setting() {
    let root = tempfile::tempdir().expect("dir");
    let file = root.path().join("file");
    std::fs::write(&file, "x").expect("written");
    let below = format!("file://{}/images", file.display());
    for url in ["http://example.org/images", "s3:///images", "memory:///", &below] {
        let error = open(url).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Setup, "{url}: {error}");
        assert!(error.to_string().contains("firmware.url"), "{error}");
    }
}

#[tokio::test]
async fn objects_are_told_apart_by_name_and_their_versions_by_stamp() {
    let root = tempfile::tempdir().expect("dir");
    let url = format!("file://{}/new/folder", root.path().display());
    let store = open(&url).expect("its folders are created");
    assert!(store.list().await.expect("a list").is_empty());
    let one = store.put(Bytes::from_static(b"one")).await.expect("stored");
    let two = store.put(Bytes::from_static(b"two")).await.expect("stored");
    assert_ne!(one, two);
    let (bytes, stamp) = store.get(&one, 3).await.expect("read");
    assert_eq!(
        (bytes.as_ref(), store.stamp(&one).await.expect("a stamp")),
        (&b"one"[..], stamp.clone())
    );
    std::fs::write(root.path().join("new/folder").join(&one), "three").expect("written");
    assert_ne!(store.stamp(&one).await.expect("a stamp"), stamp);
    let larger = store.get(&one, 4).await.expect_err("larger");
    assert_eq!(larger.kind(), ErrorKind::Damaged);
    store.delete(&one).await.expect("deleted");
    store.delete(&one).await.expect("gone already");
    let names: Vec<String> =
        store.list().await.expect("a list").into_iter().map(|stored| stored.name).collect();
    assert_eq!(names, [two]);
    for gone in [store.get(&one, 9).await.err(), store.stamp(&one).await.err()] {
        assert_eq!(gone.expect("gone").kind(), ErrorKind::NotFound);
    }
    // What was stored is there for the next process.
    let again = open(&url).expect("a store");
    assert_eq!(again.list().await.expect("a list").len(), 1);
}

/// A name comes from the database. It must not lead out of the folder.
#[tokio::test]
async fn a_name_with_a_path_in_it_stays_in_the_folder() {
    let root = tempfile::tempdir().expect("dir");
    std::fs::write(root.path().join("secret"), "s").expect("written");
    let store = open(&format!("file://{}/images", root.path().display())).expect("a store");
    for name in ["../secret", "..", "a/../../secret", "/etc/passwd"] {
        assert!(store.get(name, 1 << 20).await.is_err(), "{name}");
    }
}
