//! Notifications: who is notified of which events, and the messages to be sent. Messages are stored, so that
//! each is made exactly once and survives a restart.

mod notices;
mod sending;
mod targets;

pub use notices::{DeviceMembership, NoticeChange, NoticeItem, NoticeOutcome, NoticePosition};
pub use sending::DueNotice;
pub use targets::{NOTIFICATIONS_LEASE, NotificationMade};

#[cfg(test)]
mod tests;
