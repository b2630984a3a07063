//! The crate graph: data goes one way, and no other edge appears unnoticed.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::harness::root;

/// Folder, and the folders it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("schemas", &[]),
    ("rules", &["schemas"]),
    ("log", &["schemas"]),
    ("control", &["schemas"]),
    ("lakehouse", &["schemas", "log"]),
    ("ingest", &["schemas", "log"]),
    ("processor", &["schemas", "rules", "log", "control", "lakehouse"]),
    ("firmware-registry", &["schemas", "control"]),
    ("query", &["schemas", "rules", "log", "control", "lakehouse", "firmware-registry"]),
    (
        "benches",
        &[
            "schemas",
            "rules",
            "log",
            "control",
            "lakehouse",
            "ingest",
            "processor",
            "firmware-registry",
            "query",
        ],
    ),
    (
        "compose",
        &[
            "schemas",
            "rules",
            "log",
            "control",
            "lakehouse",
            "ingest",
            "processor",
            "firmware-registry",
            "query",
            "benches",
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
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if let Some(used) = folder(&dependency["name"]) {
                assert!(may.contains(&used.as_str()), "{name} must not use {used}");
            }
        }
    }
}
