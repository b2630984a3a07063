//! Exponential backoff with jitter, so that many bridges do not reconnect at the same moment.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
}

impl Backoff {
    pub const fn new() -> Self {
        Self { pause: FIRST }
    }

    /// Starts again with the shortest pause, after a success.
    pub const fn reset(&mut self) {
        self.pause = FIRST;
    }

    /// The next pause: a random time between half and all of a value that doubles each time.
    pub fn next(&mut self) -> Duration {
        let pause = self.pause.mul_f64(rand::random_range(0.5..=1.0));
        self.pause = (self.pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_until_a_reset() {
        let mut backoff = Backoff::new();
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let pause = backoff.next();
            assert!(pause >= FIRST / 2 && pause <= LONGEST);
            longest = longest.max(pause);
        }
        assert!(longest >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
