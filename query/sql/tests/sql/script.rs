//! Reads `.slt` files: the part of the sqllogictest format that ours use. The library for it brings
//! twenty packages and other features of those that the server is built with.
//!
//! A record is `query TYPES [rowsort]`, SQL, `----` and the rows; or `query error TEXT` and SQL, where
//! the error must contain the text. Records end with an empty line; `#` begins a comment.

use std::path::Path;

/// What a query must answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// These rows, cells separated by single spaces.
    Rows { lines: Vec<String>, sorted: bool },
    /// An error that contains this text.
    Error(String),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The line of the file that it begins at, counted from 1.
    pub line: usize,
    pub sql: String,
    pub expected: Expected,
}

impl Record {
    /// What is wrong with an answer: rows, or the message of an error.
    pub fn check(&self, answer: Result<Vec<String>, String>) -> Result<(), String> {
        match (&self.expected, answer) {
            (Expected::Error(text), Err(message)) if message.contains(text) => Ok(()),
            (Expected::Rows { lines, sorted }, Ok(mut rows)) => {
                if *sorted {
                    rows.sort_unstable();
                }
                if rows == *lines { Ok(()) } else { Err(format!("{rows:#?}, not {lines:#?}")) }
            }
            (expected, answer) => Err(format!("{answer:?}, not {expected:?}")),
        }
    }
}

/// Reads a file; a line that is no part of a record is an error.
pub fn read(path: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(path).expect("a script");
    parse(&text).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
}

pub fn parse(text: &str) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    let mut lines = (1_usize..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#'));
    while let Some((line, head)) = lines.next() {
        if head.trim().is_empty() {
            continue;
        }
        let body = lines.by_ref().map(|(_, l)| l).take_while(|l| !l.trim().is_empty());
        let body: Vec<&str> = body.collect();
        let record = record(head, &body).ok_or_else(|| format!("line {line}: `{head}`"))?;
        records.push(Record { line, ..record });
    }
    Ok(records)
}

fn record(head: &str, body: &[&str]) -> Option<Record> {
    let query = head.strip_prefix("query ")?;
    if let Some(text) = query.strip_prefix("error ") {
        let expected = Expected::Error(text.trim().to_owned());
        return (!body.is_empty()).then(|| Record { line: 0, sql: body.join("\n"), expected });
    }
    let sorted = match query.split_once(' ') {
        None => false,
        Some((_, "rowsort")) => true,
        Some(_) => return None,
    };
    let end = body.iter().position(|line| *line == "----")?;
    let mut lines: Vec<String> = body[end + 1..].iter().map(|line| one_spaced(line)).collect();
    if sorted {
        lines.sort_unstable();
    }
    let sql = body[..end].join("\n");
    (!sql.is_empty()).then_some(Record { line: 0, sql, expected: Expected::Rows { lines, sorted } })
}

/// Cells as a file has them, whatever white space is in or between them.
pub fn one_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn records_are_read_and_checked() {
    let text =
        "# a comment\n\nquery TI rowsort\nSELECT 1,\n 2\n----\nb  2\na 1\n\n\nquery error no\nX";
    let records = parse(text).expect("records");
    assert_eq!((records[0].line, records[0].sql.as_str()), (3, "SELECT 1,\n 2"));
    let rows = |all: &[&str]| Ok(all.iter().map(|r| (*r).to_owned()).collect());
    assert_eq!(records[0].check(rows(&["b 2", "a 1"])), Ok(()));
    assert!(records[0].check(rows(&["a 1"])).is_err());
    assert!(records[0].check(Err("no".into())).is_err());
    assert_eq!(records[1].check(Err("there is no X".into())), Ok(()));
    assert!(records[1].check(Err("yes".into())).is_err());
    assert!(records[1].check(rows(&[])).is_err());
    for bad in
        ["SELECT 1", "query T\nSELECT 1", "query T sometimes\nSELECT 1\n----", "query error x"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
