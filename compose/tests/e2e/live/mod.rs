//! Live connections, as dashboards, browsers and scripts use them.

mod bad_input;
mod client;
mod events;
mod hub;
mod page;
mod slow;
