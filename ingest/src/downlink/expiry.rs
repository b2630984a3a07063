//! When a command expires.

use acuvim_wire::{Micros, command::Command, time::SECOND};

/// Whole seconds until a command expires; none if it has, or has less than one left.
pub(crate) fn seconds_left(command: &Command, now: Micros) -> Option<u32> {
    let left = command.expires_at.saturating_sub(now).div_euclid(SECOND);
    // MQTT has 32 bits for it; a command that lasts longer than 136 years has not expired.
    u32::try_from(left.clamp(0, i64::from(u32::MAX))).ok().filter(|left| *left > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn an_expired_command_has_no_time_left() {
        let command = |expires_at| Command {
            request_id: uuid::Uuid::nil(),
            device_id: "d".into(),
            payload: Bytes::new(),
            expires_at,
            attempt: 1,
            outbox_seq: 1,
        };
        let left = |now| seconds_left(&command(10_500_000), now);
        assert_eq!((left(500_000), left(9_500_000)), (Some(10), Some(1)));
        assert_eq!(left(9_500_001), None, "less than one");
        assert_eq!((left(10_500_000), left(20_000_000)), (None, None));
        // Records of the log are not trusted to have a sensible time.
        for now in [0, 1_795_000_000_000_000] {
            assert_eq!(seconds_left(&command(i64::MAX), now), Some(u32::MAX));
            assert_eq!(seconds_left(&command(i64::MIN), now), None);
        }
    }
}
