//! SQL functions beyond DataFusion's own: buckets by the calendar of a time zone, the consumption that
//! counters show, and date functions without rounding errors. History and rollups use the buckets too.

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

use super::meters::KnownMeters;

pub use bucket::{Buckets, IRREGULAR, Interval};

/// Registers the functions with a session.
pub(super) fn register(session: &SessionContext, known: &KnownMeters) {
    session.register_udf(ScalarUDF::new_from_impl(time_bucket::TimeBucket::new()));
    session.register_udtf("time_buckets", std::sync::Arc::new(time_buckets::TimeBuckets));
    session.register_udaf(AggregateUDF::new_from_impl(counter_delta::CounterDelta::new(
        known.clone(),
    )));
    session.add_analyzer_rule(std::sync::Arc::new(devices::AddDevices));
    // Registering a rewrite never fails for a session's state.
    let state = session.state_ref();
    let exactly = std::sync::Arc::new(exact::ExactDates);
    let registered = FunctionRegistry::register_function_rewrite(&mut *state.write(), exactly);
    debug_assert!(registered.is_ok());
}
