//! How large a plan becomes once the optimizer has expanded it.
//!
//! The optimizer pushes filters below projections and replaces each column by its expression; BETWEEN, CASE,
//! coalesce and short lists repeat their operand. Each level of a nested query may so multiply what is below
//! it, and 700 characters can take all memory before any limit of the engine applies. The plan is therefore
//! measured before it is optimized, which costs next to nothing.

use std::collections::HashMap;

use datafusion::{
    common::{
        Column,
        tree_node::{TreeNode as _, TreeNodeRecursion},
    },
    error::{DataFusionError, Result},
    logical_expr::{BinaryExpr, Case, Expr, LogicalPlan, expr::InList},
};

/// Nodes of an expanded expression: more than any text could spell out.
const MOST_PARTS: u64 = 50_000;

/// Steps of a plan: each use of a query in WITH is a copy of it.
const MOST_STEPS: usize = 2000;

/// Lists up to this length become comparisons, each with a copy of the operand.
const SHORT_LIST: usize = 3;

/// Functions that become a CASE, which has each argument twice.
const BECOME_CASES: [&str; 3] = ["coalesce", "nvl", "nvl2"];

/// Refuses a plan that would become too large.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    Growth { steps: 0 }.columns(plan).map(|_| ())
}

/// The size of each column's expanded expression.
type Parts = HashMap<Column, u64>;

struct Growth {
    steps: usize,
}

impl Growth {
    /// The size of each column of a plan's rows.
    fn columns(&mut self, plan: &LogicalPlan) -> Result<Vec<u64>> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return Err(too_large("it uses its queries in WITH too often"));
        }
        plan.apply_subqueries(|inner| self.columns(inner).map(|_| TreeNodeRecursion::Continue))?;
        let (mut parts, mut below) = (Parts::new(), Vec::new());
        for input in plan.inputs() {
            let sizes = self.columns(input)?;
            parts.extend(input.schema().columns().into_iter().zip(sizes.iter().copied()));
            below.extend(sizes);
        }
        plan.apply_expressions(|expr| match written(expr, &parts) > MOST_PARTS {
            true => Err(too_large("its columns are made of each other too many times")),
            false => Ok(TreeNodeRecursion::Continue),
        })?;
        Ok(of_rows(plan, &parts, below))
    }
}

fn too_large(why: &str) -> DataFusionError {
    let text =
        format!("the query is too complex: {why}; nest fewer queries, or name them less often");
    DataFusionError::Plan(text)
}

/// The sizes of a step's columns, by those of the steps below it. The results of aggregates and windows are
/// values, which are expanded no further.
fn of_rows(plan: &LogicalPlan, parts: &Parts, below: Vec<u64>) -> Vec<u64> {
    let fields = plan.schema().fields().len();
    let sizes = |of: &[Expr]| of.iter().map(|expr| written(expr, parts)).collect::<Vec<_>>();
    let sizes: Vec<u64> = match plan {
        LogicalPlan::Projection(projection) => sizes(&projection.expr),
        LogicalPlan::Aggregate(groups) => {
            let mut sizes = sizes(&groups.group_expr);
            sizes.extend(vec![1; groups.aggr_expr.len()]);
            sizes
        }
        LogicalPlan::Window(window) => {
            below.iter().copied().chain(vec![1; window.window_expr.len()]).collect()
        }
        _ => below,
    };
    if sizes.len() == fields {
        return sizes;
    }
    // Of unions, and of joins that keep one side, each column counts as the largest.
    vec![sizes.into_iter().max().unwrap_or(1); fields]
}

/// The size of an expression with every column replaced by its own expression.
fn written(expr: &Expr, parts: &Parts) -> u64 {
    let of = |expr: &Expr| written(expr, parts);
    let times = |n: usize, expr: &Expr| of(expr).saturating_mul(n as u64);
    match expr {
        Expr::Column(column) => parts.get(column).copied().unwrap_or(1),
        Expr::Between(between) => {
            sum([times(2, &between.expr), of(&between.low), of(&between.high)])
        }
        Expr::InList(InList { expr, list, .. }) if list.len() <= SHORT_LIST => {
            sum([times(list.len(), expr)].into_iter().chain(list.iter().map(of)))
        }
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let base = expr.iter().map(|expr| times(when_then_expr.len(), expr));
            let cases = when_then_expr.iter().flat_map(|(when, then)| [times(2, when), of(then)]);
            sum(base.chain(cases).chain(else_expr.iter().map(|expr| of(expr))))
        }
        Expr::ScalarFunction(call) if BECOME_CASES.contains(&call.name()) => {
            sum(call.args.iter().map(|arg| times(2, arg)))
        }
        // `date_part('year', x) = 2026` becomes two comparisons of x.
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.supports_propagation() => {
            sum([times(2, left), times(2, right)])
        }
        other => {
            let mut all = 1_u64;
            let children = other.apply_children(|child| {
                all = all.saturating_add(of(child));
                Ok(TreeNodeRecursion::Continue)
            });
            // This fails only if the closure does, which it never does.
            children.map_or(u64::MAX, |_| all)
        }
    }
}

fn sum(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(1, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::RecordBatch,
        datatypes::{DataType, Field, Schema},
    };
    use datafusion::prelude::SessionContext;
    use std::sync::Arc;

    /// Runs a test with as much stack as queries have.
    fn on_a_query_thread(test: impl Future<Output = ()> + Send + 'static) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let stack = crate::SqlLimits::default().stack;
        let thread = std::thread::Builder::new().stack_size(stack);
        let ran = thread.spawn(move || runtime.block_on(test)).expect("a thread").join();
        ran.expect("the test passes");
    }

    async fn verdict(sql: &str) -> std::result::Result<(), String> {
        let context = SessionContext::new();
        let column = |name: &str| Field::new(name, DataType::Float64, true);
        let schema = Arc::new(Schema::new(vec![column("x"), column("y")]));
        context.register_batch("t", RecordBatch::new_empty(schema)).expect("a table");
        let plan = context.state().create_logical_plan(sql).await.expect(sql);
        check(&plan).map_err(|error| error.to_string())
    }

    fn nested(levels: usize, inner: &str, outer: impl Fn(&str) -> String) -> String {
        (0..levels).fold(inner.to_owned(), |text, _| outer(&text))
    }

    /// Each level names the column of the one below so many times.
    fn projections(levels: usize, times: usize) -> String {
        let sum = vec!["x"; times].join("+");
        let rows = nested(levels, "SELECT x FROM t", |q| format!("SELECT {sum} AS x FROM ({q})"));
        format!("SELECT count(*) FROM ({rows}) WHERE x > 5")
    }

    #[test]
    fn what_multiplies_is_refused_before_it_does() {
        on_a_query_thread(refused());
    }

    #[test]
    fn what_people_write_passes() {
        on_a_query_thread(passed());
    }

    async fn refused() {
        let case = |x: &str| format!("CASE WHEN {x} THEN x > 1 ELSE y > 1 END");
        let between = |x: &str| format!("CASE WHEN {x} BETWEEN 1 AND 5 THEN 1 ELSE 0 END");
        let listed = |x: &str| format!("CASE WHEN {x} IN (1, 2, 3) THEN 1 ELSE 0 END");
        let coalesced = |x: &str| format!("coalesce({x} + 1, 0)");
        let chosen = |x: &str| format!("nvl({x} + 1, 0)");
        let copies: Vec<String> = (1..8)
            .map(|n| format!("c{n} AS (SELECT a.x FROM c{0} a, c{0} b, c{0} c)", n - 1))
            .collect();
        for sql in [
            projections(11, 20),
            projections(16, 2),
            format!("SELECT 1 FROM t WHERE {}", nested(16, "x > 0", case)),
            format!("SELECT 1 FROM t WHERE {} > 0", nested(16, "x", between)),
            format!("SELECT 1 FROM t WHERE {} > 0", nested(12, "x", listed)),
            format!("SELECT 1 FROM t WHERE {} > 0", nested(20, "x", coalesced)),
            format!("SELECT 1 FROM t WHERE {} > 0", nested(20, "x", chosen)),
            format!("WITH c0 AS (SELECT x FROM t), {} SELECT x FROM c7", copies.join(",")),
        ] {
            let error = verdict(&sql).await.expect_err(&sql);
            assert!(error.contains("too complex"), "{sql}: {error}");
        }
    }

    async fn passed() {
        let list = (0..3000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let chain = nested(14, "0", |rest| format!("CASE WHEN x > 1 THEN 1 ELSE {rest} END"));
        let days = nested(8, "SELECT x FROM t", |q| {
            format!("SELECT sum(x) OVER (ORDER BY x) + avg(x) OVER () AS x FROM ({q})")
        });
        for sql in [
            projections(3, 4),
            days,
            format!("SELECT count(*) FROM t WHERE x IN ({list})"),
            format!("SELECT {chain} FROM t"),
            format!("SELECT {}x FROM t", "x + ".repeat(300)),
            "SELECT x, count(*) FROM t GROUP BY CUBE (x, y)".to_owned(),
            "SELECT * FROM t a LEFT SEMI JOIN t b ON a.x = b.x UNION ALL SELECT * FROM t"
                .to_owned(),
            "WITH c AS (SELECT x FROM t) SELECT count(*) FROM c a, c b WHERE a.x = b.x".to_owned(),
            "SELECT x FROM t WHERE x > (SELECT avg(y) FROM t) AND EXISTS (SELECT 1 FROM t u WHERE \
             u.x = t.x)"
                .to_owned(),
        ] {
            assert_eq!(verdict(&sql).await, Ok(()), "{sql}");
        }
    }
}
