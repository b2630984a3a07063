//! A table restricted to some devices, for a caller who may not see the others.
//!
//! The restriction is applied below every expression of the caller. An expression that fails on a row
//! (`10 / x` where x is 0) reveals something about that row, so it must not be evaluated on rows of other
//! devices: not as a pushed-down filter, not as a dynamic filter of a sort or a join, not as a projected
//! column. Only comparisons of a column with a value, which can't fail, reach the files for pruning.

use std::{fmt, sync::Arc};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DFSchema, tree_node::TreeNodeRecursion},
    datasource::TableType,
    error::{DataFusionError, Result},
    execution::TaskContext,
    logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, expr::InList},
    physical_expr::PhysicalExpr,
    physical_plan::{
        ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        ReplaceChildrenOptions, SendableRecordBatchStream, empty::EmptyExec,
        filter::FilterExecBuilder,
    },
    prelude::{col, lit},
};

/// The column with the id of a row's device.
const DEVICE: &str = "device_id";

/// A table's rows of some devices. Rows without a device id are never among them.
#[derive(Debug)]
pub struct OfDevices {
    table: Arc<dyn TableProvider>,
    devices: Vec<String>,
}

impl OfDevices {
    /// Restricts a table to some devices.
    #[must_use]
    pub fn new(table: Arc<dyn TableProvider>, devices: &[String]) -> Self {
        Self { table, devices: devices.to_vec() }
    }

    /// The condition that a row belongs to one of the devices.
    fn condition(&self) -> Expr {
        match self.devices.as_slice() {
            // An equality lets the scan below know that there is only one device: its rows come sorted.
            [one] => col(DEVICE).eq(lit(one.as_str())),
            all => col(DEVICE).in_list(all.iter().map(|id| lit(id.as_str())).collect(), false),
        }
    }
}

#[async_trait]
impl TableProvider for OfDevices {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let schema = self.schema();
        let allowed = |filter: &&Expr| match cannot_fail(filter, &schema) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(allowed).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        // Not passed on: it counts rows that pass the restriction, not those that are read.
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let whole = self.schema();
        let wanted = match projection {
            Some(columns) => columns.clone(),
            None => (0..whole.fields().len()).collect(),
        };
        // An empty list in a condition is an error or always false, depending on the engine.
        // Nothing is read instead.
        if self.devices.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(whole.project(&wanted)?))));
        }
        let device = whole.index_of(DEVICE)?;
        let mut read = wanted.clone();
        if !read.contains(&device) {
            read.push(device);
        }
        let mut pruning = vec![self.condition()];
        pruning.extend(filters.iter().filter(|f| cannot_fail(f, &whole)).cloned());
        let rows = self.table.scan(session, Some(&read), &pruning, None).await?;
        let schema = DFSchema::try_from(rows.schema())?;
        let theirs = session.create_physical_expr(self.condition(), &schema)?;
        let theirs = FilterExecBuilder::new(theirs, rows)
            .apply_projection(Some((0..wanted.len()).collect()))?
            .build()?;
        Ok(Arc::new(Barrier { input: Arc::new(theirs) }))
    }
}

/// Whether a filter can be evaluated on any row without an error.
fn cannot_fail(filter: &Expr, schema: &Schema) -> bool {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            cannot_fail(left, schema) && cannot_fail(right, schema)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            compares(*op) && (alike(left, right, schema) || alike(right, left, schema))
        }
        Expr::InList(InList { expr, list, .. }) => list.iter().all(|of| alike(expr, of, schema)),
        Expr::IsNull(of) | Expr::IsNotNull(of) => matches!(of.as_ref(), Expr::Column(_)),
        _ => false,
    }
}

const fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

/// Whether these are a column and a value of exactly its type, so that nothing is cast.
fn alike(column: &Expr, value: &Expr, schema: &Schema) -> bool {
    let (Expr::Column(column), Expr::Literal(value, _)) = (column, value) else { return false };
    schema.field_with_name(&column.name).is_ok_and(|f| *f.data_type() == value.data_type())
}

/// Passes rows on, and stops the optimizer from moving filters, projections or limits below it: they
/// stay above a plan that does not declare support for them. Statistics are not passed on either, since
/// they describe all devices.
#[derive(Debug)]
struct Barrier {
    input: Arc<dyn ExecutionPlan>,
}

impl DisplayAs for Barrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeBarrier")
    }
}

impl ExecutionPlan for Barrier {
    fn name(&self) -> &'static str {
        "ScopeBarrier"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        // It has none, so optimizer rules find nothing to move through it.
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self { input })),
            _ => Err(DataFusionError::Internal("a scope's barrier has one input".to_owned())),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Int64Array, RecordBatch, StringArray},
        datatypes::{DataType, Field},
        util::pretty::pretty_format_batches,
    };
    use datafusion::{
        dataframe::DataFrameWriteOptions,
        datasource::MemTable,
        physical_plan::displayable,
        prelude::{ParquetReadOptions, SessionConfig, SessionContext},
    };

    use super::*;

    /// Two readings of `mine`, one of `theirs` on which a division fails, and one without a device.
    fn readings() -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("x", DataType::Int64, false),
            Field::new(DEVICE, DataType::Utf8, true),
        ]));
        let devices = [Some("mine"), Some("theirs"), None, Some("mine")];
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![5, 0, 0, 2])),
            Arc::new(StringArray::from(devices.to_vec())),
        ];
        RecordBatch::try_new(schema, columns).expect("rows")
    }

    /// A session whose Parquet readers evaluate filters, as those of the lake do.
    fn session() -> SessionContext {
        let mut config = SessionConfig::new();
        let options = config.options_mut();
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.schema_force_view_types = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        SessionContext::new_with_config(config)
    }

    fn scoped(table: Arc<dyn TableProvider>, devices: &[&str]) -> SessionContext {
        let devices: Vec<String> = devices.iter().map(|id| (*id).to_owned()).collect();
        let context = session();
        let table = OfDevices::new(table, &devices);
        context.register_table("t", Arc::new(table)).expect("register");
        context
    }

    fn in_memory() -> Arc<dyn TableProvider> {
        let rows = readings();
        Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).expect("table"))
    }

    async fn in_parquet(folder: &tempfile::TempDir) -> Arc<dyn TableProvider> {
        let context = session();
        let path = folder.path().join("rows.parquet").display().to_string();
        let rows = context.read_batch(readings()).expect("rows");
        rows.write_parquet(&path, DataFrameWriteOptions::new(), None).await.expect("write");
        context.register_parquet("rows", &path, ParquetReadOptions::default()).await.expect("read");
        context.table_provider("rows").await.expect("there")
    }

    async fn ask(context: &SessionContext, sql: &str) -> Result<String> {
        let rows = context.sql(sql).await?.collect().await?;
        Ok(pretty_format_batches(&rows)?.to_string())
    }

    #[tokio::test]
    async fn what_fails_on_rows_of_others_does_not_fail_in_a_scope() {
        let folder = tempfile::tempdir().expect("a folder");
        for table in [in_memory(), in_parquet(&folder).await] {
            let mine = scoped(Arc::clone(&table), &["mine"]);
            let all = scoped(Arc::clone(&table), &["mine", "theirs"]);
            for sql in [
                "SELECT x FROM t WHERE 10 / x > 2",
                "SELECT x FROM t WHERE device_id = 'theirs' AND 10 / x > 2",
                "SELECT 10 / x AS y FROM t",
                "SELECT x FROM t ORDER BY 10 / x LIMIT 1",
                "SELECT max(10 / x) FROM t",
                "SELECT a.x FROM t a JOIN (SELECT 5 AS y) b ON 10 / a.x = b.y",
                "SELECT x FROM t WHERE CASE WHEN device_id = 'theirs' THEN 1 / x ELSE 1 END = 1",
            ] {
                let found = ask(&mine, sql).await;
                assert!(found.is_ok(), "{sql}: {found:?}");
                // The query does fail for a caller who may see the row.
                let seen = ask(&all, sql).await;
                assert!(seen.is_err(), "{sql}: {seen:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_scope_has_its_own_rows_in_any_projection_and_under_a_limit() {
        let mine = scoped(in_memory(), &["mine"]);
        let count = "SELECT count(*) AS n FROM t";
        assert!(ask(&mine, count).await.expect("rows").contains("| 2 |"));
        let xs = ask(&mine, "SELECT x FROM t LIMIT 2").await.expect("rows");
        assert!(xs.contains("| 5 |") && xs.contains("| 2 |"), "{xs}");
        let both = ask(&mine, "SELECT device_id, x FROM t WHERE x > 2").await.expect("rows");
        assert!(both.contains("| mine      | 5 |"), "{both}");
        let nobody = scoped(in_memory(), &[]);
        assert!(ask(&nobody, count).await.expect("rows").contains("| 0 |"));
    }

    #[tokio::test]
    async fn nothing_that_may_fail_is_below_the_barrier() {
        let folder = tempfile::tempdir().expect("a folder");
        let mine = scoped(in_parquet(&folder).await, &["mine"]);
        let sql = "SELECT x FROM t WHERE x > 1 AND 10 / x > 2 ORDER BY 100 / x LIMIT 1";
        let plan = mine.sql(sql).await.expect("a query").create_physical_plan().await;
        let shown = displayable(plan.expect("a plan").as_ref()).indent(false).to_string();
        let (above, below) = shown.split_once("ScopeBarrier").expect("the barrier");
        assert!(above.contains("10 / x"), "{shown}");
        assert!(below.contains("device_id"), "{shown}");
        assert!(!below.contains("10 / x") && !below.contains("100 / x"), "{shown}");
        assert!(!below.contains("DynamicFilter"), "{shown}");
    }

    #[test]
    fn comparisons_of_a_column_with_a_value_of_its_type_are_let_through() {
        let table = OfDevices::new(in_memory(), &["mine".to_owned()]);
        let let_through = |filter: Expr| {
            let said = table.supports_filters_pushdown(&[&filter]).expect("an answer");
            said == [TableProviderFilterPushDown::Inexact]
        };
        assert!(let_through(col("x").gt(lit(1_i64))));
        assert!(let_through(lit(1_i64).lt(col("x")).and(col(DEVICE).eq(lit("theirs")))));
        assert!(let_through(col("x").in_list(vec![lit(1_i64), lit(2_i64)], true)));
        assert!(let_through(col(DEVICE).is_null()));
        assert!(!let_through((lit(10_i64) / col("x")).gt(lit(1_i64))));
        assert!(!let_through(col("x").eq(lit("1"))), "it would be cast");
        assert!(!let_through(col("x").gt(lit(1_i64)).or((lit(1_i64) / col("x")).eq(lit(1_i64)))));
        assert!(!let_through(col(DEVICE).like(lit("%"))));
    }
}
