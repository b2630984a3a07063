//! Patterns, formats and regular expressions must be short, and regular expressions the same for every row.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value, visit_expressions};

/// The patterns of a query, checked one by one.
pub(super) struct Patterns {
    /// Bytes that a pattern may have.
    pub limit: usize,
    /// Bytes of each parameter.
    pub sizes: Vec<usize>,
    /// Bytes of the longest word or value of the query.
    pub longest: usize,
    /// Bytes of the regular expressions so far.
    pub regexes: usize,
}

impl Patterns {
    /// Bounds a pattern or format, and answers with the bytes that it spells out. One that comes from a column
    /// of a subquery may be as long as the longest string in the query.
    pub(super) fn check(&self, pattern: &Expr) -> Result<usize, String> {
        let (mut written, mut longest) = (0_usize, 0);
        let _: ControlFlow<()> = visit_expressions(pattern, |part| {
            match part {
                // By its kind, not by its first character: a text may be quoted with dollars too.
                Expr::Value(value) => {
                    written += match &value.value {
                        Value::Placeholder(name) => size_of_named(name, &self.sizes),
                        text => text.to_string().len(),
                    };
                }
                Expr::BinaryOp { .. } | Expr::Nested(_) | Expr::Cast { .. } => {}
                _ => longest = self.longest,
            }
            ControlFlow::Continue(())
        });
        match written.max(longest) > self.limit {
            true => Err(format!("a pattern or format of over {} bytes", self.limit)),
            false => Ok(written),
        }
    }

    /// A regular expression is compiled for each of its values, and takes much more memory than its text. So
    /// it must be the same for every row, and all of a query's regular expressions together must be short.
    pub(super) fn check_regex(&mut self, pattern: &Expr) -> Result<(), String> {
        let written = self.check(pattern)?;
        let mut is_constant = true;
        let _: ControlFlow<()> = visit_expressions(pattern, |part| {
            is_constant &= matches!(
                part,
                Expr::Value(_) | Expr::Nested(_) | Expr::Cast { .. } | Expr::BinaryOp { .. }
            );
            ControlFlow::Continue(())
        });
        if !is_constant {
            let detail = "a regular expression must be a text, not a column or a function";
            return Err(detail.to_owned());
        }
        // A parameter counts with the bytes of its value, not with those of its name.
        self.regexes += written;
        match self.regexes > 4 * self.limit {
            true => Err(format!("regular expressions of over {} bytes together", 4 * self.limit)),
            false => Ok(()),
        }
    }
}

/// Bytes of the parameter of a name; of the largest one, if the name is not a number.
pub(super) fn size_of_named(name: &str, sizes: &[usize]) -> usize {
    let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
    let named = number.map(|n| n.checked_sub(1).and_then(|at| sizes.get(at)));
    named.unwrap_or_else(|| sizes.iter().max()).copied().unwrap_or_default()
}

/// Whether an operator's right side is a regular expression.
pub(super) const fn is_regex(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::PGRegexMatch
            | BinaryOperator::PGRegexIMatch
            | BinaryOperator::PGRegexNotMatch
            | BinaryOperator::PGRegexNotIMatch
    )
}

/// Whether an operator's right side is a pattern.
pub(super) const fn is_match(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::PGRegexMatch
            | BinaryOperator::PGRegexIMatch
            | BinaryOperator::PGRegexNotMatch
            | BinaryOperator::PGRegexNotIMatch
            | BinaryOperator::PGLikeMatch
            | BinaryOperator::PGILikeMatch
            | BinaryOperator::PGNotLikeMatch
            | BinaryOperator::PGNotILikeMatch
    )
}
