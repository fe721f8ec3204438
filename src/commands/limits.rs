//! What protects the manager from its clients, and its disk from time.

use std::time::Duration;

/// The limits of a manager.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Commands that may wait for one daemon.
    pub pending: usize,
    /// Deliveries of one command, the first one included.
    pub attempts: u32,
    /// How long an ended command is kept.
    pub retention: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Bytes of the database, beyond which it takes no new commands.
    pub database: u64,
    /// Bytes of one body beside the database.
    pub body: u64,
    /// Bytes of all of them.
    pub storage: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            pending: 10_000,
            attempts: 5,
            retention: Duration::from_secs(30 * 24 * 3600),
            connections: 20_000,
            database: 8 << 30,
            body: 1 << 30,
            storage: 10 << 30,
        }
    }
}

/// The longest that a request waits: proxies cut what is silent for longer.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Bounds of a lease, in seconds.
pub const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;
/// Commands handed out in one answer.
pub const MOST_LEASES: usize = 100;
/// The largest request body, in bytes: an inline body in base64, and room for what is around it.
pub const REQUEST_BODY: usize = 512 * 1024;
/// Of a body beside the database: so many bytes are gathered for each trip to the disk.
pub const PIECE: usize = 128 * 1024;
/// The largest progress, in bytes of JSON.
pub const PROGRESS: usize = 4096;
/// Commands in a page of a list.
pub const PAGE: usize = 200;
