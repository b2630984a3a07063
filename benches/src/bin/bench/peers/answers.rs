//! Answers of several engines, brought to one form and compared.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// An answer, and the best time that it took.
#[derive(Debug, Clone)]
pub struct Found {
    pub ms: f64,
    pub rows: Vec<Vec<Value>>,
}

/// Answers by question.
#[derive(Debug, Clone, Default)]
pub struct Answers(BTreeMap<String, Found>);

impl Answers {
    pub fn parse(answers: &Value) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for (question, answer) in answers.as_object().context("an object")? {
            let ms = answer.pointer("/ms").and_then(Value::as_f64).context("ms")?;
            let rows = answer.pointer("/rows").cloned().context("rows")?;
            all.put(question, Found { ms, rows: serde_json::from_value(rows)? });
        }
        Ok(all)
    }

    pub fn put(&mut self, question: &str, found: Found) {
        self.0.insert(question.to_owned(), found);
    }

    pub fn get(&self, question: &str) -> Option<&Found> {
        self.0.get(question)
    }
}

impl<'a> IntoIterator for &'a Answers {
    type Item = (&'a String, &'a Found);
    type IntoIter = std::collections::btree_map::Iter<'a, String, Found>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Fails unless two answers say the same.
pub fn same(
    question: &str,
    ours: &[Vec<Value>],
    engine: &str,
    theirs: &[Vec<Value>],
) -> anyhow::Result<()> {
    ensure!(
        ours.len() == theirs.len(),
        "{question}: {} rows of ours, {} of {engine}",
        ours.len(),
        theirs.len()
    );
    for (a, b) in ours.iter().zip(theirs) {
        let equal = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b));
        ensure!(equal, "{question}: {a:?} of ours, {b:?} of {engine}");
    }
    Ok(())
}

/// Numbers are equal within what floats lose; times may be told as seconds.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(1.0),
        _ => a == b,
    }
}

fn number(value: &Value) -> Option<f64> {
    let text = match value {
        Value::Number(number) => return number.as_f64(),
        Value::String(text) => text,
        _ => return None,
    };
    let time = chrono::DateTime::parse_from_rfc3339(text).ok();
    let seconds = time.map(|t| t.timestamp_micros() as f64 / 1e6);
    seconds.or_else(|| text.parse().ok())
}
