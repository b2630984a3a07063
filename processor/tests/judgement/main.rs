//! The stream as a whole, in this process, on a real log, database and lake: whatever order readings
//! come in, however often, however late, and wherever it is cut off, the result is one and the same.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::large_futures, reason = "a test's own future may be as large as it likes")]

mod devices;
mod guards;
mod interleaving;
mod life;
mod place;
