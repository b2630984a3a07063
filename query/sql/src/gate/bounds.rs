//! Bounds of what a query multiplies: grouping sets, which DataFusion's planner lists before it checks its
//! own limit (a CUBE of forty columns asks for terabytes and ends the process), and sizes that are given to
//! functions.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Value,
};

/// Grouping sets of a query: PostgreSQL allows 4,096, dashboards use a dozen.
pub(super) const GROUPING_SETS: u64 = 64;

/// The centroids of an approximate percentile: ten times DataFusion's default.
const CENTROIDS: f64 = 1000.0;

/// The number of grouping sets of a GROUP BY; `u64::MAX` for more than can be counted.
pub(super) fn grouping_sets(group_by: &GroupByExpr) -> u64 {
    match group_by {
        GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => product(exprs),
        GroupByExpr::All(modifiers) if modifiers.is_empty() => 1,
        // WITH CUBE and the like, of other engines: DataFusion refuses them, but too late.
        GroupByExpr::Expressions(..) | GroupByExpr::All(_) => u64::MAX,
    }
}

/// Each grouping set of one expression is combined with each of the others.
fn product(exprs: &[Expr]) -> u64 {
    exprs.iter().map(sets).fold(1, u64::saturating_mul)
}

fn sets(expr: &Expr) -> u64 {
    let nested =
        |lists: &[Vec<Expr>]| lists.iter().map(|list| product(list)).fold(1, u64::saturating_mul);
    match expr {
        Expr::Cube(lists) => {
            let own = u32::try_from(lists.len()).ok().and_then(|n| 1_u64.checked_shl(n));
            own.unwrap_or(u64::MAX).saturating_mul(nested(lists))
        }
        Expr::Rollup(lists) => (lists.len() as u64).saturating_add(1).saturating_mul(nested(lists)),
        Expr::GroupingSets(lists) => {
            lists.iter().map(|list| product(list)).fold(0, u64::saturating_add)
        }
        Expr::Nested(inner) => sets(inner),
        Expr::Tuple(exprs) => product(exprs),
        _ => 1,
    }
}

/// Whether the centroids of a percentile, which take memory for each group, are a number within bounds.
pub(super) fn is_bounded_percentile(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    for (at, argument) in list.args.iter().enumerate() {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else { return false };
        match number(expr) {
            Some(number) if number > CENTROIDS => return false,
            Some(_) => {}
            // The column comes first, unless it follows WITHIN GROUP. Anywhere else an expression could
            // compute a number of centroids that nothing bounds, such as `1000 * 1000000`.
            None if at == 0 && function.within_group.is_empty() => {}
            None => return false,
        }
    }
    list.args.len() <= 3
}

fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}
