//! The pages on what the system promises to others name every part of it, and nothing else.

use acuvim_model::problem::Code;
use acuvim_tables::Table;
use acuvim_wire::{Kind, Reason, reading::READINGS};
use serde_json::Value;

use super::{page, pages};

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
fn the_api_page_names_every_code_and_table() {
    let page = page("API.md");
    for code in Code::ALL {
        let (name, status, _) = code.row();
        assert!(page.contains(&format!("| `{name}` | {status} |")), "{name}");
    }
    for table in Table::ALL {
        assert!(page.contains(&format!("`{}`", table.name())), "{}", table.name());
    }
}

/// The reference is the OpenAPI document, so it must say what each operation does, what each of its
/// parameters is, and which answers it gives.
#[test]
fn the_openapi_document_describes_every_operation() {
    let document = serde_json::to_value(acuvim_query::openapi()).expect("json");
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let said = |value: &Value| value.as_str().is_some_and(|text| text.len() > 5);
            assert!(said(&operation["summary"]), "{method} {path} has no summary");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let described = parameter["description"].as_str().is_some_and(|t| !t.is_empty());
                assert!(described, "{method} {path}: {} has no description", parameter["name"]);
            }
            let answers = operation["responses"].as_object().expect("answers");
            assert!(!answers.is_empty(), "{method} {path} has no answers");
            operations += 1;
        }
    }
    assert!(operations > 100, "{operations} operations");
}

/// A route on a page, such as `GET /api/alerts/{id}`, is one of the API.
#[test]
fn every_route_that_a_page_names_exists() {
    let document = serde_json::to_value(acuvim_query::openapi()).expect("json");
    let paths = document["paths"].as_object().expect("paths");
    let (mut faults, mut routes) = (Vec::new(), 0);
    for (name, text) in pages() {
        for word in text.split('`').skip(1).step_by(2) {
            let Some((method, path)) = word.split_once(" /") else { continue };
            if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method) {
                continue;
            }
            routes += 1;
            // Names of parameters on pages are those of the document.
            let path = format!("/{}", path.split(['?', ' ']).next().unwrap_or_default());
            let known = paths.get(&path).is_some_and(|p| p.get(method.to_lowercase()).is_some());
            if !known {
                faults.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(faults.is_empty(), "no such routes:\n{}", faults.join("\n"));
    assert!(routes > 10, "only {routes} routes were read");
}
