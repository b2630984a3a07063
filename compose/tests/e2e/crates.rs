//! The crate graph: data goes one way, and no other edge appears unnoticed.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::harness::root;

/// A crate, and the crates that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("model", &["wire"]),
    ("tables", &["wire", "model"]),
    ("simulator", &["wire"]),
    ("rules", &["wire", "model", "tables"]),
    ("log", &["wire"]),
    ("rollout", &["model"]),
    ("control", &["wire", "model", "rollout"]),
    ("lakehouse", &["wire", "model", "tables"]),
    ("ingest", &["wire", "log", "simulator"]),
    ("processor", &["wire", "model", "tables", "rules", "log", "control", "lakehouse"]),
    ("firmware-registry", &["rollout"]),
    ("query-sql", &["wire", "model", "tables", "control", "lakehouse"]),
    ("query-live", &["model", "log", "control", "lakehouse", "query-sql"]),
    (
        "query",
        &[
            "wire",
            "model",
            "tables",
            "rules",
            "log",
            "control",
            "lakehouse",
            "firmware-registry",
            "query-sql",
            "query-live",
            "rollout",
        ],
    ),
    ("benches", &["wire", "firmware-registry", "simulator"]),
    (
        "compose",
        &[
            "wire",
            "model",
            "tables",
            "rules",
            "log",
            "control",
            "lakehouse",
            "ingest",
            "processor",
            "firmware-registry",
            "query",
            "simulator",
            "rollout",
        ],
    ),
];

#[test]
fn crates_use_only_what_stands_before_them() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("json");
    let packages = metadata["packages"].as_array().expect("packages");
    let folder =
        |name: &Value| name.as_str().and_then(|n| n.strip_prefix("acuvim-")).map(str::to_owned);
    let known: BTreeSet<_> = MAY_USE.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found: BTreeSet<_> = packages.iter().filter_map(|p| folder(&p["name"])).collect();
    assert_eq!(found, known, "every crate has its line in the table");
    for package in packages {
        let name = folder(&package["name"]).expect("ours");
        let (_, may) = MAY_USE.iter().find(|(n, _)| *n == name).expect("listed");
        let mut unused: BTreeSet<&str> = may.iter().copied().collect();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            // A crate names itself to switch on a feature for its tests.
            if let Some(used) = folder(&dependency["name"]).filter(|used| *used != name) {
                assert!(may.contains(&used.as_str()), "{name} must not use {used}");
                unused.remove(used.as_str());
            }
        }
        assert!(unused.is_empty(), "{name} is allowed {unused:?}, and does not use it");
    }
}
