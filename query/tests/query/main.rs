//! SQL behaviour in `.slt` files, and a snapshot of the API's document.

mod openapi;
mod slt;
