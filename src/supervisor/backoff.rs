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

/// Short runs in a row, once another run has ended after so long. That a program was up in between is no merit: one that says
/// so and ends at once would be tried ten times a second for ever.
pub fn failures(before: u32, lived: Duration) -> u32 {
    if lived >= HEALTHY { 0 } else { before.saturating_add(1) }
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

    #[test]
    fn jitter_spreads_every_wait_over_a_tenth_either_way() {
        for failures in 1..=12 {
            let exact = delay(failures, 10);
            let waits: Vec<Duration> = (0..21).map(|noise| delay(failures, noise)).collect();
            assert_eq!((waits[0], waits[20]), (exact * 90 / 100, exact * 110 / 100));
            assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
        }
    }

    #[test]
    fn only_a_healthy_run_makes_up_for_short_ones() {
        let short = HEALTHY - Duration::from_nanos(1);
        let mut count = 0;
        for expected in 1..=20 {
            count = failures(count, short);
            assert_eq!(count, expected);
        }
        assert_eq!(failures(count, HEALTHY), 0);
        assert_eq!(delay(failures(count, HEALTHY), 0), Duration::ZERO);
        assert_eq!(failures(u32::MAX, Duration::ZERO), u32::MAX);
    }
}
