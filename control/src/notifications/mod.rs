//! Notifications: whom to tell what, and the messages that wait to be sent. Messages are stored, so that one
//! survives a restart and is made once.

mod notices;
mod sending;
mod targets;

pub use notices::{DeviceMembership, NoticeChange, NoticeItem, NoticeOutcome, NoticePosition};
pub use sending::DueNotice;
pub use targets::{NOTIFICATIONS_LEASE, NotificationMade};
