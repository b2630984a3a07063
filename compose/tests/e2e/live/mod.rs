//! Live connections of dashboards, browsers and scripts.

mod bad_input;
mod client;
mod events;
mod hub;
mod page;
mod slow;
