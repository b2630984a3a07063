//! The inputs of a page of buckets.

use std::ops::Range;

use acuvim_lakehouse::{Buckets, NotRolledUp};
use acuvim_wire::{Micros, reading::Reading};

use super::{
    aggregate::Aggregate,
    fill::Fill,
    fold::Meter,
    request::{HistoryRequest, Order},
    site::Site,
};

/// A request for buckets, with what is known of its site.
pub(super) struct BucketQuery {
    pub site: Site,
    pub request: HistoryRequest,
    pub buckets: Buckets,
    pub aggregates: Vec<Aggregate>,
    pub fill: Fill,
    /// When the request came: nothing is filled in after that.
    pub now: Micros,
    /// The meter that the readings come from, as far as it is known for all time.
    pub meter: Meter,
    /// Which readings are in no rollup; none where rollups can't be used.
    pub not_rolled_up: Option<NotRolledUp>,
}

impl BucketQuery {
    pub fn fields(&self) -> &[&'static Reading] {
        &self.request.fields
    }

    /// The columns of `telemetry` that are read.
    pub fn names(&self) -> Vec<&'static str> {
        self.fields().iter().map(|reading| reading.name).collect()
    }

    /// The aggregate of each cell of a row.
    pub fn cells(&self) -> Vec<Aggregate> {
        self.fields().iter().flat_map(|_| self.aggregates.iter().copied()).collect()
    }

    /// Whether `delta` is among the aggregates.
    pub fn counts(&self) -> bool {
        self.aggregates.contains(&Aggregate::Delta)
    }

    /// The times that have to be read for this page.
    pub fn range(&self) -> Range<Micros> {
        let HistoryRequest { from, to, .. } = self.request;
        match (self.request.cursor, self.request.order) {
            (None, _) => from..to,
            (Some(cursor), Order::Ascending) => from.max(cursor.beside)..to,
            // Interpolation needs the readings after the page too.
            (Some(_), Order::Descending) if self.fill == Fill::Linear => from..to,
            (Some(cursor), Order::Descending) => from..to.min(cursor.at),
        }
    }
}
