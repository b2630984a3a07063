//! The course of a command, pure: what an answer means for the state that it meets.

use acuvim_schemas::{command::CommandStatus, payload::ResponseStatus};

/// What an answer is to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It moves the command on to this status.
    Moves(CommandStatus),
    /// The command has been there before.
    Repeated,
    /// The command has timed out.
    Late,
    /// It comes from another device than the command went to.
    WrongDevice,
    /// There is no such command.
    Unknown,
}

impl Verdict {
    /// The name under which an answer that changes nothing is kept.
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

/// Judges an answer from the right device.
pub(crate) const fn judge(now: CommandStatus, answer: ResponseStatus) -> Verdict {
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
        /// Whatever comes, in whatever order: one terminal state, and no way back.
        #[test]
        fn a_terminal_state_is_the_last(
            answers in proptest::collection::vec(answers(), 0..12),
            timeout_at in 0_usize..12,
        ) {
            let (mut status, mut ended) = (CommandStatus::Pending, 0);
            for (n, answer) in answers.into_iter().enumerate() {
                if n == timeout_at && !status.is_final() {
                    status = CommandStatus::Timeout;
                    ended += 1;
                }
                if let Verdict::Moves(next) = judge(status, answer) {
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
