//! A device's history: raw readings, or buckets of them, a page at a time.

mod ask;
mod fill;
mod fold;
mod neighbours;
mod page;
mod read;
mod rolled;

pub(crate) use ask::{Asked, Order, Shape, Texts, fields};
pub(crate) use read::{history, site_of, site_rows};
