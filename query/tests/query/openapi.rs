//! The OpenAPI document as it was last agreed on: a change of the API shows in its diff.

#[test]
fn the_document_is_as_agreed() {
    insta::assert_json_snapshot!(acuvim_query::openapi());
}

/// A generated client puts a parameter where the document says.
#[test]
fn what_is_in_the_path_is_named_by_it_and_nothing_else_is() {
    let document = serde_json::to_value(acuvim_query::openapi()).expect("JSON");
    let mut queries = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let operations = methods.as_object().expect("methods");
        let all = operations.values().filter_map(|o| o["parameters"].as_array()).flatten();
        for parameter in all {
            let name = parameter["name"].as_str().expect("a name");
            let named = path.contains(&format!("{{{name}}}"));
            match parameter["in"].as_str() {
                Some("path") => assert!(named, "{path} does not name {name}"),
                Some("query") => queries += 1,
                other => panic!("{path}: {name} is in {other:?}"),
            }
        }
    }
    assert!(queries > 100, "{queries}");
}
