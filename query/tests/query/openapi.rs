//! The OpenAPI document as it was last agreed on: a change of the API shows in its diff.

#[test]
fn the_document_is_as_agreed() {
    insta::assert_json_snapshot!(acuvim_query::openapi());
}
