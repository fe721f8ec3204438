//! Moments.

use std::time::Duration;

/// Milliseconds since 1970.
pub type Millis = u64;

/// The wall clock: deadlines come from elsewhere.
pub fn now() -> Millis {
    millis(crate::sys::time::wall())
}

pub fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
