//! How commands are given to devices.

use acuvim_wire::command::CommandKind;

/// How commands are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOptions {
    /// The beginning of the topics.
    pub topic_prefix: String,
    /// Seconds until a device has to have answered.
    pub timeout_s: u32,
    /// Seconds from an `ack` to the last answer of an `ota_update`.
    pub ota_update_s: u32,
    /// Seconds from an `ack` to the last answer of an `sd_flush`.
    pub sd_flush_s: u32,
    /// Seconds from an `ack` to the last answer of every other command.
    pub other_s: u32,
}

impl CommandOptions {
    /// Seconds from an `ack` to the last answer.
    pub(crate) const fn after_ack_s(&self, kind: Option<CommandKind>) -> u32 {
        match kind {
            Some(CommandKind::OtaUpdate) => self.ota_update_s,
            Some(CommandKind::SdFlush) => self.sd_flush_s,
            _ => self.other_s,
        }
    }
}

impl Default for CommandOptions {
    fn default() -> Self {
        Self {
            topic_prefix: "acuvim".into(),
            timeout_s: 60,
            ota_update_s: 3600,
            sd_flush_s: 900,
            other_s: 120,
        }
    }
}

/// How commands are checked and given.
#[derive(Debug, Clone)]
pub(crate) struct CommandRules {
    pub options: CommandOptions,
    /// Whether devices may only take signed firmware, and so only the images of rollouts.
    pub only_signed_firmware: bool,
}
