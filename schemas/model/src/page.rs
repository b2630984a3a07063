//! One page of any list.

use serde::{Deserialize, Serialize};

/// A page of a list.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items of this page, in the order of the list.
    pub items: Vec<T>,
    /// The number of items on all pages.
    pub total: i64,
    /// The value of `cursor` for the next page; null on the last page.
    pub next_cursor: Option<String>,
}
