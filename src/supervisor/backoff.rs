//! When a daemon that ended is started again.

use std::time::Duration;

/// A run of at least this long was a healthy one: the next start comes at once.
pub const HEALTHY: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

/// How long to wait before the next start after `failures` short runs in a row: 100 ms doubling to 60 s, with a
/// tenth of jitter either way so that daemons which failed together do not return together. Zero failures: no wait.
///
/// `noise` is any number; the jitter is taken from it.
pub fn delay(failures: u32, noise: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let doubled = FIRST.saturating_mul(2u32.saturating_pow(failures - 1).min(10_000));
    let percent = 90 + noise % 21;
    doubled.min(LONGEST) * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_with_a_tenth_of_jitter() {
        assert_eq!(delay(0, 7), Duration::ZERO);
        assert_eq!(delay(1, 10), Duration::from_millis(100));
        assert_eq!(delay(4, 10), Duration::from_millis(800));
        for failures in [11, 12, 1000, u32::MAX] {
            assert_eq!(delay(failures, 10), LONGEST);
            for noise in 0..100 {
                let wait = delay(failures, noise);
                assert!(wait >= LONGEST * 9 / 10 && wait <= LONGEST * 11 / 10, "{wait:?}");
            }
        }
    }
}
