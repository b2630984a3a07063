//! The aggregates that a bucket can have.

use acuvim_lakehouse::Counter;

/// An aggregate of a column over a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Avg,
    Min,
    Max,
    Sum,
    Count,
    First,
    Last,
    Delta,
}

impl Aggregate {
    pub const ALL: [(&'static str, Self); 8] = [
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("sum", Self::Sum),
        ("count", Self::Count),
        ("first", Self::First),
        ("last", Self::Last),
        ("delta", Self::Delta),
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, of)| of)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, of)| *of == self).map_or("", |(name, _)| name)
    }
}

/// A column whose buckets are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Set if it is a counter.
    pub counter: Option<Counter>,
    /// Its digits after the decimal point, to which sums are rounded.
    pub scale: u8,
}
