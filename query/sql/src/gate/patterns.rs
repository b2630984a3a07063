//! Patterns, formats and regular expressions must be short, and regular expressions the same for every row.

use std::ops::ControlFlow;

use acuvim_model::problem::Problem;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, visit_expressions};

use super::{Gate, size_of_named};

impl Gate {
    /// Bounds a pattern or format. One that comes from a column of a subquery may be as long as the longest
    /// string in the query.
    pub(super) fn check_pattern(&self, pattern: &Expr) -> ControlFlow<Box<Problem>> {
        let (mut written, mut longest) = (0_usize, 0);
        let _: ControlFlow<()> = visit_expressions(pattern, |part| {
            match part {
                Expr::Value(value) => {
                    let text = value.to_string();
                    written += match text.starts_with('$') {
                        true => size_of_named(&text, &self.sizes),
                        false => text.len(),
                    };
                }
                Expr::BinaryOp { .. } | Expr::Nested(_) | Expr::Cast { .. } => {}
                _ => longest = self.longest,
            }
            ControlFlow::Continue(())
        });
        match written.max(longest) > self.limits.pattern {
            true => {
                Self::stop(format!("a pattern or format of over {} bytes", self.limits.pattern))
            }
            false => ControlFlow::Continue(()),
        }
    }

    /// A regular expression is compiled for each of its values, and takes much more memory than its text. So
    /// it must be the same for every row, and all of a query's regular expressions together must be short.
    pub(super) fn check_regex(&mut self, pattern: &Expr) -> ControlFlow<Box<Problem>> {
        self.check_pattern(pattern)?;
        let mut is_constant = true;
        let _: ControlFlow<()> = visit_expressions(pattern, |part| {
            is_constant &= matches!(
                part,
                Expr::Value(_) | Expr::Nested(_) | Expr::Cast { .. } | Expr::BinaryOp { .. }
            );
            ControlFlow::Continue(())
        });
        if !is_constant {
            return Self::stop("a regular expression must be a text, not a column or a function");
        }
        self.regexes += pattern.to_string().len();
        match self.regexes > 4 * self.limits.pattern {
            true => Self::stop(format!(
                "regular expressions of over {} bytes together",
                4 * self.limits.pattern
            )),
            false => ControlFlow::Continue(()),
        }
    }
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
