//! When a command expires.

use acuvim_wire::{Micros, command::Command, time::SECOND};

/// Whole seconds until a command expires; none if it has, or has less than one left.
pub(crate) fn seconds_left(command: &Command, now: Micros) -> Option<u32> {
    let left = (command.expires_at - now).div_euclid(SECOND);
    u32::try_from(left).ok().filter(|left| *left > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn an_expired_command_has_no_time_left() {
        let command = Command {
            request_id: uuid::Uuid::nil(),
            device_id: "d".into(),
            payload: Bytes::new(),
            expires_at: 10_500_000,
            attempt: 1,
            outbox_seq: 1,
        };
        assert_eq!(seconds_left(&command, 500_000), Some(10));
        assert_eq!(seconds_left(&command, 9_600_000), None, "less than one");
        assert_eq!(seconds_left(&command, 20_000_000), None);
    }
}
