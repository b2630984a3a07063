//! The module graph of each crate: a module must not depend on itself, neither directly nor through
//! others. Modules that import one another can only be read, tested and moved together.

mod graph;
mod syntax;
mod unit;

use std::{fmt::Write as _, path::Path, process::Command};

use serde_json::Value;

use crate::harness::root;
use graph::{Crate, Sources};

#[test]
fn no_module_depends_on_itself() {
    let (mut report, mut modules) = (String::new(), 0);
    for source in roots() {
        let folder = Path::new(&source).parent().expect("a folder");
        let krate = Crate::load(&read(folder), &source);
        modules += krate.len();
        for circle in krate.circles() {
            let shown = source.strip_prefix(&root().display().to_string()).unwrap_or(&source);
            let _ = writeln!(report, "{shown}: {circle}");
        }
    }
    assert!(modules > 100, "only {modules} modules were found");
    assert!(report.is_empty(), "modules depend on themselves:\n{report}");
}

/// The root files of the libraries and binaries in the workspace.
fn roots() -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("json");
    let packages = metadata["packages"].as_array().expect("packages");
    let targets = packages.iter().flat_map(|p| p["targets"].as_array().expect("targets"));
    let built = |target: &&Value| target["kind"][0] == "lib" || target["kind"][0] == "bin";
    let path = |target: &Value| target["src_path"].as_str().expect("path").to_owned();
    targets.filter(built).map(path).collect()
}

/// Every source file below a folder, by its path.
fn read(folder: &Path) -> Sources {
    let mut sources = Sources::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources.extend(read(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            sources.insert(path.display().to_string(), text);
        }
    }
    sources
}
