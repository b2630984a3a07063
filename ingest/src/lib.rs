//! MQTT into the log: a message is checked, appended, and acknowledged only once the log has it.
//!
//! [`accept`] judges a message and is pure; [`Intake`] gives what it takes to the log; the built-in
//! broker ([`Broker`]) speaks MQTT to devices. The bridge ([`Bridge`]) to any other broker shares
//! the first two. Commands come down the other way ([`Downlink`]), each at most once.

mod accept;
mod bridge;
mod broker;
mod credentials;
mod daily;
mod downlink;
mod intake;
mod pulse;

pub use accept::{AcceptLimits, DropReason, Incoming, Verdict, accept};
pub use bridge::{Bridge, BridgeOptions, BridgeState, MqttVersion};
pub use broker::{Broker, BrokerOptions};
pub use credentials::{Access, Credentials, CredentialsWatch, Identity};
pub use daily::DailyLimits;
pub use downlink::Downlink;
pub use intake::{Intake, IntakeState, Taken};
