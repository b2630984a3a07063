//! The gate: only SQL that reads tables, and of a size that can be planned, passes. Pure.
//!
//! It refuses what DataFusion would run and must not: DDL, DML, COPY, SET, files, functions whose result is
//! much larger than their arguments (`repeat('x', 2000000000)` ends the process, `range` takes memory outside
//! of any pool), unbounded recursion, and texts that take longer to plan than to run.

mod bounds;
mod cast_names;
mod functions;
mod patterns;

use std::ops::ControlFlow;

use acuvim_model::problem::{Code, Problem};
use datafusion::sql::{
    parser::{DFParserBuilder, Statement},
    sqlparser::{
        ast::{
            self, BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
            FunctionArguments, ObjectName, ObjectNamePart, Query, Select, SetExpr, TableFactor,
            Visit, Visitor,
        },
        dialect::GenericDialect,
        keywords::Keyword,
        tokenizer::{Token, Tokenizer},
    },
};
use serde_json::Value;

use cast_names::name_casts;
use functions::{FUNCTIONS, WITH_PATTERN};
use patterns::{Patterns, is_match, is_regex, size_of_named};

/// Limits of a query's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLimits {
    /// Bytes of text, and of parameters for each of their uses.
    pub text: usize,
    /// Keywords and operators: they decide how deep a plan is.
    pub structure: usize,
    /// Names, numbers and strings.
    pub tokens: usize,
    /// Nesting of parentheses and subqueries.
    pub depth: usize,
    /// Tables in FROM, each of which is joined.
    pub relations: usize,
    /// Queries in WITH, each use of which is a copy.
    pub ctes: usize,
    /// Uses of `||` and `encode`, each of which may double a string.
    pub concatenations: usize,
    /// Bytes of a pattern or format, which is interpreted for every row.
    pub pattern: usize,
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
            pattern: 1 << 10,
        }
    }
}

/// Parses a query and checks it.
///
/// # Errors
/// A problem with the code `bad_query` that names what is not allowed and what to do.
pub fn check(text: &str, limits: &GateLimits) -> Result<Box<Statement>, Problem> {
    check_with(text, &[], limits)
}

/// Parses and checks a query with parameters, which count as if they stood in its text.
///
/// # Errors
/// As [`check`].
pub fn check_with(
    text: &str,
    params: &[Value],
    limits: &GateLimits,
) -> Result<Box<Statement>, Problem> {
    let sizes: Vec<usize> = params.iter().map(size_of).collect();
    let longest = check_size(text, &sizes, limits)?;
    let mut statements = DFParserBuilder::new(text)
        // The parser recurses for each parenthesis, and would overflow its stack before any later check.
        .with_recursion_limit(limits.depth)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|e| refuse(format!("the query does not parse: {}", plain(&e.to_string()))))?;
    let mut statement = match (statements.pop_front(), statements.pop_front()) {
        (Some(statement), None) => statement,
        (None, _) => return Err(refuse("the query is empty".to_owned())),
        _ => return Err(refuse("one statement at a time".to_owned())),
    };
    // COPY and CREATE EXTERNAL TABLE are statements of the engine, and none of standard SQL.
    let Statement::Statement(inner) = &statement else { return Err(only_select()) };
    let ast::Statement::Query(query) = inner.as_ref() else { return Err(only_select()) };
    let mut gate = Gate {
        limits: *limits,
        patterns: Patterns { limit: limits.pattern, sizes, longest, regexes: 0 },
        relations: 0,
        ctes: 0,
        concatenations: 0,
        grouping_sets: 0,
    };
    match query.visit(&mut gate) {
        ControlFlow::Break(problem) => Err(*problem),
        ControlFlow::Continue(()) => {
            name_casts(&mut statement);
            Ok(Box::new(statement))
        }
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

/// Bytes of a parameter.
fn size_of(param: &Value) -> usize {
    param.as_str().map_or(8, str::len)
}

/// Bounds a query before anything walks it by recursion. Answers with the bytes of its longest word or
/// value.
fn check_size(text: &str, sizes: &[usize], limits: &GateLimits) -> Result<usize, Problem> {
    let over = || {
        let text = format!("the query and its parameters are over {} bytes", limits.text);
        refuse(format!("{text}; a parameter counts as often as it is used"))
    };
    // The tokenizer takes memory for each character, so that the text is measured before it.
    if text.len().saturating_add(sizes.iter().sum()) > limits.text {
        return Err(over());
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize()
        .map_err(|e| refuse(format!("the query does not parse: {e}")))?;
    let (mut structure, mut plain, mut bytes, mut longest) = (0, 0, text.len(), 0);
    for token in &tokens {
        let size = match token {
            Token::Whitespace(_) => 0,
            Token::Placeholder(name) => size_of_named(name, sizes),
            other => other.to_string().len(),
        };
        longest = longest.max(size);
        if matches!(token, Token::Placeholder(_)) {
            bytes = bytes.saturating_add(size);
        }
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
    // The engine copies a parameter to every place that names it.
    if bytes > limits.text { Err(over()) } else { Ok(longest) }
}

/// Columns of a tuple, as in `count(DISTINCT (device_id, ts))`.
const TUPLE: usize = 8;

/// Visits every part of a query, and counts.
struct Gate {
    limits: GateLimits,
    patterns: Patterns,
    relations: usize,
    ctes: usize,
    concatenations: usize,
    grouping_sets: u64,
}

impl Gate {
    fn stop(detail: impl Into<String>) -> ControlFlow<Box<Problem>> {
        ControlFlow::Break(Box::new(refuse(detail.into())))
    }

    fn check_pattern(&self, pattern: &Expr) -> ControlFlow<Box<Problem>> {
        self.patterns.check(pattern).map_or_else(Self::stop, |_| ControlFlow::Continue(()))
    }

    fn check_regex(&mut self, pattern: &Expr) -> ControlFlow<Box<Problem>> {
        self.patterns.check_regex(pattern).map_or_else(Self::stop, ControlFlow::Continue)
    }

    fn count_doubling(&mut self) -> ControlFlow<Box<Problem>> {
        self.concatenations += 1;
        let most = self.limits.concatenations;
        if self.concatenations > most {
            return Self::stop(format!("more than {most} uses of ||, encode and tuples"));
        }
        ControlFlow::Continue(())
    }

    fn check_function(&mut self, function: &Function) -> ControlFlow<Box<Problem>> {
        let name = name_of(&function.name).filter(|name| FUNCTIONS.contains(&name.as_str()));
        let Some(name) = name else {
            let name = &function.name;
            return Self::stop(format!("the function {name} is not allowed here"));
        };
        let args = match &function.args {
            FunctionArguments::Subquery(_) => {
                return Self::stop("a subquery can't be a function's argument");
            }
            FunctionArguments::List(list) => list.args.as_slice(),
            FunctionArguments::None => &[],
        };
        // Hex has two characters for each byte.
        if name == "encode" {
            self.count_doubling()?;
        }
        if name.ends_with("percentile_cont") && !bounds::is_bounded_percentile(function) {
            let name = &function.name;
            return Self::stop(format!(
                "{name}: its arguments are a column and numbers up to 1000"
            ));
        }
        if WITH_PATTERN.contains(&name.as_str()) {
            for arg in args.iter().skip(1) {
                let (FunctionArg::Named { arg, .. }
                | FunctionArg::ExprNamed { arg, .. }
                | FunctionArg::Unnamed(arg)) = arg;
                if let FunctionArgExpr::Expr(pattern) = arg {
                    match name.starts_with("regexp") {
                        true => self.check_regex(pattern)?,
                        false => self.check_pattern(pattern)?,
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Gate {
    type Break = Box<Problem>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        // Its number of rounds depends on the rows, and each round holds its own in memory.
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
        // It would create a table.
        if select.into.is_some() {
            return Self::stop("SELECT INTO is not allowed");
        }
        // Every SELECT has one grouping; they are not counted, so that a UNION of a hundred passes.
        let sets = bounds::grouping_sets(&select.group_by);
        self.grouping_sets = self.grouping_sets.saturating_add(if sets > 1 { sets } else { 0 });
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
            // It limits its own number of rows.
            TableFactor::Table { args: Some(_), name, .. }
                if name_of(name).as_deref() == Some("time_buckets") =>
            {
                ControlFlow::Continue(())
            }
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            // UNNEST and table functions make rows of their own, in memory that no limit counts.
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
        match expr {
            Expr::Function(function) => self.check_function(function),
            Expr::Cast { data_type, .. } => plain_type(data_type),
            Expr::TypedString(typed) => plain_type(&typed.data_type),
            Expr::BinaryOp { op: BinaryOperator::StringConcat, .. } => self.count_doubling(),
            Expr::BinaryOp { op, right, .. } if is_regex(op) => self.check_regex(right),
            Expr::BinaryOp { op, right, .. } if is_match(op) => self.check_pattern(right),
            Expr::SimilarTo { pattern, .. } | Expr::RLike { pattern, .. } => {
                self.check_regex(pattern)
            }
            Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } => self.check_pattern(pattern),
            // A list holds a copy of its values for each row, in memory that no limit counts.
            Expr::Tuple(parts) if parts.len() <= TUPLE => self.count_doubling(),
            Expr::Array(_) | Expr::Tuple(_) | Expr::Struct { .. } => {
                Self::stop(format!("the list {expr} is not allowed here"))
            }
            Expr::CompoundFieldAccess { .. } => Self::stop(format!("{expr} is not allowed here")),
            Expr::Lambda(_) | Expr::Map(_) | Expr::Dictionary(_) | Expr::Overlay { .. } => {
                Self::stop(format!("{expr} is not allowed here"))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Refuses types whose values could be larger than what is cast: lists, and strings of a fixed size.
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
    // The lengths of VARCHAR(9) and the like make no value larger: the engine does not pad.
    if PLAIN.contains(&word) && !text.contains(['[', '<']) {
        ControlFlow::Continue(())
    } else {
        Gate::stop(format!("the type {text} is not allowed here"))
    }
}

fn name_of(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        // A name with a schema before it might lead to another function than the list means.
        [ObjectNamePart::Identifier(ident)] => Some(ident.value.to_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
