use std::sync::MutexGuard;

use object_store::ObjectStoreExt as _;

use super::*;

/// A disk that records what is synced, and can refuse to.
#[derive(Debug, Default)]
struct WatchedDisk {
    synced: Mutex<Vec<PathBuf>>,
    refused: Mutex<Option<(PathBuf, ErrorKind)>>,
}

impl WatchedDisk {
    fn synced(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.synced.lock().expect("lock")
    }

    fn refuse(&self, suffix: &str, kind: ErrorKind) {
        *self.refused.lock().expect("lock") = Some((suffix.into(), kind));
    }
}

impl Disk for WatchedDisk {
    fn sync(&self, path: &FilePath) -> io::Result<()> {
        if let Some((suffix, kind)) = &*self.refused.lock().expect("lock")
            && path.ends_with(suffix)
        {
            return Err((*kind).into());
        }
        assert!(path.exists(), "{} is synced before it exists", path.display());
        self.synced().push(path.to_path_buf());
        Ok(())
    }
}

struct Place {
    dir: tempfile::TempDir,
    disk: Arc<WatchedDisk>,
    store: DurableFiles,
}

impl Place {
    fn new() -> Self {
        let disk = Arc::new(WatchedDisk::default());
        let store = DurableFiles {
            files: LocalFileSystem::new(),
            disk: Arc::clone(&disk) as _,
            synced_folders: Arc::default(),
        };
        Self { dir: tempfile::tempdir().expect("dir"), disk, store }
    }

    fn path(&self, name: &str) -> Path {
        Path::from_absolute_path(self.dir.path()).expect("path").join("a").join(name)
    }

    /// The names in the folder, left-overs included.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("a")).into_iter().flatten();
        let name = |entry: io::Result<std::fs::DirEntry>| {
            entry.expect("entry").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    async fn create(&self, name: &str, text: &'static str) -> Result<PutResult> {
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store.put_opts(&self.path(name), text.into(), create).await
    }

    async fn read(&self, name: &str) -> Bytes {
        self.store.get(&self.path(name)).await.expect("get").bytes().await.expect("bytes")
    }

    /// The last names of what was synced since the last call, in order.
    fn synced(&self) -> Vec<String> {
        let synced = std::mem::take(&mut *self.disk.synced());
        let within = synced.iter().filter(|path| path.starts_with(self.dir.path()));
        within
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect()
    }
}

#[tokio::test]
async fn what_is_created_is_never_replaced_and_no_half_made_file_is_listed() {
    let place = Place::new();
    place.create("b.json", "one").await.expect("put");
    let again = place.create("b.json", "two").await.expect_err("is there");
    assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
    assert_eq!(place.read("b.json").await, "one");
    place.store.put(&place.path("b.json"), "three".into()).await.expect("put");
    assert_eq!(place.read("b.json").await, "three");
    assert_eq!(place.names(), ["b.json"], "nothing is left of what was refused");
}

#[tokio::test]
async fn bytes_are_synced_before_the_name_and_the_name_before_the_answer() {
    let place = Place::new();
    place.create("b.json", "one").await.expect("put");
    let root = place.dir.path().file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(place.synced(), ["b.json#1", "a", root.as_str()], "a new folder has a name too");
    place.create("c.json", "two").await.expect("put");
    assert_eq!(place.synced(), ["c.json#1", "a"], "the folder's own name is synced by now");
}

#[tokio::test]
async fn a_file_whose_bytes_can_not_be_synced_gets_no_name() {
    let place = Place::new();
    place.disk.refuse("b.json#1", ErrorKind::Other);
    let error = place.create("b.json", "one").await.expect_err("the disk fails");
    assert!(matches!(error, object_store::Error::Generic { .. }), "{error}");
    assert!(place.names().is_empty());
    place.store.put(&place.path("b.json"), "one".into()).await.expect_err("the disk fails");
    assert!(place.names().is_empty());
}

#[tokio::test]
async fn a_name_that_can_not_be_synced_is_an_error_although_the_file_is_there() {
    let place = Place::new();
    place.disk.refuse("a", ErrorKind::Other);
    place.create("b.json", "one").await.expect_err("the disk fails");
    assert_eq!(place.names(), ["b.json"], "the caller has to look");
}

#[tokio::test]
async fn file_systems_that_can_not_sync_folders_are_taken_at_their_word() {
    for kind in [ErrorKind::InvalidInput, ErrorKind::Unsupported] {
        let place = Place::new();
        place.disk.refuse("a", kind);
        place.create("b.json", "one").await.expect("put");
    }
}

#[tokio::test]
async fn parents_that_may_not_be_read_are_not_synced_and_the_folder_itself_must_be() {
    let place = Place::new();
    let root = place.dir.path().file_name().expect("a name").to_string_lossy().into_owned();
    place.disk.refuse(&root, ErrorKind::PermissionDenied);
    place.create("b.json", "one").await.expect("nothing was created up there");
    let place = Place::new();
    place.disk.refuse("a", ErrorKind::PermissionDenied);
    place.create("b.json", "one").await.expect_err("its entries could be lost");
}

#[tokio::test]
async fn left_overs_of_a_killed_process_do_not_stand_in_the_way() {
    let place = Place::new();
    std::fs::create_dir_all(place.dir.path().join("a")).expect("folder");
    std::fs::write(place.dir.path().join("a/b.json#1"), "half").expect("write");
    place.create("b.json", "whole").await.expect("put");
    assert_eq!(place.read("b.json").await, "whole");
    assert_eq!(place.names(), ["b.json", "b.json#1"]);
    let folder = Path::from_absolute_path(place.dir.path().join("a")).expect("path");
    let listed = place.store.list_with_delimiter(Some(&folder)).await.expect("list");
    let listed: Vec<_> = listed.objects.iter().filter_map(|o| o.location.filename()).collect();
    assert_eq!(listed, ["b.json"]);
}

#[tokio::test]
async fn a_file_in_parts_is_synced_when_it_is_complete() {
    let place = Place::new();
    let mut upload = place.store.put_multipart(&place.path("b.parquet")).await.expect("begin");
    upload.put_part("one".into()).await.expect("part");
    assert!(place.synced().is_empty());
    upload.complete().await.expect("complete");
    assert_eq!(place.synced()[..2], ["b.parquet", "a"]);
    place.disk.refuse("c.parquet", ErrorKind::Other);
    let mut upload = place.store.put_multipart(&place.path("c.parquet")).await.expect("begin");
    upload.put_part("one".into()).await.expect("part");
    upload.complete().await.expect_err("the disk fails");
}

#[tokio::test]
async fn copies_and_new_names_are_synced() {
    let place = Place::new();
    place.create("b", "one").await.expect("put");
    place.synced();
    place.store.copy(&place.path("b"), &place.path("c")).await.expect("copy");
    assert_eq!(place.synced(), ["c", "a"]);
    place.store.rename(&place.path("b"), &place.path("d")).await.expect("rename");
    assert_eq!(place.synced(), ["d", "a", "a"]);
    assert_eq!(place.names(), ["c", "d"]);
    assert_eq!(place.read("d").await, "one");
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let place = Place::new();
    let error = place.store.get(&place.path("none")).await.expect_err("none");
    assert!(matches!(error, object_store::Error::NotFound { .. }), "{error}");
    place.store.copy(&place.path("none"), &place.path("b")).await.expect_err("none");
    assert!(place.synced().is_empty());
}
