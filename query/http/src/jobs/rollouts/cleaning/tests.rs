//! Images that are removed, and files that must not be.

use super::*;
use crate::testing::{Server, by, image, stored_release};

#[tokio::test]
async fn only_our_own_old_images_without_a_release_are_removed() {
    let server = Server::new().await;
    let url = url::Url::from_directory_path(server.dir.path().join("firmware")).expect("a URL");
    let store = ImageStore::open(&url).expect("a store");
    let needed = store.put(image("1.2.0").into()).await.expect("stored");
    let orphan = store.put(image("1.3.0").into()).await.expect("stored");
    server
        .control
        .create_firmware(&stored_release("1.2.0", &needed), &by())
        .await
        .expect("control answers");
    for foreign in ["notes.txt", "backup.bin", &orphan.replace(".bin", ".old")] {
        std::fs::write(server.dir.path().join("firmware").join(foreign), "x").expect("written");
    }
    let names = async || {
        let mut names: Vec<String> =
            store.list().await.expect("a list").into_iter().map(|stored| stored.name).collect();
        names.sort_unstable();
        names
    };
    let before = names().await;
    let young = Utc::now() + LEFT_BEHIND - TimeDelta::minutes(1);
    remove_orphans(&server.control, &store, young).await.expect("cleaned");
    assert_eq!(names().await, before, "its upload may still be under way");
    let old = Utc::now() + LEFT_BEHIND + TimeDelta::minutes(1);
    remove_orphans(&server.control, &store, old).await.expect("cleaned");
    let want: Vec<String> = before.into_iter().filter(|name| *name != orphan).collect();
    assert_eq!(names().await, want);
}
