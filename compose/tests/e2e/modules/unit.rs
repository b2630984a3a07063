//! The graph on small crates: what is a circle, and what only looks like one.

use super::graph::{Crate, Sources};

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Sources =
        files.iter().map(|(name, text)| (format!("src/{name}"), (*text).to_owned())).collect();
    Crate::load(&sources, "src/lib.rs").circles()
}

fn only(files: &[(&str, &str)]) -> String {
    let mut found = circles(files);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_circle_is_found_with_its_path() {
    let circle = only(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use super::c::C; pub struct B;"),
        ("c.rs", "use crate::a::A; pub struct C;"),
    ]);
    assert_eq!(
        circle,
        "a -> b (by `crate::b::B`) -> c (by `super::c::C`) -> a (by `crate::a::A`); 3 modules \
         depend on one another here"
    );
}

#[test]
fn none_is_found_where_the_arrows_go_one_way() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; pub use a::A;"),
        ("a.rs", "use crate::{b::B, c::C}; pub struct A;"),
        ("b.rs", "use super::c::C; pub struct B;"),
        ("c.rs", "use std::fmt; pub struct C;"),
    ];
    assert_eq!(circles(&files), [""; 0]);
}

#[test]
fn nested_modules_and_grouped_imports_are_followed() {
    let circle = only(&[
        ("lib.rs", "mod a; mod deep;"),
        ("a.rs", "use crate::deep::{self, inner::{Thing as Other, more::*}}; pub struct A;"),
        ("deep/mod.rs", "pub mod inner;"),
        ("deep/inner.rs", "pub mod more; pub struct Thing;"),
        ("deep/inner/more.rs", "use super::super::super::a::A; pub fn f() {}"),
    ]);
    assert!(
        circle.starts_with("a -> deep::inner::more (by `crate::deep::inner::more::*`)"),
        "{circle}"
    );
}

#[test]
fn a_module_and_the_one_within_it_can_be_a_circle() {
    let circle = only(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod part; pub const LIMIT: u32 = 1; fn f() { part::g(); }"),
        ("a/part.rs", "use super::LIMIT; pub fn g() {}"),
    ]);
    assert!(circle.starts_with("a -> a::part (by `part::g`) -> a (by `super::LIMIT`)"), "{circle}");
}

#[test]
fn a_name_of_the_root_leads_to_where_it_is_defined() {
    let circle = only(&[
        ("lib.rs", "mod a; mod b; pub use a::A; pub use b::*;"),
        ("a.rs", "use crate::B; pub struct A;"),
        ("b.rs", "use crate::A; pub struct B;"),
    ]);
    assert!(circle.starts_with("a -> b (by `crate::B`) -> a (by `crate::A`)"), "{circle}");
}

#[test]
fn a_reexport_is_a_dependency_only_where_its_name_is_used() {
    let part = ("a/part.rs", "use super::LIMIT; pub struct Part;");
    let lib = ("lib.rs", "mod a;");
    let facade = ("a.rs", "mod part; pub use part::Part; pub const LIMIT: u32 = 1;");
    assert_eq!(circles(&[lib, facade, part]), [""; 0]);
    let user = ("a.rs", "mod part; pub use part::Part; pub const LIMIT: u32 = 1; struct A(Part);");
    assert_eq!(circles(&[lib, user, part]).len(), 1);
}

#[test]
fn a_path_in_code_counts_and_one_in_comments_text_or_tests_does_not() {
    let lib = ("lib.rs", "mod a; mod b;");
    let b = ("b.rs", "use crate::a::f; pub fn g() {}");
    let code = ("a.rs", "pub fn f<'a>(x: &'a str) { crate::b::g() }");
    assert_eq!(circles(&[lib, code, b]).len(), 1);
    let quiet = (
        "a.rs",
        "// crate::b::g()
         /* use crate::b::g; /* nested */ */
         pub fn f() -> [&'static str; 2] { [\"crate::b::g \\\" \", r#\"crate::b::g() \"\"#] }
         #[cfg(test)] use crate::b::g;
         #[cfg(test)] #[allow(dead_code)] mod tests { use crate::b::g; fn t() { g() } }
         pub const C: [char; 3] = ['\"', '\\'', b'\"' as char];",
    );
    assert_eq!(circles(&[lib, quiet, b]), [""; 0]);
}

#[test]
fn a_file_of_tests_is_left_out() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a.rs", "pub fn f() {} #[cfg(test)] mod tests;"),
        ("a/tests.rs", "use super::*; #[test] fn t() { f() }"),
    ];
    assert_eq!(circles(&files), [""; 0]);
    assert_eq!(
        circles(&[files[0], ("a.rs", "mod tests; fn f() { tests::t() }"), files[2]]).len(),
        1
    );
}
