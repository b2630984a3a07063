//! Schemas of structs with a flattened field. utoipa makes "all of" of them: the schema of the flattened field,
//! and an object with the other fields. If the former forbids additional properties, it forbids the latter's
//! fields, and no real answer conforms to the document. Here both become one object.

use std::collections::BTreeMap;

use utoipa::openapi::{AllOf, Object, OpenApi, RefOr, Schema, Type, schema::ArrayItems};

type Known = BTreeMap<String, RefOr<Schema>>;

/// Replaces every "all of" among a document's schemas.
pub(super) fn write_out(document: &mut OpenApi) {
    if let Some(components) = &mut document.components {
        let known = components.schemas.clone();
        components.schemas.values_mut().for_each(|schema| write_out_in(schema, &known));
    }
}

fn write_out_in(schema: &mut RefOr<Schema>, known: &Known) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::AllOf(all) => {
            if let Some(object) = merged(all, known) {
                *schema = Schema::Object(object);
            }
        }
        Schema::Object(object) => {
            object.properties.values_mut().for_each(|property| write_out_in(property, known));
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                write_out_in(items, known);
            }
        }
        _ => {}
    }
}

/// The object with the fields of all parts. Such objects are answers: they lack write-only fields, and forbid
/// nothing.
fn merged(all: &AllOf, known: &Known) -> Option<Object> {
    let mut object = Object::with_type(Type::Object);
    object.description.clone_from(&all.description);
    for item in &all.items {
        let part = object_of(item, known)?;
        object.properties.extend(part.properties.into_iter().filter(|(_, of)| !is_write_only(of)));
        object.required.extend(part.required);
    }
    Some(object)
}

fn object_of(schema: &RefOr<Schema>, known: &Known) -> Option<Object> {
    match schema {
        RefOr::Ref(to) => {
            let name = to.ref_location.strip_prefix("#/components/schemas/")?;
            object_of(known.get(name)?, known)
        }
        RefOr::T(Schema::Object(object)) => Some(object.clone()),
        RefOr::T(Schema::AllOf(all)) => merged(all, known),
        RefOr::T(_) => None,
    }
}

fn is_write_only(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.write_only == Some(true))
}
