//! A disk that persists only what was synced.

use std::{
    collections::HashMap,
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use acuvim_lakehouse::Disk;

/// The state after a power cut, by inode: the bytes of files and the entries of folders when they were last
/// synced.
#[derive(Debug, Default)]
pub struct ForgetfulDisk(Mutex<HashMap<u64, Kept>>);

#[derive(Debug, Clone)]
enum Kept {
    File(Vec<u8>),
    Folder(Vec<(String, u64)>),
}

impl ForgetfulDisk {
    fn kept(&self) -> MutexGuard<'_, HashMap<u64, Kept>> {
        self.0.lock().expect("the disk")
    }

    /// Marks an existing folder as persisted.
    pub fn trust(&self, folder: &Path) {
        self.sync(folder).expect("a folder");
    }

    /// Writes what would be left of a folder to another one.
    pub fn cut(&self, folder: &Path, left: &Path) {
        let parent = folder.parent().expect("a parent");
        let parent = parent.metadata().expect("a folder").ino();
        let name = folder.file_name().expect("a name").to_str().expect("text");
        let kept = self.kept();
        let Some(Kept::Folder(entries)) = kept.get(&parent) else {
            panic!("{} was never synced", folder.display())
        };
        let (_, inode) = entries.iter().find(|(n, _)| n == name).expect("its name is kept");
        restore(&kept, *inode, left);
    }
}

fn restore(kept: &HashMap<u64, Kept>, inode: u64, at: &Path) {
    match kept.get(&inode) {
        Some(Kept::File(bytes)) => std::fs::write(at, bytes).expect("write"),
        Some(Kept::Folder(entries)) => {
            std::fs::create_dir_all(at).expect("folder");
            for (name, inode) in entries {
                restore(kept, *inode, &at.join(name));
            }
        }
        // Only the name is persisted, as by a journal: the file is empty.
        None => std::fs::write(at, b"").expect("write"),
    }
}

impl Disk for ForgetfulDisk {
    fn sync(&self, path: &Path) -> io::Result<()> {
        let facts = path.metadata()?;
        let kept = match facts.is_dir() {
            false => Kept::File(std::fs::read(path)?),
            true => {
                let mut entries = Vec::new();
                for entry in std::fs::read_dir(path)? {
                    let entry = entry?;
                    let name = entry.file_name().to_string_lossy().into_owned();
                    // A file that is deleted meanwhile may be there or not.
                    if let Ok(facts) = entry.metadata() {
                        entries.push((name, facts.ino()));
                    }
                }
                Kept::Folder(entries)
            }
        };
        self.kept().insert(facts.ino(), kept);
        Ok(())
    }
}
