//! Names for casts. The engine names `CAST(x AS DOUBLE)` and `ts AT TIME ZONE '...'` like the column in them,
//! `telemetry.x`. If a SELECT or ORDER BY names that column too, there are two of one name, and planning
//! fails. PostgreSQL names a cast `x`, and an ORDER BY of that name sorts by the cast.

use std::ops::ControlFlow;

use datafusion::sql::{
    parser::Statement,
    sqlparser::ast::{
        Distinct, Expr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, VisitMut as _,
        VisitorMut,
    },
};

/// Names the casts that the engine could not tell from their columns.
pub(super) fn name_casts(statement: &mut Statement) {
    if let Statement::Statement(inner) = statement {
        let _: ControlFlow<()> = inner.visit(&mut Names);
    }
}

struct Names;

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let by = match query.order_by.as_ref().map(|order| &order.kind) {
            Some(OrderByKind::Expressions(by)) => by.iter().map(|by| &by.expr),
            _ => return ControlFlow::Continue(()),
        };
        // A name with its table before it is that table's column, never a cast.
        let bare = by.filter(|by| matches!(by, Expr::Identifier(_)));
        let names: Vec<Ident> = bare.filter_map(plain).cloned().collect();
        // DISTINCT ON sorts the rows that it chooses from, not those that it answers.
        if let Some(select) = first_select(&mut query.body)
            && !matches!(select.distinct, Some(Distinct::On(_)))
        {
            names.into_iter().for_each(|name| name_sorted(select, name));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for at in 0..select.projection.len() {
            name_beside_its_column(select, at);
        }
        ControlFlow::Continue(())
    }
}

/// The SELECT whose items name a query's columns.
fn first_select(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&mut query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

/// The only cast of a column that an ORDER BY names gets that name, unless something else has it.
fn name_sorted(select: &mut Select, name: Ident) {
    let same = |ident: &Ident| is_same(ident, &name);
    if select.projection.iter().any(|item| is_wild(item) || named(item).is_some_and(same)) {
        return;
    }
    let mut casts = select.projection.iter_mut().filter(|item| cast_of(item).is_some_and(same));
    if let (Some(item), None) = (casts.next(), casts.next()) {
        give(item, name);
    }
}

/// A cast beside its own column, or beside another cast of that column, is named by its text.
fn name_beside_its_column(select: &mut Select, at: usize) {
    let Some(column) = select.projection.get(at).and_then(cast_of) else { return };
    let is_taken = |(n, item): (usize, &SelectItem)| {
        let other = match item {
            SelectItem::UnnamedExpr(expr) => plain(expr).or_else(|| cast_of(item)),
            _ => None,
        };
        n != at && (is_wild(item) || other.is_some_and(|other| is_same(other, column)))
    };
    if select.projection.iter().enumerate().any(is_taken)
        && let Some(item) = select.projection.get_mut(at)
    {
        let text = item.to_string();
        give(item, Ident::with_quote('"', text));
    }
}

fn give(item: &mut SelectItem, alias: Ident) {
    if let SelectItem::UnnamedExpr(expr) = item {
        let expr = expr.clone();
        *item = SelectItem::ExprWithAlias { expr, alias };
    }
}

/// The name of an item without our doing.
fn named(item: &SelectItem) -> Option<&Ident> {
    match item {
        SelectItem::UnnamedExpr(expr) => plain(expr),
        SelectItem::ExprWithAlias { alias, .. } => Some(alias),
        _ => None,
    }
}

const fn is_wild(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

/// The column that an unnamed item casts.
fn cast_of(item: &SelectItem) -> Option<&Ident> {
    match item {
        SelectItem::UnnamedExpr(expr) if plain(expr).is_none() => inmost(expr),
        _ => None,
    }
}

fn inmost(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Cast { expr, .. } | Expr::AtTimeZone { timestamp: expr, .. } | Expr::Nested(expr) => {
            inmost(expr)
        }
        other => plain(other),
    }
}

/// The column that an expression is.
fn plain(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    }
}

/// Whether two names are the same; without quotes a name is in lower case.
fn is_same(one: &Ident, other: &Ident) -> bool {
    let text = |ident: &Ident| match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    };
    text(one) == text(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn rewritten(sql: &str) -> String {
        let mut statements = DFParser::parse_sql(sql).expect("SQL");
        let mut statement = statements.pop_front().expect("a statement");
        name_casts(&mut statement);
        statement.to_string()
    }

    #[test]
    fn casts_are_named_where_they_would_clash() {
        for (sql, wanted) in [
            (
                "SELECT CAST(t.x AS DOUBLE) FROM t ORDER BY X DESC",
                "SELECT CAST(t.x AS DOUBLE) AS X FROM t ORDER BY X DESC",
            ),
            (
                "SELECT ts AT TIME ZONE 'UTC' FROM t ORDER BY ts",
                "SELECT ts AT TIME ZONE 'UTC' AS ts FROM t ORDER BY ts",
            ),
            (
                "SELECT x::DOUBLE FROM t UNION ALL SELECT 1.0 ORDER BY x",
                "SELECT x::DOUBLE AS x FROM t UNION ALL SELECT 1.0 ORDER BY x",
            ),
            (
                "SELECT x, CAST(x AS DOUBLE) FROM t ORDER BY x",
                "SELECT x, CAST(x AS DOUBLE) AS \"CAST(x AS DOUBLE)\" FROM t ORDER BY x",
            ),
            (
                "SELECT CAST(x AS DOUBLE), CAST(x AS BIGINT) FROM t",
                "SELECT CAST(x AS DOUBLE) AS \"CAST(x AS DOUBLE)\", CAST(x AS BIGINT) FROM t",
            ),
            (
                "SELECT a FROM (SELECT CAST(x AS DOUBLE) FROM t ORDER BY x) AS q(a)",
                "SELECT a FROM (SELECT CAST(x AS DOUBLE) AS x FROM t ORDER BY x) AS q (a)",
            ),
            (
                "SELECT t.*, (x::BIGINT)::DOUBLE FROM t",
                "SELECT t.*, (x::BIGINT)::DOUBLE AS \"(x::BIGINT)::DOUBLE\" FROM t",
            ),
            (
                "SELECT *, CAST(x AS DOUBLE) FROM t",
                "SELECT *, CAST(x AS DOUBLE) AS \"CAST(x AS DOUBLE)\" FROM t",
            ),
        ] {
            assert_eq!(rewritten(sql), wanted);
        }
    }

    #[test]
    fn everything_else_keeps_its_name() {
        for sql in [
            "SELECT CAST(x AS DOUBLE) FROM t",
            "SELECT CAST(x AS DOUBLE) AS y FROM t ORDER BY x",
            "SELECT CAST(x AS DOUBLE), y AS x FROM t ORDER BY x",
            "SELECT CAST(x AS DOUBLE) FROM t ORDER BY y",
            "SELECT x, y FROM t ORDER BY x",
            "SELECT (x) FROM t ORDER BY x + 1",
            // A column of a table is never a cast, and two casts can't share one name.
            "SELECT CAST(x AS DOUBLE) FROM t ORDER BY t.x",
            "SELECT DISTINCT ON (x) CAST(x AS DOUBLE) FROM t ORDER BY x",
            "SELECT CAST(x AS DOUBLE) FROM t ORDER BY \"X\"",
            "SELECT sum(x) FROM t ORDER BY x",
            "SELECT CAST(x AS DOUBLE) FROM t LIMIT 1",
        ] {
            assert_eq!(rewritten(sql), sql);
        }
    }
}
