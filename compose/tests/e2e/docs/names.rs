//! The files, functions and links that the pages name exist.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::pages;
use crate::harness::root;

/// Endings of names that are taken for files; anything else in backticks is no path.
const FILES: [&str; 7] = [".rs", ".toml", ".md", ".sh", ".sql", ".slt", ".mjs"];

#[test]
fn every_file_and_function_that_a_page_names_exists() {
    let sources = sources();
    let mut faults = Vec::new();
    for (name, text) in pages() {
        // Decisions are a record: a file they name may have moved since.
        if !name.starts_with("docs/decisions/") {
            faults.extend(faults_of(&name, &text, &sources));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_link_leads_to_a_file() {
    let mut faults = Vec::new();
    for (name, text) in pages() {
        let folder = root().join(&name).parent().expect("a folder").to_owned();
        for (line, text) in (1..).zip(text.lines()) {
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = link.split('#').next().unwrap_or_default();
                let is_url = link.contains("://") || file.is_empty();
                if !is_url && !folder.join(file).exists() {
                    faults.push(format!("{name}:{line}: there is no {link}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// A newcomer reads it in one go; flows have pages of their own.
#[test]
fn the_architecture_page_stays_short() {
    let (_, text) = pages().into_iter().find(|(name, _)| name == "ARCHITECTURE.md").expect("it");
    assert!(text.len() <= 10 << 10, "{} bytes; move a part to docs/design", text.len());
}

/// What is wrong on a page. A function, written as `name()` or `Type::name()`, is looked for in the
/// file that the page named last; only the pages on the code name functions of it.
fn faults_of(page: &str, text: &str, sources: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut last: Option<&(String, String)> = None;
    let on_code = page.starts_with("docs/design/") || page == "ARCHITECTURE.md";
    let (mut line, mut fenced) = (0, false);
    for text in text.lines() {
        line += 1;
        fenced ^= text.starts_with("```");
        // Between backticks is every second part of a line.
        for word in text.split('`').skip(1).step_by(2).filter(|_| !fenced) {
            if is_path(word) {
                last = sources.iter().find(|(name, _)| name == word);
                if !root().join(word).exists() {
                    faults.push(format!("{page}:{line}: no {word}{}", elsewhere(word, sources)));
                }
            } else if let Some(function) = word.strip_suffix("()").filter(|_| on_code) {
                let defined = last.is_some_and(|(_, code)| defines(code, function));
                if !defined {
                    let file = last.map_or("no file", |(name, _)| name.as_str());
                    let hint = definitions(function, sources);
                    faults.push(format!("{page}:{line}: no {word} in {file}{hint}"));
                }
            }
        }
    }
    faults
}

fn is_path(word: &str) -> bool {
    let in_folder = word.contains('/') && !word.contains(' ') && !word.starts_with(['/', '.']);
    let ends_as_file = FILES.iter().any(|ending| word.ends_with(ending));
    in_folder && !word.contains("://") && !word.contains('*') && (ends_as_file || is_folder(word))
}

/// `log/src/kafka` but not `application/json`: a path below a folder of the workspace.
fn is_folder(word: &str) -> bool {
    let first = word.split('/').next().unwrap_or_default();
    root().join(first).join("Cargo.toml").exists()
        || ["docs", "firmware-registry", "query", "schemas"].contains(&first)
}

/// Whether the code has the function, and the type it is said to be of.
fn defines(code: &str, function: &str) -> bool {
    let (of, name) = match function.rsplit_once("::") {
        Some((of, name)) => (Some(of), name),
        None => (None, function),
    };
    let has_type = of.is_none_or(|of| {
        ["struct", "enum", "trait", "impl", "for"].iter().any(|word| has(code, word, of))
            || code.contains(&format!("> {of} "))
    });
    has_type && has(code, "fn", name)
}

/// A keyword, a space, a name, and no further letter of a name behind it.
fn has(code: &str, keyword: &str, name: &str) -> bool {
    let wanted = format!("{keyword} {name}");
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(&wanted).any(|(at, _)| !code[at + wanted.len()..].starts_with(part))
}

/// Files of the same name as one that is missing.
fn elsewhere(path: &str, sources: &[(String, String)]) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let same = sources.iter().filter(|(other, _)| other.rsplit('/').next() == Some(name));
    hint(same.map(|(other, _)| other.as_str()))
}

/// Files that define a function.
fn definitions(function: &str, sources: &[(String, String)]) -> String {
    hint(sources.iter().filter(|(_, code)| defines(code, function)).map(|(name, _)| name.as_str()))
}

fn hint<'a>(found: impl Iterator<Item = &'a str>) -> String {
    let found: Vec<&str> = found.take(5).collect();
    if found.is_empty() { String::new() } else { format!("; perhaps {}", found.join(" or ")) }
}

/// Every source file of the workspace by its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut open: Vec<PathBuf> = vec![root()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir()
                && !name.starts_with('.')
                && !["target", "node_modules"].contains(&name)
            {
                open.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                sources.push((relative(&path), text));
            }
        }
    }
    sources
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("in the workspace").display().to_string()
}

#[test]
fn missing_names_are_found_and_hinted_at() {
    let sources = [("a/src/b.rs".to_owned(), "impl B { pub fn go() {} }".to_owned())];
    let page = "docs/design/x.md";
    let found = faults_of(page, "`log/src/b.rs` has\n`B::go()`", &sources);
    assert_eq!(
        found,
        [
            "docs/design/x.md:1: no log/src/b.rs; perhaps a/src/b.rs",
            "docs/design/x.md:2: no B::go() in no file; perhaps a/src/b.rs",
        ]
    );
    let text = "`application/json`, `/api/sql`, `./data`\n```\n`log/src/no.rs`\n```\n`b.rs`";
    assert_eq!(faults_of(page, text, &sources), [""; 0]);
    assert!(defines(&sources[0].1, "B::go") && !defines(&sources[0].1, "C::go"));
    assert!(!defines(&sources[0].1, "g") && !defines(&sources[0].1, "B::goes"));
}
