//! The data directory. It holds the key that signs tokens, so only its owner may read it.

use std::{
    fs::{DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use rustix::{fs::Mode, process::umask};

const OWNER_ONLY: u32 = 0o700;

/// Creates the directory if it is missing, and removes the rights of group and others. Also sets the
/// umask, so that files that the process creates later are private wherever they are.
pub fn prepare(dir: &Path) -> anyhow::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    let shown = || format!("{} (data.dir)", dir.display());
    DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(dir).with_context(shown)?;
    let mode = std::fs::metadata(dir).with_context(shown)?.permissions().mode();
    if mode & !OWNER_ONLY & 0o777 != 0 {
        tracing::warn!(
            dir = %dir.display(), was = format!("{:o}", mode & 0o777),
            "others could read the data directory, which has the signing key; it is its owner's alone \
             now: if that was so for long, change the secrets"
        );
        std::fs::set_permissions(dir, Permissions::from_mode(OWNER_ONLY)).with_context(shown)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_new_directory_and_an_open_one_are_their_owners_alone() {
        let root = tempfile::tempdir().expect("dir");
        let (new, open) = (root.path().join("new"), root.path().join("open"));
        std::fs::create_dir(&open).expect("made");
        std::fs::set_permissions(&open, Permissions::from_mode(0o755)).expect("opened");
        for dir in [&new, &open] {
            prepare(dir).expect("prepared");
            assert_eq!(mode(dir), 0o700, "{}", dir.display());
        }
        std::fs::write(new.join("control.db"), "x").expect("written");
        assert_eq!(mode(&new.join("control.db")), 0o600);
    }
}
