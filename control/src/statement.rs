//! SQL that is assembled from fixed pieces, for lists with filters.

use sqlx::AssertSqlSafe;

use crate::value::Value;

/// A statement with its values. Its text consists of literals of this crate only, so that nothing from
/// outside can become SQL; anything else is bound as a value.
///
/// sqlx's `QueryBuilder` is for one database only, and these statements run on both.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// The texts before, between and after the values: always one more than there are values.
    texts: Vec<String>,
    values: Vec<Value>,
}

impl Statement {
    pub fn new(text: &'static str) -> Self {
        let mut statement = Self { texts: vec![String::new()], values: Vec::new() };
        statement.push(text, []);
        statement
    }

    pub fn select(columns: &'static str) -> Self {
        let mut statement = Self::new("SELECT");
        statement.push(columns, []);
        statement
    }

    fn text(&mut self, piece: &str) {
        if let Some(last) = self.texts.last_mut() {
            last.push_str(piece);
        }
    }

    /// Appends a piece. Each `?` in it stands for the next of the values.
    pub fn push(&mut self, piece: &'static str, values: impl IntoIterator<Item = Value>) {
        let mut values = values.into_iter();
        for (n, part) in piece.split('?').enumerate() {
            if n > 0
                && let Some(value) = values.next()
            {
                self.values.push(value);
                self.texts.push(String::new());
            }
            self.text(part);
        }
        self.text(" ");
    }

    /// Appends a list of these values: `(?, ?, ...)`.
    pub fn push_list(&mut self, values: impl IntoIterator<Item = Value>) {
        self.text("(");
        for (n, value) in values.into_iter().enumerate() {
            self.push(if n == 0 { "?" } else { ", ?" }, [value]);
        }
        self.text(") ");
    }

    /// Appends another statement.
    pub fn append(&mut self, other: &Self) {
        let mut texts = other.texts.iter();
        if let Some(first) = texts.next() {
            self.text(first);
        }
        self.texts.extend(texts.cloned());
        self.values.extend(other.values.iter().cloned());
    }

    /// The text with numbered placeholders, and the values.
    pub fn into_parts(self) -> (AssertSqlSafe<String>, Vec<Value>) {
        let mut text = String::new();
        for (n, part) in self.texts.iter().enumerate() {
            if n > 0 {
                text.push_str(&format!("${n}"));
            }
            text.push_str(part);
        }
        (AssertSqlSafe(text), self.values)
    }
}

#[cfg(test)]
mod tests;
