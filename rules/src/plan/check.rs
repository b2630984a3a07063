//! Which SQL a predicate may use.

use datafusion::{
    common::tree_node::{TreeNode as _, TreeNodeRecursion},
    logical_expr::{
        Between, Case, Expr, Operator,
        expr::{InList, ScalarFunction},
    },
};

/// The number of nodes of a predicate is limited, because evaluation recurses into them.
const MAX_PARTS: usize = 300;

/// The number of evaluation steps is limited too. BETWEEN, IN, CASE and coalesce evaluate an operand several times,
/// so twenty of them nested would block a partition for seconds.
const MAX_STEPS: u64 = 5000;

/// The functions that a predicate may call. Each depends on its row alone and fails for no input: a square
/// root of a negative number from one device would fail the evaluation for all devices of the batch.
const FUNCTIONS: &[&str] = &[
    "abs", "cbrt", "ceil", "coalesce", "exp", "floor", "greatest", "isnan", "least", "lower",
    "nanvl", "nullif", "nvl", "round", "signum", "trunc", "upper",
];

/// The operators that a predicate may use.
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

/// Why an expression is refused, and the word in its text at which.
pub(super) struct Refused {
    pub word: String,
    pub message: String,
}

impl Refused {
    fn at(word: impl Into<String>, message: impl Into<String>) -> Self {
        Self { word: word.into(), message: message.into() }
    }
}

/// Checks that an expression depends on one row alone, is deterministic, and is cheap enough.
pub(super) fn check(expr: &Expr) -> std::result::Result<(), Refused> {
    // A list of what is allowed, and not of what is not: a new version of DataFusion may bring new
    // expressions.
    let (mut fault, mut parts) = (None, 0);
    let walked = expr.apply(|node| {
        parts += 1;
        fault = match node {
            _ if parts > MAX_PARTS => {
                Some(Refused::at("", format!("it has more than {MAX_PARTS} parts")))
            }
            Expr::BinaryExpr(binary) if !OPERATORS.contains(&binary.op) => {
                let op = binary.op.to_string();
                let message = format!("the operator {op} can't be used");
                Some(Refused::at(op, message))
            }
            Expr::Cast(_) => Some(Refused::at("cast", "CAST can't be used; TRY_CAST can")),
            Expr::ScalarFunction(call) if !FUNCTIONS.contains(&call.name()) => {
                let message = format!("the function {} can't be used", call.name());
                Some(Refused::at(call.name(), message))
            }
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
                let message = format!("{name} can't be used: a rule is about one reading");
                Some(Refused::at("", message))
            }
        };
        Ok(if fault.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (walked, fault) {
        (_, Some(fault)) => Err(fault),
        (Ok(_), None) if steps(expr) > MAX_STEPS => {
            let message = format!(
                "it takes more than {MAX_STEPS} steps: BETWEEN, IN, CASE and coalesce are nested too often"
            );
            Err(Refused::at("", message))
        }
        (Err(error), None) => Err(Refused::at("", error.to_string())),
        (Ok(_), None) => Ok(()),
    }
}

/// Whether a call is `coalesce` or `nvl` (also called `ifnull`), its form with two operands.
pub(super) fn is_coalesce(call: &ScalarFunction) -> bool {
    matches!(call.name(), "coalesce" | "nvl")
}

/// The number of evaluation steps, at most.
fn steps(expr: &Expr) -> u64 {
    let times = |n: usize, expr: &Expr| steps(expr).saturating_mul(n as u64);
    let sum = |all: &mut dyn Iterator<Item = u64>| all.fold(1, u64::saturating_add);
    match expr {
        Expr::Between(Between { expr, low, high, .. }) => {
            sum(&mut [times(2, expr), steps(low), steps(high)].into_iter())
        }
        // Each operand is in the CASE that it becomes twice: see `without_coalesce`.
        Expr::ScalarFunction(call) if is_coalesce(call) => {
            sum(&mut call.args.iter().map(|arg| times(2, arg)))
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
