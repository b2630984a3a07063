//! The pages agree with the code: what they name exists, and the values they state are the real ones.

mod contract;
mod names;
mod values;

use crate::harness::root;

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).expect(name)
}

/// Every Markdown page by its path, but for the changelog and the settings page, which is generated.
fn pages() -> Vec<(String, String)> {
    let mut names =
        vec!["README.md".to_owned(), "ARCHITECTURE.md".into(), "CONTRIBUTING.md".into()];
    for folder in ["docs", "docs/design", "docs/decisions"] {
        for entry in std::fs::read_dir(root().join(folder)).expect(folder) {
            let name = entry.expect("an entry").file_name().into_string().expect("text");
            if name.ends_with(".md") && name != "SETTINGS.md" {
                names.push(format!("{folder}/{name}"));
            }
        }
    }
    names.sort();
    let text = |name: String| (std::fs::read_to_string(root().join(&name)).expect(&name), name);
    names.into_iter().map(text).map(|(text, name)| (name, text)).collect()
}
