//! What a predicate may be made of.

use datafusion::{
    common::tree_node::{TreeNode as _, TreeNodeRecursion},
    logical_expr::{Between, Case, Expr, Operator, expr::InList},
};

/// Parts of a predicate: evaluating it walks them one in the other.
const PARTS: usize = 300;

/// Steps of its evaluation. What is planned as several comparisons evaluates its operand as often: one in
/// the other, twenty of them hold up a partition's readings for seconds.
const STEPS: u64 = 5000;

/// The functions that a predicate may call: each is of one row alone, and fails for none. (A square
/// root or a logarithm of one device's negative number would end the evaluation of all others.)
const FUNCTIONS: &[&str] = &[
    "abs", "cbrt", "ceil", "coalesce", "exp", "floor", "greatest", "isnan", "least", "lower",
    "nanvl", "nullif", "nvl", "round", "signum", "trunc", "upper",
];

/// The operators that a predicate may have.
const OPERATORS: [Operator; 13] = [
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
    Operator::And,
    Operator::Or,
    Operator::Plus,
    Operator::Minus,
    Operator::Multiply,
    Operator::Divide,
    Operator::Modulo,
];

/// Only what is of one row, and the same whenever it is asked.
pub(super) fn check(expr: &Expr) -> std::result::Result<(), (String, String)> {
    let (mut fault, mut parts) = (None, 0);
    let walked = expr.apply(|node| {
        parts += 1;
        fault = match node {
            _ if parts > PARTS => Some((String::new(), format!("it has more than {PARTS} parts"))),
            Expr::BinaryExpr(binary) if !OPERATORS.contains(&binary.op) => {
                let op = binary.op.to_string();
                let message = format!("the operator {op} can't be used");
                Some((op, message))
            }
            Expr::Cast(_) => {
                Some(("cast".to_owned(), "CAST can't be used; TRY_CAST can".to_owned()))
            }
            Expr::ScalarFunction(call) if !FUNCTIONS.contains(&call.name()) => Some((
                call.name().to_owned(),
                format!("the function {} can't be used", call.name()),
            )),
            Expr::ScalarFunction(_)
            | Expr::Alias(_)
            | Expr::Column(_)
            | Expr::Literal(..)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::TryCast(_)
            | Expr::InList(_) => None,
            other => {
                let name = other.variant_name();
                Some((String::new(), format!("{name} can't be used: a rule is of one reading")))
            }
        };
        Ok(if fault.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (walked, fault) {
        (_, Some(fault)) => Err(fault),
        (Ok(_), None) if steps(expr) > STEPS => {
            let message = format!(
                "it takes more than {STEPS} steps: BETWEEN, IN and CASE are nested too often"
            );
            Err((String::new(), message))
        }
        (Err(error), None) => Err((String::new(), error.to_string())),
        (Ok(_), None) => Ok(()),
    }
}

/// How many steps an evaluation takes at most.
fn steps(expr: &Expr) -> u64 {
    let times = |n: usize, expr: &Expr| steps(expr).saturating_mul(n as u64);
    let sum = |all: &mut dyn Iterator<Item = u64>| all.fold(1, u64::saturating_add);
    match expr {
        Expr::Between(Between { expr, low, high, .. }) => {
            sum(&mut [times(2, expr), steps(low), steps(high)].into_iter())
        }
        Expr::InList(InList { expr, list, .. }) => {
            sum(&mut [times(list.len().min(3), expr)].into_iter().chain(list.iter().map(steps)))
        }
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let base = expr.iter().map(|expr| times(when_then_expr.len(), expr));
            let cases = when_then_expr.iter().flat_map(|(w, t)| [times(2, w), steps(t)]);
            sum(&mut base.chain(cases).chain(else_expr.iter().map(|expr| steps(expr))))
        }
        other => {
            let mut all = 1_u64;
            let walked = other.apply_children(|child| {
                all = all.saturating_add(steps(child));
                Ok(TreeNodeRecursion::Continue)
            });
            walked.map_or(u64::MAX, |_| all)
        }
    }
}
