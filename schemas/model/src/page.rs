//! One page of any list.

use serde::{Deserialize, Serialize};

/// A page of a list.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: i64,
    /// Where the next page begins; null on the last.
    pub next_cursor: Option<String>,
}
