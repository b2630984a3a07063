//! MQTT into the log: a message is checked, appended, and acknowledged only once the log has it.
//!
//! [`accept`] decides what becomes of a message and is pure; [`Intake`] appends what it accepts.
//! Messages come from devices through the built-in broker ([`Broker`]), or from any other broker
//! through the bridge ([`Bridge`]). Commands go the other way ([`Downlink`]), each at most once.

mod accept;
mod bridge;
mod broker;
mod clock;
mod credentials;
mod daily_limits;
mod downlink;
mod intake;
#[cfg(test)]
mod memory_log;
mod pulse;
#[cfg(test)]
mod testing;

pub use accept::{AcceptLimits, Acceptance, DropReason, Incoming, accept};
pub use bridge::{Bridge, BridgeOptions, BridgeState, MqttVersion};
pub use broker::{Broker, BrokerOptions};
pub use credentials::{Access, Credentials, CredentialsWatch, Identity};
pub use daily_limits::DailyLimits;
pub use downlink::Downlink;
pub use intake::{Intake, IntakeState, Taken};
