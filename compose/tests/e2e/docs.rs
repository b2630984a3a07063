//! The pages agree with the code: what they name exists, and the values they state are the real ones.

mod names;
mod values;

use acuvim_schemas::{Kind, Reason, problem::Code, reading::READINGS, tables::Table};

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

#[test]
fn the_protocol_names_every_kind_reading_and_reason() {
    let page = page("PROTOCOL.md");
    for kind in Kind::ALL.iter().filter(|k| k.of_device().is_some()) {
        assert!(page.contains(&format!("| {kind} |")), "{kind}");
    }
    for reading in READINGS {
        let row = format!(
            "| `{}` | `{}` | {} | {} |",
            reading.name, reading.short, reading.unit, reading.register
        );
        assert!(page.contains(&row), "{row}");
    }
    for reason in Reason::ALL {
        assert!(page.contains(&format!("| `{}` |", reason.as_str())), "{}", reason.as_str());
    }
}

#[test]
fn the_api_names_every_route_code_and_table() {
    let page = page("API.md");
    let document = serde_json::to_value(acuvim_query::openapi()).expect("json");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let route = format!("`{} {path}`", method.to_uppercase());
            assert!(page.contains(&route), "{route}");
        }
    }
    for code in Code::ALL {
        let (name, status, _) = code.row();
        assert!(page.contains(&format!("| `{name}` | {status} |")), "{name}");
    }
    for table in Table::ALL {
        assert!(page.contains(&format!("`{}`", table.name())), "{}", table.name());
    }
}
