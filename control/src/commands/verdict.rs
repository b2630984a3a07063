//! What an answer does to a command, by the status of the command. Pure.

use acuvim_model::CommandStatus;
use acuvim_wire::payload::ResponseStatus;

/// What an answer does to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It moves the command to this status.
    Moves(CommandStatus),
    /// Nothing: the command has that status already, or has ended.
    Repeated,
    /// Nothing: the command has timed out.
    Late,
    /// Nothing: the command went to another device.
    WrongDevice,
    /// Nothing: there is no such command.
    Unknown,
}

impl Verdict {
    /// The name under which an answer without effect is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Moves(_) => "taken",
            Self::Repeated => "repeated",
            Self::Late => "late",
            Self::WrongDevice => "wrong_device",
            Self::Unknown => "unknown",
        }
    }
}

/// The verdict on an answer from the right device.
pub(super) const fn verdict(now: CommandStatus, answer: ResponseStatus) -> Verdict {
    match (now, answer) {
        (CommandStatus::Timeout, _) => Verdict::Late,
        (CommandStatus::Success | CommandStatus::Error, _)
        | (CommandStatus::Ack, ResponseStatus::Ack) => Verdict::Repeated,
        (_, ResponseStatus::Ack) => Verdict::Moves(CommandStatus::Ack),
        (_, ResponseStatus::Success) => Verdict::Moves(CommandStatus::Success),
        (_, ResponseStatus::Error) => Verdict::Moves(CommandStatus::Error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answers() -> impl Strategy<Value = ResponseStatus> {
        prop_oneof![
            Just(ResponseStatus::Ack),
            Just(ResponseStatus::Success),
            Just(ResponseStatus::Error)
        ]
    }

    proptest! {
        /// Whatever answers arrive, in whatever order: one final status, and no way back.
        #[test]
        fn a_final_status_is_never_left(
            answers in proptest::collection::vec(answers(), 0..12),
            timeout_at in 0_usize..12,
        ) {
            let (mut status, mut ended) = (CommandStatus::Pending, 0);
            for (n, answer) in answers.into_iter().enumerate() {
                if n == timeout_at && !status.is_final() {
                    status = CommandStatus::Timeout;
                    ended += 1;
                }
                if let Verdict::Moves(next) = verdict(status, answer) {
                    prop_assert!(!status.is_final());
                    prop_assert!(status != next);
                    status = next;
                    ended += usize::from(next.is_final());
                }
            }
            prop_assert!(ended <= 1);
            prop_assert_eq!(ended == 1, status.is_final());
        }
    }
}
