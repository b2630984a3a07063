//! Commands that never lie: each row says what is known, and moves only forward to one terminal
//! state.

mod answers;
mod course;
mod give;
mod group;
mod list;
mod told;
mod waiting;

pub use answers::Answer;
pub(crate) use give::give;
pub use give::{Given, NewCommand};
pub use group::GroupGiven;
pub use list::CommandFilter;

pub(crate) use answers::{answer, delivered};
pub(crate) use waiting::{awake, expire, resend_config};
