//! `docs/SETTINGS.md`, made from `default.toml`.

use std::fmt::Write as _;

use super::default_toml::{TEXT, section, setting};

const HEAD: &str = "\
# Settings

This page is made from [`compose/default.toml`](../compose/default.toml); the last section of
[CONTRIBUTING.md](../CONTRIBUTING.md) says how. `acuvim config` prints the settings in force in the
form of that file, `acuvim check` tries to reach everything that they name.

A setting is overridden by a TOML file (`--config FILE`), then by an environment variable
(`ACUVIM__SECTION__KEY=value`, such as `ACUVIM__LAKE__FLUSH_INTERVAL_MS=5000`), then by a flag
(`--set section.key=value`, and flags of their own for the most common ones). An unknown name or a
value out of range stops the start with one line that says what is allowed.
";

/// The whole page.
pub fn page() -> String {
    let (mut page, mut about) = (HEAD.to_owned(), Vec::new());
    for line in TEXT.lines() {
        if let Some(name) = section(line) {
            let _ = write!(page, "\n## {name}\n\n{}\n\n", about.join(" "));
            page.push_str("| setting | default | meaning |\n|---|---|---|\n");
            about.clear();
        } else if let Some(name) = setting(line) {
            page.push_str(&row(name, line, &about));
            about.clear();
        } else if let Some(text) = line.strip_prefix("# ") {
            about.push(text);
        } else {
            // An empty line ends a comment that belongs to no setting: the head of the file.
            about.clear();
        }
    }
    page
}

fn row(name: &str, line: &str, about: &[&str]) -> String {
    let (_, value) = line.split_once(" = ").unwrap_or_default();
    let unset = if line.starts_with('#') { "unset, such as " } else { "" };
    format!("| `{name}` | {unset}`{value}` | {} |\n", about.join(" "))
}

/// Compares the page with the file. With `ACUVIM_WRITE_DOCS=1` in the environment it writes the
/// file instead.
#[test]
fn settings_md_is_made_from_default_toml() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SETTINGS.md");
    if std::env::var_os("ACUVIM_WRITE_DOCS").is_some() {
        std::fs::write(file, page()).expect("written");
    }
    let found = std::fs::read_to_string(file).expect("docs/SETTINGS.md");
    assert!(
        found == page(),
        "docs/SETTINGS.md differs from compose/default.toml; write it anew with \
         ACUVIM_WRITE_DOCS=1 cargo test -p acuvim-compose settings_md"
    );
}
