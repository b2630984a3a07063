//! The predicates of a rule: checked and planned once by DataFusion, then evaluated over batches.

mod check;
mod fault;

use std::{collections::BTreeSet, sync::Arc};

use acuvim_model::RuleBody;
use acuvim_wire::time::SECOND;
use arrow::{
    array::{Array as _, AsArray as _, BooleanArray, Float64Array},
    datatypes::{DataType, Float64Type},
};
use datafusion::{
    common::{
        DFSchema,
        tree_node::{Transformed, TreeNode as _},
    },
    error::{DataFusionError, Result},
    execution::{SessionState, SessionStateBuilder},
    logical_expr::{
        Between, BinaryExpr, Case, ColumnarValue, Expr, ExprSchemable as _, Operator, ScalarUDF,
        Volatility, create_udf, expr::InList,
    },
    physical_expr::PhysicalExpr,
    prelude::SessionConfig,
};

pub use fault::RuleFault;
use {
    check::{check, is_coalesce},
    fault::{at_word, from_datafusion},
};

use crate::{
    episode::{ReadingState, Terms},
    flapping::{Flapping, MOST_FLAPS},
    inputs::{self, Inputs, NOMINAL_FREQUENCY, NOMINAL_VOLTAGE, Site},
    message,
};

/// The longest predicate, in characters.
const MAX_LENGTH: usize = 2000;

/// Checks the predicates and messages of rules, and compiles them. Making one takes longer than compiling a
/// rule, so it is kept.
#[derive(Debug)]
pub struct Planner {
    state: SessionState,
    schema: DFSchema,
    finite: ScalarUDF,
}

/// A comparison of a value with a limit.
#[derive(Debug, Clone)]
struct Comparison {
    holds: Arc<dyn PhysicalExpr>,
    value: Arc<dyn PhysicalExpr>,
    limit: Arc<dyn PhysicalExpr>,
}

/// The same before it is planned.
struct LogicalComparison {
    holds: Expr,
    value: Expr,
    limit: Expr,
}

/// A rule with its predicates planned, which can be evaluated over any batch.
#[derive(Debug, Clone)]
pub struct Compiled {
    when: Arc<dyn PhysicalExpr>,
    clear_when: Option<Arc<dyn PhysicalExpr>>,
    /// The comparisons in `when`, for the value and limit that an alert shows.
    comparisons: Vec<Comparison>,
    /// The columns that the rule reads, by their index in the schema of predicates.
    pub(crate) needed: BTreeSet<usize>,
    pub(crate) terms: Terms,
    needs_voltage: bool,
    needs_frequency: bool,
}

/// What a rule counts as flapping, unless that is switched off.
fn flapping(rule: &RuleBody) -> Option<Flapping> {
    let count = usize::try_from(rule.flap_count).unwrap_or(MOST_FLAPS).min(MOST_FLAPS);
    let window = i64::from(rule.flap_seconds) * SECOND;
    (count > 1).then_some(Flapping { count, window })
}

impl Planner {
    /// A planner for the schema of predicates.
    ///
    /// # Errors
    /// Never, for this schema.
    pub fn new() -> Result<Self> {
        let mut config = SessionConfig::new();
        let options = config.options_mut();
        // The columns of `telemetry` are plain strings; literals of another type would need a cast.
        options.sql_parser.map_string_types_to_utf8view = false;
        let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
        let schema = DFSchema::try_from(inputs::schema())?;
        Ok(Self { state, schema, finite: finite() })
    }

    /// Checks and compiles `when`, `clear_when` and the message of a rule, in this order.
    ///
    /// # Errors
    /// The first fault, with its position.
    pub fn compile(&self, rule: &RuleBody) -> std::result::Result<Compiled, RuleFault> {
        let logical = self.parse("when", &rule.when)?;
        let when = self.physical("when", &rule.when, logical.clone())?;
        let mut needed = columns(&logical, &self.schema);
        let clear_when = match &rule.clear_when {
            None => None,
            Some(text) => {
                let logical = self.parse("clear_when", text)?;
                needed.extend(columns(&logical, &self.schema));
                Some(self.physical("clear_when", text, logical)?)
            }
        };
        let mut comparisons = Vec::new();
        for LogicalComparison { holds, value, limit } in compared(&logical) {
            let plan = |expr| self.state.create_physical_expr(expr, &self.schema);
            // A comparison that can't be planned alone only costs the alert its figures.
            if let (Ok(holds), Ok(value), Ok(limit)) = (plan(holds), plan(value), plan(limit)) {
                comparisons.push(Comparison { holds, value, limit });
            }
        }
        let needs =
            |name: &str| inputs::schema().index_of(name).is_ok_and(|index| needed.contains(&index));
        let (needs_voltage, needs_frequency) = (needs(NOMINAL_VOLTAGE), needs(NOMINAL_FREQUENCY));
        if let Some(template) = &rule.message {
            let named = message::columns(template).map_err(|message| RuleFault {
                field: "message",
                message,
                line: None,
                column: None,
            })?;
            needed.extend(named.iter().filter_map(|n| inputs::schema().index_of(n).ok()));
        }
        let terms = Terms {
            hold: i64::from(rule.for_seconds) * SECOND,
            clear: i64::from(rule.clear_for_seconds) * SECOND,
            gap: rule.gap_seconds.map(|seconds| i64::from(seconds) * SECOND),
            flapping: flapping(rule),
        };
        Ok(Compiled {
            when,
            clear_when,
            comparisons,
            needed,
            terms,
            needs_voltage,
            needs_frequency,
        })
    }

    fn parse(&self, field: &'static str, text: &str) -> std::result::Result<Expr, RuleFault> {
        let fault = |message: String| RuleFault { field, message, line: None, column: None };
        if text.trim().is_empty() || text.chars().count() > MAX_LENGTH {
            return Err(fault(format!("a predicate of 1 to {MAX_LENGTH} characters")));
        }
        let expr = self
            .state
            .create_logical_expr(text, &self.schema)
            .map_err(|e| from_datafusion(field, text, &e))?;
        check(&expr).map_err(|refused| at_word(field, text, &refused.word, refused.message))?;
        let expr = without_coalesce(expr).and_then(|expr| self.finite(expr));
        let expr = expr.map_err(|e| from_datafusion(field, text, &e))?;
        match expr.get_type(&self.schema) {
            Ok(DataType::Boolean) => Ok(expr),
            Ok(other) => {
                let message = format!("it is {other}, and must be true or false");
                Err(RuleFault { field, message, line: Some(1), column: Some(1) })
            }
            Err(error) => Err(from_datafusion(field, text, &error)),
        }
    }

    /// Replaces every compared float that is NaN or infinite, such as 0/0, by null, so that it neither raises
    /// nor clears an episode.
    fn finite(&self, expr: Expr) -> Result<Expr> {
        let finite = |side: Box<Expr>| -> Result<Box<Expr>> {
            let plain = matches!(*side, Expr::Column(_) | Expr::Literal(..));
            let float = matches!(side.get_type(&self.schema), Ok(DataType::Float64));
            Ok(if float && !plain { Box::new(self.finite.call(vec![*side])) } else { side })
        };
        let finite_only = expr.transform_up(|node| match node {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
                let (left, right) = (finite(left)?, finite(right)?);
                Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let (expr, low, high) = (finite(expr)?, finite(low)?, finite(high)?);
                Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
            }
            // NOT IN would otherwise hold for every value that is no number.
            Expr::InList(InList { expr, list, negated }) => {
                let list = list.into_iter().map(|one| Ok(*finite(Box::new(one))?));
                let (expr, list) = (finite(expr)?, list.collect::<Result<_>>()?);
                Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(finite_only?.data)
    }

    fn physical(
        &self,
        field: &'static str,
        text: &str,
        expr: Expr,
    ) -> std::result::Result<Arc<dyn PhysicalExpr>, RuleFault> {
        let planned = self.state.create_physical_expr(expr, &self.schema);
        let planned = planned.map_err(|e| from_datafusion(field, text, &e))?;
        // Some errors, such as comparing with a text that is not a number, show only at evaluation.
        let nulls = arrow::array::RecordBatch::try_new(
            inputs::schema(),
            inputs::schema()
                .fields()
                .iter()
                .map(|f| arrow::array::new_null_array(f.data_type(), 1))
                .collect(),
        );
        let tried = nulls.map_err(DataFusionError::from).and_then(|one| planned.evaluate(&one));
        tried.map(|_| planned).map_err(|e| from_datafusion(field, text, &e))
    }
}

/// Spells `coalesce` and `nvl` out as CASE. DataFusion does that in its optimizer, which a predicate does
/// not go through, and refuses to evaluate them otherwise. To be called after `check`, which limits how much
/// longer nested ones become.
fn without_coalesce(expr: Expr) -> Result<Expr> {
    let spelled_out = expr.transform_up(|node| match node {
        Expr::ScalarFunction(mut call) if is_coalesce(&call) => {
            let Some(last) = call.args.pop() else {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            };
            if call.args.is_empty() {
                return Ok(Transformed::yes(last));
            }
            let cases = call
                .args
                .into_iter()
                .map(|arg| (Box::new(Expr::IsNotNull(Box::new(arg.clone()))), Box::new(arg)));
            let case = Case::new(None, cases.collect(), Some(Box::new(last)));
            Ok(Transformed::yes(Expr::Case(case)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(spelled_out?.data)
}

const fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
    )
}

/// The function behind [`Planner::finite`]: null for NaN and infinity, and 0 for -0.
fn finite() -> ScalarUDF {
    let apply = |values: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(values)?;
        let floats = arrays.first().map(|a| a.as_primitive::<Float64Type>().clone());
        let floats = floats.unwrap_or_else(|| Float64Array::from(Vec::<f64>::new()));
        let finite: Float64Array =
            floats.iter().map(|v| v.filter(|v| v.is_finite()).map(|v| v + 0.0)).collect();
        Ok(ColumnarValue::Array(Arc::new(finite)))
    };
    let float = DataType::Float64;
    create_udf("finite", vec![float.clone()], float, Volatility::Immutable, Arc::new(apply))
}

/// The columns in an expression.
fn columns(expr: &Expr, schema: &DFSchema) -> BTreeSet<usize> {
    expr.column_refs().into_iter().filter_map(|c| schema.index_of_column(c).ok()).collect()
}

/// The comparisons in a predicate that are joined by AND and OR.
fn compared(expr: &Expr) -> Vec<LogicalComparison> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            compared(left).into_iter().chain(compared(right)).collect()
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq,
            right,
        }) => {
            // People write both `voltage > 250` and `250 < voltage`.
            let is_reading =
                |e: &Expr| e.column_refs().iter().any(|c| !c.name.starts_with("nominal_"));
            let (value, limit) = if is_reading(left) { (left, right) } else { (right, left) };
            vec![LogicalComparison {
                holds: expr.clone(),
                value: value.as_ref().clone(),
                limit: limit.as_ref().clone(),
            }]
        }
        _ => Vec::new(),
    }
}

impl Compiled {
    /// Whether a device has all settings that the rule needs.
    #[must_use]
    pub fn can_judge(&self, site: &Site) -> bool {
        self.missing(site).is_empty()
    }

    /// The settings that the rule needs and the device lacks.
    #[must_use]
    pub fn missing(&self, site: &Site) -> Vec<&'static str> {
        let voltage = self.needs_voltage && site.nominal_voltage_v.is_none();
        let frequency = self.needs_frequency && site.nominal_frequency_hz.is_none();
        [(voltage, NOMINAL_VOLTAGE), (frequency, NOMINAL_FREQUENCY)]
            .into_iter()
            .filter_map(|(missing, name)| missing.then_some(name))
            .collect()
    }

    /// The columns that the rule reads, by their index in the schema of predicates.
    #[must_use]
    pub const fn needed(&self) -> &BTreeSet<usize> {
        &self.needed
    }

    /// The times of the rule.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Which rows meet the condition; null where a value is missing.
    ///
    /// # Errors
    /// If the evaluation fails, such as for a division of integers by zero.
    pub fn breaches(&self, inputs: &Inputs) -> Result<BooleanArray> {
        evaluate(&self.when, inputs)
    }

    /// Which rows end the condition. `None` if those are simply the rows that don't meet it.
    ///
    /// # Errors
    /// If the evaluation fails.
    pub fn clears(&self, inputs: &Inputs) -> Result<Option<BooleanArray>> {
        self.clear_when.as_ref().map(|expr| evaluate(expr, inputs)).transpose()
    }

    /// The result for a row, from the two columns above.
    #[must_use]
    pub fn state_of(
        when: &BooleanArray,
        clears: Option<&BooleanArray>,
        row: usize,
    ) -> ReadingState {
        let of = |array: &BooleanArray| array.is_valid(row).then(|| array.value(row));
        match (of(when), clears.map(of)) {
            (Some(true), _) => ReadingState::Breach,
            (_, Some(Some(true))) | (Some(false), None) => ReadingState::Clear,
            (None, None | Some(None)) => ReadingState::Unknown,
            (Some(false), Some(_)) | (None, Some(Some(false))) => ReadingState::Between,
        }
    }

    /// The value and the limit that an alert shows: those of the first comparison that holds.
    #[must_use]
    pub fn values(&self, inputs: &Inputs, row: usize) -> (Option<f64>, Option<f64>) {
        // Only the row that raises an alert is evaluated again, which is rare.
        let one = Inputs { batch: inputs.batch.slice(row, 1) };
        let float = |expr: &Arc<dyn PhysicalExpr>| -> Option<f64> {
            let value = expr.evaluate(&one.batch).ok()?.into_array(1).ok()?;
            let value = arrow::compute::cast(&value, &DataType::Float64).ok()?;
            let value = value.as_primitive::<Float64Type>();
            value.is_valid(0).then(|| value.value(0)).filter(|v| v.is_finite())
        };
        let holds = |expr: &Arc<dyn PhysicalExpr>| {
            evaluate(expr, &one).is_ok_and(|held| held.is_valid(0) && held.value(0))
        };
        match self.comparisons.iter().find(|comparison| holds(&comparison.holds)) {
            Some(comparison) => (float(&comparison.value), float(&comparison.limit)),
            None => (None, None),
        }
    }
}

fn evaluate(expr: &Arc<dyn PhysicalExpr>, inputs: &Inputs) -> Result<BooleanArray> {
    let array = expr.evaluate(&inputs.batch)?.into_array(inputs.batch.num_rows())?;
    Ok(array.as_boolean().clone())
}

#[cfg(test)]
mod tests;
