//! Whether a query can use the order of rows in the files, by device and time.

use std::ops::ControlFlow;

use datafusion::sql::{
    parser::Statement,
    sqlparser::ast::{
        Distinct, Expr, GroupByExpr, OrderByExpr, OrderByKind, Query, Select, Visit, Visitor,
        WindowType,
    },
};

/// Whether a query sorts rows by device first, takes one row of each device, or has windows over each device's
/// rows. Aggregates can't use the order: keeping it takes twice as long as hashing.
pub(super) fn wants_order(statement: &Statement) -> bool {
    let Statement::Statement(inner) = statement else { return false };
    inner.visit(&mut OrderUse).is_break()
}

struct OrderUse;

impl Visitor for OrderUse {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let by = query.order_by.as_ref().map(|order| &order.kind);
        let first = match by {
            Some(OrderByKind::Expressions(by)) => by.first(),
            _ => None,
        };
        let rows = query.body.as_select().is_some_and(has_no_groups);
        if rows && first.is_some_and(|by: &OrderByExpr| is_device(&by.expr)) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        match &select.distinct {
            Some(Distinct::On(by)) if by.first().is_some_and(is_device) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let Some(WindowType::WindowSpec(over)) = &function.over
            && over.partition_by.first().is_some_and(is_device)
        {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

fn has_no_groups(select: &Select) -> bool {
    matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty())
}

fn is_device(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(name) => name.value.eq_ignore_ascii_case("device_id"),
        Expr::CompoundIdentifier(names) => {
            names.last().is_some_and(|name| name.value.eq_ignore_ascii_case("device_id"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    #[test]
    fn what_reads_device_by_device_wants_the_order() {
        for (query, wants) in [
            ("SELECT * FROM telemetry ORDER BY device_id, ts LIMIT 10", true),
            ("SELECT ts FROM telemetry t ORDER BY t.device_id", true),
            ("SELECT DISTINCT ON (device_id) ts FROM telemetry ORDER BY device_id, ts DESC", true),
            ("SELECT lag(ts) OVER (PARTITION BY device_id ORDER BY ts) FROM telemetry", true),
            (
                "SELECT 1 FROM (SELECT row_number() OVER (PARTITION BY device_id ORDER BY ts) AS n FROM telemetry)",
                true,
            ),
            ("WITH a AS (SELECT * FROM telemetry ORDER BY device_id) SELECT count(*) FROM a", true),
            (
                "SELECT device_id, count(*) FROM telemetry GROUP BY device_id ORDER BY device_id",
                false,
            ),
            ("SELECT * FROM telemetry ORDER BY ts DESC LIMIT 10", false),
            ("SELECT count(*) FROM telemetry", false),
            ("SELECT * FROM telemetry ORDER BY ts, device_id", false),
            ("SELECT * FROM telemetry ORDER BY lower(device_id)", false),
            ("SELECT * FROM telemetry ORDER BY DEVICE_ID DESC", true),
            ("SELECT DISTINCT ON (ts) device_id FROM telemetry ORDER BY ts, device_id", false),
            ("SELECT DISTINCT device_id FROM telemetry", false),
            (
                "SELECT lag(ts) OVER (PARTITION BY source, device_id ORDER BY ts) FROM telemetry",
                false,
            ),
            ("SELECT lag(ts) OVER (ORDER BY device_id) FROM telemetry", false),
            (
                "SELECT 1 FROM telemetry WHERE ts IN (SELECT ts FROM telemetry ORDER BY device_id)",
                true,
            ),
        ] {
            let mut statements = DFParser::parse_sql(query).expect("SQL");
            let statement = statements.pop_front().expect("a statement");
            assert_eq!(wants_order(&statement), wants, "{query}");
        }
    }
}
