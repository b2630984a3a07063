//! The gate: only the SQL that reads tables, of a size that can be planned, passes. Pure.
//!
//! What DataFusion itself would run but must not: DDL, DML, COPY, SET, files, functions that make
//! something out of nothing (`repeat('x', 2000000000)` ends the process, `range` takes memory
//! outside of any pool), recursion without end, and texts whose plan takes longer than the query.

mod bounds;

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
    "approx_distinct", "approx_median", "approx_percentile_cont", "avg", "bit_and", "bit_or",
    "bool_and", "bool_or", "corr", "count", "covar_pop", "covar_samp", "first_value", "last_value",
    "max", "mean", "median", "min", "nth_value", "percentile_cont", "regr_intercept", "regr_r2", "regr_slope",
    "counter_delta", "stddev", "stddev_pop", "stddev_samp", "sum", "var", "var_pop", "var_samp",
    // windows
    "cume_dist", "dense_rank", "lag", "lead", "ntile", "percent_rank", "rank", "row_number",
    // numbers
    "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "cos", "degrees", "exp", "floor",
    "greatest", "isnan", "iszero", "least", "ln", "log", "log10", "log2", "mod", "nanvl", "pi",
    "pow", "power", "radians", "round", "signum", "sin", "sqrt", "tan", "trunc",
    // times
    "current_date", "current_timestamp", "date_bin", "date_format", "date_part", "date_trunc",
    "extract", "from_unixtime", "make_date", "now", "time_bucket", "to_char", "to_date", "to_local_time",
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
    match query.visit(&mut Gate {
        limits: *limits,
        relations: 0,
        ctes: 0,
        concatenations: 0,
        grouping_sets: 0,
    }) {
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
    grouping_sets: u64,
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
        // A plain SELECT is one, and multiplies nothing.
        let more = bounds::grouping_sets(&select.group_by).saturating_sub(1);
        self.grouping_sets = self.grouping_sets.saturating_add(more);
        if self.grouping_sets > bounds::GROUPING_SETS {
            return Self::stop(format!(
                "CUBE, ROLLUP and GROUPING SETS come to more than {} groupings: name those that are \
                 needed in GROUPING SETS",
                bounds::GROUPING_SETS
            ));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            // Bounded in itself.
            TableFactor::Table { args: Some(_), name, .. }
                if name_of(name).as_deref() == Some("time_buckets") =>
            {
                ControlFlow::Continue(())
            }
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
        let is_percentile = name.as_deref().is_some_and(|name| name.ends_with("percentile_cont"));
        if is_percentile && !bounds::is_bounded_percentile(function) {
            return Self::stop(format!(
                "{}: its arguments are a column and numbers up to 1000",
                function.name
            ));
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
mod tests;
