//! Tells `counter_delta` which device each reading is of, wherever that is known: the counters of several
//! have nothing to do with each other, and of one its meter is known.

use std::sync::Arc;

use datafusion::{
    common::{
        Column, DFSchema,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _},
    },
    error::Result,
    logical_expr::{Aggregate, Expr, LogicalPlan, expr_rewriter::NamePreserver},
    optimizer::AnalyzerRule,
};

use super::counter_delta::NAME;

const DEVICE: &str = "device_id";

/// See the module.
#[derive(Debug)]
pub(super) struct KnowDevices;

impl AnalyzerRule for KnowDevices {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) => named(aggregate),
            other => Ok(Transformed::no(other)),
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "know_devices"
    }
}

fn named(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new_for_projection();
    let mut changed = false;
    let mut exprs = Vec::with_capacity(aggregate.aggr_expr.len());
    for expr in &aggregate.aggr_expr {
        // What is above knows the column by its name.
        let name = names.save(expr);
        let schema = aggregate.input.schema();
        let done = expr.clone().transform_up(|expr| Ok(with_device(expr, schema)))?;
        changed |= done.transformed;
        exprs.push(if done.transformed { name.restore(done.data) } else { done.data });
    }
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let Aggregate { input, group_expr, .. } = aggregate;
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, exprs)?)))
}

fn with_device(expr: Expr, schema: &Arc<DFSchema>) -> Transformed<Expr> {
    let Expr::AggregateFunction(mut function) = expr else { return Transformed::no(expr) };
    let device = match function.params.args.as_slice() {
        [_, ts] if function.func.name() == NAME => device_beside(ts, schema),
        _ => None,
    };
    match device {
        Some(device) => {
            function.params.args.push(Expr::Column(device));
            Transformed::yes(Expr::AggregateFunction(function))
        }
        None => Transformed::no(Expr::AggregateFunction(function)),
    }
}

/// The column of the device's id in the relation that a time is of, or the only one there is.
fn device_beside(ts: &Expr, schema: &DFSchema) -> Option<Column> {
    let relations: Vec<_> =
        ts.column_refs().into_iter().filter_map(|column| column.relation.clone()).collect();
    let ids: Vec<Column> = schema
        .iter()
        .filter(|(_, field)| field.name() == DEVICE)
        .map(|(relation, field)| Column::new(relation.cloned(), field.name()))
        .collect();
    let same = ids.iter().find(|id| id.relation.as_ref().is_some_and(|r| relations.contains(r)));
    match (same, ids.as_slice()) {
        (Some(id), _) | (None, [id]) => Some(id.clone()),
        _ => None,
    }
}
