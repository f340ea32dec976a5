//! How often one log may have its checkpoints cosigned.

use std::{num::NonZeroU32, time::Duration};

use glassbloom_spec::id::UnixMillis;

/// Cosignatures per second and log; as many at once after a pause of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(NonZeroU32);

impl Rate {
    /// So many per second.
    pub const fn per_second(count: NonZeroU32) -> Self {
        Self(count)
    }
}

impl Default for Rate {
    /// More than a log makes checkpoints, few enough that one log cannot take the whole witness.
    fn default() -> Self {
        Self(NonZeroU32::new(1000).expect("1000 is not 0"))
    }
}

/// What one log, or whoever else has a rate, has used up: the moment, in microseconds since 1970, up to which its allowance is spent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter(u64);

const SECOND: u64 = 1_000_000;

impl Meter {
    /// Takes one from the allowance; otherwise says for how long to wait.
    pub(crate) fn take(&mut self, rate: Rate, now: UnixMillis) -> Result<(), Duration> {
        let now = now.get().saturating_mul(1000);
        let each = SECOND / u64::from(rate.0.get());
        // Further ahead than any allowance reaches: the clock went back.
        let spent = if self.0 > now + 2 * SECOND { now } else { self.0.max(now) };
        let spent = spent + each;
        if spent > now + SECOND {
            return Err(Duration::from_micros(spent - now - SECOND));
        }
        self.0 = spent;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_then_one_by_one() {
        let rate = Rate::per_second(NonZeroU32::new(4).unwrap());
        let (mut meter, start) = (Meter::default(), 1_790_000_000_000);
        for _ in 0..4 {
            meter.take(rate, UnixMillis::new(start)).unwrap();
        }
        assert_eq!(meter.take(rate, UnixMillis::new(start)), Err(Duration::from_millis(250)));
        assert_eq!(meter.take(rate, UnixMillis::new(start + 100)), Err(Duration::from_millis(150)));
        meter.take(rate, UnixMillis::new(start + 250)).unwrap();
        meter.take(rate, UnixMillis::new(start + 250)).unwrap_err();
        // A refused request costs nothing, and a pause fills the allowance up again, once.
        for _ in 0..4 {
            meter.take(rate, UnixMillis::new(start + 60_000)).unwrap();
        }
        meter.take(rate, UnixMillis::new(start + 60_000)).unwrap_err();
    }

    #[test]
    fn a_clock_that_goes_back_does_not_shut_a_log_out() {
        let rate = Rate::default();
        let mut meter = Meter::default();
        meter.take(rate, UnixMillis::new(1_790_000_000_000)).unwrap();
        meter.take(rate, UnixMillis::new(1_700_000_000_000)).unwrap();
    }
}
