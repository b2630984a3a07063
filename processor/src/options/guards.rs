//! Switches of tests that show what a part of the stream is for.

/// What keeps rows from being stored twice or lost. All of it is on in every build but those of tests, which
/// can switch a part off (feature `test-switches`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamGuards {
    dedup: bool,
    lost_offset: Option<i64>,
}

impl Default for StreamGuards {
    fn default() -> Self {
        Self { dedup: true, lost_offset: None }
    }
}

impl StreamGuards {
    /// Whether duplicates are dropped.
    pub(crate) const fn dedup(self) -> bool {
        self.dedup
    }

    /// The offset whose batch loses its rows.
    pub(crate) const fn lost_offset(self) -> Option<i64> {
        self.lost_offset
    }

    /// Stores duplicates as if they were new.
    #[cfg(feature = "test-switches")]
    #[must_use]
    pub const fn without_dedup(self) -> Self {
        Self { dedup: false, ..self }
    }

    /// Loses the rows of the batch with this offset, for the test that the ledger's check finds the loss.
    #[cfg(feature = "test-switches")]
    #[must_use]
    pub const fn losing(self, offset: i64) -> Self {
        Self { lost_offset: Some(offset), ..self }
    }
}
