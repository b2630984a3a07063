//! A query's rows up to the caps of an answer.

use std::ops::Range;

use acuvim_wire::time::{DAY, Micros};
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch},
    datatypes::{DataType, Date32Type},
};
use datafusion::{
    error::DataFusionError, execution::memory_pool::MemoryReservation,
    physical_plan::SendableRecordBatchStream,
};
use futures::StreamExt as _;

use crate::{encode::micros, limits::SqlLimits};

/// The years 1 to 9999, which RFC 3339 can write.
const TIMES: Range<Micros> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// A query's rows, as far as an answer may have them.
#[derive(Debug)]
pub(super) struct Collected {
    pub batches: Vec<RecordBatch>,
    pub count: usize,
    /// Whether there were more rows.
    pub truncated: bool,
    /// Whether they have more cells than may be written.
    pub too_many_cells: bool,
    /// The rows' share of the memory that all queries have.
    pub memory: MemoryReservation,
}

impl Collected {
    /// Takes as many rows of a batch as there is room for; whether some were left out.
    fn take(&mut self, batch: &RecordBatch, room: usize) -> Result<bool, DataFusionError> {
        let kept = batch.num_rows().min(room);
        let rows = batch.slice(0, kept);
        rows.columns().iter().try_for_each(check_times)?;
        // The whole batch counts: its arrays stay in memory for as long as any of its rows does.
        self.memory.try_grow(bytes_of(batch))?;
        self.batches.push(rows);
        self.count += kept;
        Ok(kept < batch.num_rows())
    }
}

/// The bytes that a batch's rows take. A batch may be a slice, whose arrays keep all of the larger one
/// alive.
fn bytes_of(batch: &RecordBatch) -> usize {
    let of = |column: &ArrayRef| {
        let whole = column.get_array_memory_size();
        column.to_data().get_slice_memory_size().map_or(whole, |slice| slice.min(whole))
    };
    batch.columns().iter().map(of).sum()
}

/// Refuses times that RFC 3339 can't write: `from_unixtime` and the like make one of any number.
fn check_times(column: &ArrayRef) -> Result<(), DataFusionError> {
    let is_good = match column.data_type() {
        DataType::Timestamp(unit, _) => {
            let times = micros(column, *unit);
            let written = times.iter().flatten().filter(|at| TIMES.contains(*at)).count();
            written == column.len() - column.null_count()
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().iter().flatten();
            days.map(|day| i64::from(day).saturating_mul(DAY)).all(|at| TIMES.contains(&at))
        }
        _ => true,
    };
    if is_good {
        return Ok(());
    }
    Err(DataFusionError::Execution("a time of the answer is not within the years 1 to 9999".into()))
}

/// Takes rows up to the caps of an answer.
pub(super) async fn collect(
    mut stream: SendableRecordBatchStream,
    max_rows: usize,
    limits: &SqlLimits,
    memory: MemoryReservation,
) -> Result<Collected, DataFusionError> {
    let columns = stream.schema().fields().len();
    let mut rows = Collected {
        batches: Vec::new(),
        count: 0,
        truncated: false,
        too_many_cells: false,
        memory,
    };
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.num_rows() == 0 {
            continue;
        }
        let room = max_rows.saturating_sub(rows.count);
        // Before the next batch and not after this one: only a batch that is left out makes it truncated.
        if room == 0 || rows.memory.size() >= limits.max_bytes {
            rows.truncated = true;
            break;
        }
        rows.truncated = rows.take(&batch, room)?;
        rows.too_many_cells = rows.count.saturating_mul(columns) > limits.max_cells;
        if rows.truncated || rows.too_many_cells {
            break;
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{Date32Array, Int64Array, TimestampSecondArray},
        datatypes::{Field, Schema},
    };
    use datafusion::{
        execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool},
        physical_plan::stream::RecordBatchStreamAdapter,
    };
    use futures::stream;
    use std::sync::Arc;

    /// Ten batches of a hundred rows, two columns each.
    fn rows() -> SendableRecordBatchStream {
        let column = |name| Field::new(name, DataType::Int64, false);
        let schema = Arc::new(Schema::new(vec![column("a"), column("b")]));
        let values = || Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef;
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![values(), values()]);
        let batch = batch.expect("rows");
        let batches = stream::iter((0..10).map(move |_| Ok(batch.clone())));
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }

    async fn collected(
        max_rows: usize,
        max_cells: usize,
        memory: usize,
    ) -> Result<Collected, DataFusionError> {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory));
        let held = MemoryConsumer::new("answer").register(&pool);
        let limits = SqlLimits { max_cells, ..SqlLimits::default() };
        collect(rows(), max_rows, &limits, held).await
    }

    #[test]
    fn a_time_beyond_the_calendar_is_an_error_of_the_query() {
        let check = |column: ArrayRef| check_times(&column).is_ok();
        let seconds =
            |at: i64| Arc::new(TimestampSecondArray::from(vec![Some(at), None])) as ArrayRef;
        assert!(check(seconds(253_402_300_799)) && check(seconds(-62_135_596_800)));
        for beyond in [253_402_300_800, -62_135_596_801, i64::MAX, i64::MIN] {
            assert!(!check(seconds(beyond)), "{beyond}");
        }
        let days = |day: i32| Arc::new(Date32Array::from(vec![Some(day), None])) as ArrayRef;
        assert!(check(days(2_932_896)) && check(days(-719_162)));
        assert!(!check(days(2_932_897)) && !check(days(i32::MIN)));
    }

    #[tokio::test]
    async fn an_answer_is_bounded_by_rows_cells_and_memory() {
        let all = collected(1000, 2000, 1 << 20).await.expect("rows");
        assert_eq!((all.count, all.truncated, all.too_many_cells), (1000, false, false));
        let some = collected(150, 2000, 1 << 20).await.expect("rows");
        assert_eq!((some.count, some.truncated, some.too_many_cells), (150, true, false));
        let wide = collected(1000, 1999, 1 << 20).await.expect("rows");
        assert!(wide.too_many_cells);
        // Only rows that would be written count.
        let few = collected(10, 20, 1 << 20).await.expect("rows");
        assert_eq!((few.count, few.truncated, few.too_many_cells), (10, true, false));
        let error = collected(1000, 2000, 4096).await.expect_err("no room");
        assert!(matches!(error, DataFusionError::ResourcesExhausted(_)), "{error}");
    }

    fn numbers(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("x", column)]).expect("rows")
    }

    async fn collected_of(
        batches: Vec<RecordBatch>,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Collected, DataFusionError> {
        let schema = batches[0].schema();
        let batches = stream::iter(batches.into_iter().map(Ok));
        let rows = Box::pin(RecordBatchStreamAdapter::new(schema, batches));
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
        let held = MemoryConsumer::new("answer").register(&pool);
        let limits = SqlLimits { max_bytes, ..SqlLimits::default() };
        collect(rows, max_rows, &limits, held).await
    }

    #[tokio::test]
    async fn a_row_that_is_left_out_fails_nothing() {
        let seconds = TimestampSecondArray::from(vec![0, 1, i64::MAX]);
        let batch = || vec![numbers(Arc::new(seconds.clone()))];
        let two = collected_of(batch(), 2, 1 << 20).await.expect("two good rows");
        assert_eq!((two.count, two.truncated), (2, true));
        let error =
            collected_of(batch(), 3, 1 << 20).await.expect_err("the third can't be written");
        assert!(error.to_string().contains("years 1 to 9999"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_is_truncated_only_if_there_is_more() {
        let ten = || numbers(Arc::new(Int64Array::from_iter_values(0..10)));
        let none = ten().slice(0, 0);
        for (batches, max_rows, wanted) in [
            (vec![ten()], 10, (10, false)),
            (vec![ten(), none.clone()], 10, (10, false)),
            (vec![ten(), none.clone(), ten()], 10, (10, true)),
            (vec![ten(), ten()], 15, (15, true)),
            (vec![ten()], 0, (0, true)),
            (vec![none.clone()], 0, (0, false)),
        ] {
            let rows = collected_of(batches, max_rows, 1 << 20).await.expect("rows");
            assert_eq!((rows.count, rows.truncated), wanted, "{max_rows}");
            let kept: usize = rows.batches.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(kept, rows.count);
        }
    }

    #[tokio::test]
    async fn the_batch_that_reaches_the_bytes_of_an_answer_is_its_last() {
        let kilobyte = || numbers(Arc::new(Int64Array::from_iter_values(0..128)));
        let rows = collected_of(vec![kilobyte(); 5], 9999, 2000).await.expect("rows");
        assert_eq!((rows.count, rows.truncated), (2 * 128, true));
        let all = collected_of(vec![kilobyte(); 2], 9999, 2000).await.expect("rows");
        assert_eq!((all.count, all.truncated), (2 * 128, false), "it was the last in any case");
    }

    #[test]
    fn a_slice_counts_with_its_own_bytes() {
        let whole = numbers(Arc::new(Int64Array::from_iter_values(0..10_000)));
        assert!(bytes_of(&whole) >= 80_000);
        assert!(bytes_of(&whole.slice(5000, 10)) < 1000);
    }
}
