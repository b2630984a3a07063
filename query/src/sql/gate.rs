//! The gate: only the SQL that reads tables, of a size that can be planned, passes. Pure.
//!
//! What DataFusion itself would run but must not: DDL, DML, COPY, SET, files, functions that make
//! something out of nothing (`repeat('x', 2000000000)` ends the process, `range` takes memory
//! outside of any pool), recursion without end, and texts whose plan takes longer than the query.

use std::ops::ControlFlow;

use acuvim_schemas::problem::{Code, Problem};
use datafusion::sql::{
    parser::{DFParserBuilder, Statement},
    sqlparser::{
        ast::{
            self, Expr, FunctionArguments, ObjectName, ObjectNamePart, Query, Select, SetExpr,
            TableFactor, Visit, Visitor,
        },
        dialect::GenericDialect,
        keywords::Keyword,
        tokenizer::{Token, Tokenizer},
    },
};

/// How large a query may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLimits {
    /// Bytes of text.
    pub text: usize,
    /// Keywords and operators: what a plan's depth grows with.
    pub structure: usize,
    /// Words, numbers and texts.
    pub tokens: usize,
    /// Nesting of parentheses and subqueries.
    pub depth: usize,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self { text: 64 << 10, structure: 600, tokens: 8000, depth: 40 }
    }
}

/// The functions that a query may call: each gives at most about as much as it is given.
#[rustfmt::skip]
const FUNCTIONS: &[&str] = &[
    // aggregates
    "approx_distinct", "approx_median", "approx_percentile_cont", "avg", "bit_and", "bit_or",
    "bool_and", "bool_or", "corr", "count", "covar_pop", "covar_samp", "first_value", "last_value",
    "max", "mean", "median", "min", "nth_value", "regr_intercept", "regr_r2", "regr_slope",
    "stddev", "stddev_pop", "stddev_samp", "sum", "var", "var_pop", "var_samp",
    // windows
    "cume_dist", "dense_rank", "lag", "lead", "ntile", "percent_rank", "rank", "row_number",
    // numbers
    "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "cos", "degrees", "exp", "floor",
    "greatest", "isnan", "iszero", "least", "ln", "log", "log10", "log2", "mod", "nanvl", "pi",
    "pow", "power", "radians", "round", "signum", "sin", "sqrt", "tan", "trunc",
    // times
    "current_date", "current_timestamp", "date_bin", "date_format", "date_part", "date_trunc",
    "extract", "from_unixtime", "make_date", "now", "to_char", "to_date", "to_local_time",
    "to_timestamp", "to_timestamp_micros", "to_timestamp_millis", "to_timestamp_seconds",
    "to_unixtime",
    // texts
    "ascii", "bit_length", "btrim", "char_length", "character_length", "concat", "concat_ws",
    "contains", "decode", "encode", "ends_with", "left", "length", "lower", "ltrim",
    "octet_length", "position", "regexp_like", "right", "rtrim", "sha256", "split_part",
    "starts_with", "strpos", "substr", "substring", "trim", "upper",
    // choices and types
    "arrow_cast", "arrow_typeof", "coalesce", "ifnull", "nullif", "nvl", "nvl2",
];

/// Lets a query pass, or says what is wrong with it.
///
/// # Errors
/// A problem with the code `bad_query` that names what is not allowed and what to do.
pub fn check(text: &str, limits: &GateLimits) -> Result<Box<Statement>, Problem> {
    check_size(text, limits)?;
    let mut statements = DFParserBuilder::new(text)
        .with_recursion_limit(limits.depth)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|e| refuse(format!("the query does not parse: {}", plain(&e.to_string()))))?;
    let statement = match (statements.pop_front(), statements.pop_front()) {
        (Some(statement), None) => statement,
        (None, _) => return Err(refuse("the query is empty".to_owned())),
        _ => return Err(refuse("one statement at a time".to_owned())),
    };
    let Statement::Statement(inner) = &statement else { return Err(only_select()) };
    let ast::Statement::Query(query) = inner.as_ref() else { return Err(only_select()) };
    match query.visit(&mut Gate) {
        ControlFlow::Break(problem) => Err(*problem),
        ControlFlow::Continue(()) => Ok(Box::new(statement)),
    }
}

fn refuse(detail: String) -> Problem {
    Problem::new(Code::BadQuery, detail)
}

fn only_select() -> Problem {
    refuse("only a SELECT can run here".to_owned())
}

fn plain(error: &str) -> &str {
    error.strip_prefix("SQL error: ").unwrap_or(error)
}

/// Bounds a query before anything recursive looks at it.
fn check_size(text: &str, limits: &GateLimits) -> Result<(), Problem> {
    if text.len() > limits.text {
        return Err(refuse(format!("the query is over {} bytes", limits.text)));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize()
        .map_err(|e| refuse(format!("the query does not parse: {e}")))?;
    let (mut structure, mut plain) = (0, 0);
    for token in &tokens {
        match token {
            Token::Whitespace(_) => {}
            Token::Word(word) if word.keyword == Keyword::NoKeyword => plain += 1,
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Comma
            | Token::Period
            | Token::Placeholder(_) => plain += 1,
            _ => structure += 1,
        }
    }
    if structure > limits.structure || plain > limits.tokens {
        return Err(refuse(format!(
            "the query is too complex: {structure} keywords and operators (at most {}), {plain} \
             words and values (at most {})",
            limits.structure, limits.tokens
        )));
    }
    Ok(())
}

/// Looks at every part of a query.
struct Gate;

impl Gate {
    fn stop(detail: impl Into<String>) -> ControlFlow<Box<Problem>> {
        ControlFlow::Break(Box::new(refuse(detail.into())))
    }
}

impl Visitor for Gate {
    type Break = Box<Problem>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            return Self::stop("WITH RECURSIVE is not allowed");
        }
        if !query.locks.is_empty() || query.for_clause.is_some() || query.settings.is_some() {
            return Self::stop("FOR and SETTINGS are not allowed");
        }
        match query.body.as_ref() {
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } => {
                ControlFlow::Continue(())
            }
            SetExpr::Values(_) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(Box::new(only_select())),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        if select.into.is_some() {
            return Self::stop("SELECT INTO is not allowed");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            _ => Self::stop("only tables and subqueries can stand in FROM"),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = name_of(&function.name);
        if name.as_deref().is_none_or(|name| !FUNCTIONS.contains(&name)) {
            let name = &function.name;
            return Self::stop(format!("the function {name} is not allowed here"));
        }
        if matches!(function.args, FunctionArguments::Subquery(_)) {
            return Self::stop("a subquery can't be a function's argument");
        }
        ControlFlow::Continue(())
    }
}

fn name_of(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(ident.value.to_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(text: &str) -> Result<(), String> {
        check(text, &GateLimits::default()).map(|_| ()).map_err(|problem| problem.detail)
    }

    #[test]
    fn what_reads_tables_passes() {
        for good in [
            "SELECT 1",
            "select device_id, count(*) from telemetry group by 1 order by 2 desc limit 5;",
            "WITH x AS (SELECT * FROM telemetry) SELECT avg(voltage_l1_v) FROM x JOIN devices USING (device_id)",
            "SELECT a FROM (SELECT 1 AS a) UNION ALL SELECT 2",
            "SELECT row_number() OVER (PARTITION BY device_id ORDER BY ts) FROM telemetry",
            "SELECT date_bin(INTERVAL '5 minutes', ts), EXTRACT(hour FROM ts) FROM telemetry WHERE ts > $1",
            "SELECT CASE WHEN a IS NULL THEN 1 ELSE 2 END FROM (VALUES (1), (2)) AS t(a)",
            "SELECT count(*) FROM telemetry WHERE device_id IN (SELECT device_id FROM devices)",
        ] {
            assert_eq!(verdict(good), Ok(()), "{good}");
        }
        let list = (0..3000).map(|i| format!("'d{i}'")).collect::<Vec<_>>().join(",");
        assert_eq!(
            verdict(&format!("SELECT 1 FROM telemetry WHERE device_id IN ({list})")),
            Ok(())
        );
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for (bad, why) in [
            ("", "empty"),
            ("SELEC 1", "does not parse"),
            ("SELECT 1; SELECT 2", "one statement"),
            ("DROP TABLE telemetry", "only a SELECT"),
            ("CREATE TABLE x AS SELECT 1", "only a SELECT"),
            ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", "only a SELECT"),
            ("INSERT INTO telemetry SELECT * FROM telemetry", "only a SELECT"),
            ("DELETE FROM telemetry", "only a SELECT"),
            ("UPDATE telemetry SET seq = 1", "only a SELECT"),
            ("COPY telemetry TO '/tmp/x'", "only a SELECT"),
            ("COPY (SELECT 1) TO '/tmp/x'", "only a SELECT"),
            ("SET datafusion.execution.batch_size = 1", "only a SELECT"),
            ("SHOW ALL", "only a SELECT"),
            ("PREPARE p AS SELECT 1", "only a SELECT"),
            ("EXPLAIN SELECT 1", "only a SELECT"),
            ("TABLE telemetry", ""),
            ("SELECT 1 INTO x", "INTO"),
            (
                "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT * FROM n) SELECT * FROM n",
                "RECURSIVE",
            ),
            ("SELECT 1 FROM (WITH RECURSIVE n AS (SELECT 1) SELECT * FROM n)", "RECURSIVE"),
            ("SELECT repeat('x', 2000000000)", "repeat"),
            ("SELECT * FROM range(0, 400000000)", "FROM"),
            ("SELECT * FROM generate_series(1, 10)", "FROM"),
            ("SELECT unnest(range(0, 400000000))", "not allowed"),
            ("SELECT datafusion.public.repeat('x', 9)", "not allowed"),
            ("SELECT \"REPEAT\"('x', 9)", "not allowed"),
            ("SELECT a FROM telemetry WHERE array_repeat(1, 9) IS NULL", "array_repeat"),
            ("SELECT count(*) FILTER (WHERE lpad('x', 999999999) = 'x') FROM telemetry", "lpad"),
            ("SELECT 1 ORDER BY repeat('x', 9)", "repeat"),
            ("SELECT * FROM telemetry, LATERAL (SELECT repeat('x', 9))", "repeat"),
        ] {
            let got = verdict(bad).expect_err(bad);
            assert!(got.contains(why), "{bad}: {got}");
        }
    }

    #[test]
    fn size_is_judged_before_anything_recursive() {
        for (text, why) in [
            (format!("SELECT {}1", "1+".repeat(20_000)), "complex"),
            (format!("SELECT '{}'", "x".repeat(70_000)), "over"),
            (format!("SELECT {}1{}", "(".repeat(200), ")".repeat(200)), ""),
            (format!("SELECT {}1", "NOT ".repeat(5000)), "complex"),
            (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(1000)), "complex"),
            (format!("SELECT {}", vec!["1"; 9000].join(",")), "complex"),
            (format!("SELECT {}1", "-".repeat(300)), ""),
        ] {
            if let Err(got) = verdict(&text) {
                assert!(got.contains(why), "{got}");
            } else {
                assert_eq!(why, "", "must not pass");
            }
        }
        assert_eq!(verdict(&format!("SELECT {}1", "1+".repeat(500))), Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,200}") {
            let _ = verdict(&text);
        }

        #[test]
        fn any_words_are_answered(
            words in proptest::collection::vec(
                prop_oneof![Just("SELECT"), Just("FROM"), Just("telemetry"), Just("("), Just(")"),
                    Just(","), Just("repeat"), Just("'x'"), Just("1"), Just("WITH"), Just("AS"),
                    Just("UNION"), Just("*"), Just("WHERE"), Just("count"), Just("INTO")], 0..30),
        ) {
            let _ = verdict(&words.join(" "));
        }
    }
}
