//! What SQL has here beyond DataFusion's own functions: buckets by the calendar of a time zone, and
//! what counters have counted, and date functions that lose no digits. The pure parts serve history and
//! rollups too.

mod bucket;
mod counter_delta;
mod devices;
mod exact;
mod time_bucket;
mod time_buckets;

use datafusion::{
    execution::FunctionRegistry,
    logical_expr::{AggregateUDF, ScalarUDF},
    prelude::SessionContext,
};

use crate::meters::KnownMeters;

pub use bucket::{Buckets, IRREGULAR, Interval};

/// Makes the functions known to a session.
pub(crate) fn register(session: &SessionContext, known: &KnownMeters) {
    session.register_udf(ScalarUDF::new_from_impl(time_bucket::TimeBucket::new()));
    session.register_udtf("time_buckets", std::sync::Arc::new(time_buckets::TimeBuckets));
    session.register_udaf(AggregateUDF::new_from_impl(counter_delta::CounterDelta::new(
        known.clone(),
    )));
    session.add_analyzer_rule(std::sync::Arc::new(devices::KnowDevices));
    // A session's state takes every rewrite.
    let state = session.state_ref();
    let exactly = std::sync::Arc::new(exact::Exactly);
    let registered = FunctionRegistry::register_function_rewrite(&mut *state.write(), exactly);
    debug_assert!(registered.is_ok());
}
