//! What people do to devices: create, change, replace and delete them.

mod create;
mod delete;
mod edit;
mod replace;

pub use create::Created;
pub use edit::Edited;
pub use replace::Replaced;

#[cfg(test)]
mod tests;
