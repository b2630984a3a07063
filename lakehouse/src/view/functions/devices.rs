//! An analyzer rule that adds the device of each reading to the arguments of `counter_delta`, where the
//! query has it. Counters of different devices are unrelated, and the device says which meter's limits
//! apply.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        Column, DFSchema,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode as _},
    },
    error::Result,
    logical_expr::{Aggregate, Expr, LogicalPlan, Window, cast, expr_rewriter::NamePreserver, lit},
    optimizer::AnalyzerRule,
};

use super::counter_delta::{NAME, NET};

const DEVICE: &str = "device_id";

#[derive(Debug)]
pub(super) struct AddDevices;

impl AnalyzerRule for AddDevices {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) => in_aggregate(aggregate),
            LogicalPlan::Window(window) => in_window(window),
            other => Ok(Transformed::no(other)),
        })
        .map(|done| done.data)
    }

    fn name(&self) -> &'static str {
        "add_devices"
    }
}

fn in_aggregate(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let Some(exprs) = rewritten(&aggregate.aggr_expr, aggregate.input.schema())? else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    let Aggregate { input, group_expr, .. } = aggregate;
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, exprs)?)))
}

fn in_window(window: Window) -> Result<Transformed<LogicalPlan>> {
    let Some(exprs) = rewritten(&window.window_expr, window.input.schema())? else {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    };
    Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(exprs, window.input)?)))
}

/// The expressions with devices added; none if there was nothing to add.
fn rewritten(exprs: &[Expr], schema: &Arc<DFSchema>) -> Result<Option<Vec<Expr>>> {
    let names = NamePreserver::new_for_projection();
    let mut changed = false;
    let mut all = Vec::with_capacity(exprs.len());
    for expr in exprs {
        // Plans above refer to the column by its original name.
        let name = names.save(expr);
        let done = expr.clone().transform_up(|expr| Ok(with_device(expr, schema)))?;
        changed |= done.transformed;
        all.push(if done.transformed { name.restore(done.data) } else { done.data });
    }
    Ok(changed.then_some(all))
}

fn with_device(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::AggregateFunction(mut function) if function.func.name() == NAME => {
            let added = add_device(&mut function.params.args, schema);
            Transformed::new_transformed(Expr::AggregateFunction(function), added)
        }
        Expr::WindowFunction(mut window) if window.fun.name() == NAME => {
            let added = add_device(&mut window.params.args, schema);
            Transformed::new_transformed(Expr::WindowFunction(window), added)
        }
        other => Transformed::no(other),
    }
}

/// Adds the device, unless the caller names it, and the kind of counter, which follows from the name of
/// the column. Returns false if both are there already.
fn add_device(args: &mut Vec<Expr>, schema: &DFSchema) -> bool {
    let [value, ts, named @ ..] = args.as_slice() else { return false };
    let kind = if value.to_string().contains("_net_") { NET } else { "" };
    let device = match named {
        // Without a device, all readings are counted as those of one counter.
        [] => Some(device_beside(ts, schema).map_or_else(|| lit(""), Expr::Column)),
        [_] => None,
        _ => return false,
    };
    args.extend(device.map(|device| cast(device, DataType::Utf8)));
    args.push(lit(kind));
    true
}

/// The `device_id` column of the relation that the time belongs to, or the only one there is.
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
        (Some(id), _) => Some(id.clone()),
        // A `device_id` of another table would not be the device of these readings.
        (None, [id]) if relations.is_empty() || id.relation.is_none() => Some(id.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
