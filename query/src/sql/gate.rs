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
            self, BinaryOperator, DataType, Expr, FunctionArguments, ObjectName, ObjectNamePart,
            Query, Select, SetExpr, TableFactor, Visit, Visitor,
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
    /// Names in FROM: each is a table to join.
    pub relations: usize,
    /// Queries in WITH: each use of one is a copy of it.
    pub ctes: usize,
    /// Uses of `||`, each of which may double a text.
    pub concatenations: usize,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            text: 64 << 10,
            structure: 600,
            tokens: 8000,
            depth: 40,
            relations: 20,
            ctes: 8,
            concatenations: 4,
        }
    }
}

/// The functions that a query may call: each gives at most about as much as it is given.
#[rustfmt::skip]
const FUNCTIONS: &[&str] = &[
    // aggregates
    "approx_distinct", "approx_median", "avg", "bit_and", "bit_or",
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
    "ascii", "bit_length", "btrim", "char_length", "character_length", "contains", "decode", "encode", "ends_with", "left", "length", "lower", "ltrim",
    "octet_length", "position", "regexp_like", "right", "rtrim", "sha256", "split_part",
    "starts_with", "strpos", "substr", "substring", "trim", "upper",
    // choices and types
    "arrow_typeof", "coalesce", "ifnull", "nullif", "nvl", "nvl2",
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
    match query.visit(&mut Gate { limits: *limits, relations: 0, ctes: 0, concatenations: 0 }) {
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
struct Gate {
    limits: GateLimits,
    relations: usize,
    ctes: usize,
    concatenations: usize,
}

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
        self.ctes += query.with.as_ref().map_or(0, |with| with.cte_tables.len());
        if self.ctes > self.limits.ctes {
            return Self::stop(format!("more than {} queries in WITH", self.limits.ctes));
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

    fn pre_visit_relation(&mut self, _: &ObjectName) -> ControlFlow<Self::Break> {
        self.relations += 1;
        if self.relations > self.limits.relations {
            return Self::stop(format!("more than {} tables in FROM", self.limits.relations));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        let function = match expr {
            Expr::Function(function) => function,
            Expr::Cast { data_type, .. } => return plain_type(data_type),
            Expr::TypedString(typed) => return plain_type(&typed.data_type),
            Expr::BinaryOp { op: BinaryOperator::StringConcat, .. } => {
                self.concatenations += 1;
                if self.concatenations > self.limits.concatenations {
                    let most = self.limits.concatenations;
                    return Self::stop(format!("more than {most} uses of ||"));
                }
                return ControlFlow::Continue(());
            }
            Expr::Lambda(_) | Expr::Map(_) | Expr::Dictionary(_) | Expr::Overlay { .. } => {
                return Self::stop(format!("{expr} is not allowed here"));
            }
            _ => return ControlFlow::Continue(()),
        };
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

/// A type whose values have a size of their own: lists and fixed sizes take memory for nothing.
fn plain_type(data_type: &DataType) -> ControlFlow<Box<Problem>> {
    const PLAIN: &[&str] = &[
        "BIGINT",
        "BOOL",
        "BOOLEAN",
        "BYTEA",
        "CHAR",
        "DATE",
        "DECIMAL",
        "DOUBLE",
        "FLOAT",
        "INT",
        "INTEGER",
        "INTERVAL",
        "NUMERIC",
        "REAL",
        "SMALLINT",
        "STRING",
        "TEXT",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMPTZ",
        "TINYINT",
        "VARCHAR",
    ];
    let text = data_type.to_string().to_uppercase();
    let word = text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    if PLAIN.contains(&word) && !text.contains(['[', '<']) {
        ControlFlow::Continue(())
    } else {
        Gate::stop(format!("the type {text} is not allowed here"))
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
            (
                "SELECT approx_percentile_cont(seq, 0.5, 1000000000000000) FROM telemetry",
                "approx_percentile",
            ),
            ("SELECT arrow_cast(NULL, 'FixedSizeBinary(2147483647)') FROM telemetry", "arrow_cast"),
            ("SELECT CAST(NULL AS BIGINT[2000000000]) FROM telemetry", "BIGINT[2000000000]"),
            ("SELECT NULL::STRUCT<a INT> FROM telemetry", "STRUCT"),
            ("SELECT a||a||a||a||a||a FROM (SELECT 'x' AS a)", "||"),
            ("SELECT * FROM telemetry, LATERAL (SELECT repeat('x', 9))", "repeat"),
        ] {
            let got = verdict(bad).expect_err(bad);
            assert!(got.contains(why), "{bad}: {got}");
        }
    }

    #[test]
    fn what_multiplies_is_counted() {
        let doubling: Vec<String> = (1..30)
            .map(|n| format!("c{n} AS (SELECT l.x FROM c{} l, c{} r)", n - 1, n - 1))
            .collect();
        let text = format!("WITH c0 AS (SELECT 1 AS x), {} SELECT x FROM c29", doubling.join(","));
        assert!(verdict(&text).expect_err("doubling").contains("WITH"));
        let many = format!("SELECT 1 FROM {}", vec!["telemetry"; 500].join(","));
        assert!(verdict(&many).expect_err("joins").contains("tables in FROM"));
        assert_eq!(
            verdict("SELECT CAST(payload AS VARCHAR), ts::date, a || 'x' FROM dead_letters"),
            Ok(())
        );
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
