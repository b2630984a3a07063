//! Commands to devices. The row of a command shows only what is known, and moves forward to exactly one
//! final status.

mod answers;
mod cancel;
mod event;
mod give;
mod group;
mod list;
mod release;
mod resend;
mod timeout;
mod verdict;
mod waiting;

pub use answers::Answer;
pub use give::{Given, NewCommand};
pub use group::GroupGiven;
pub use list::CommandFilter;
pub use resend::Resend;
pub use timeout::ReadUntil;

pub(crate) use answers::{apply_answer, apply_delivery};
pub(crate) use give::give;
pub(crate) use resend::resend_config;
pub(crate) use timeout::expire;
pub(crate) use waiting::release_waiting;

#[cfg(test)]
mod tests;
