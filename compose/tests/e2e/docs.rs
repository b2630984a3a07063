//! The contracts in `docs/` say what the code says.

use acuvim_schemas::{Kind, Reason, problem::Code, reading::READINGS, tables::Table};

use crate::harness::root;

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).expect(name)
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
