//! The manager: named commands for daemons, called from anywhere, kept until they are answered.
//!
//! ```text
//! caller ── POST /v1/commands ──▶ manager ◀── POST /v1/commands/leases ── receiver, in the daemon
//!        ◀─ result ────────────        ▲──── PUT …/response ───────────
//! ```
//!
//! Both sides call; nobody is called, so neither needs a port. Delivery is at least once, and fenced: a result counts
//! only under the lease that is current, and the first one stays.
//!
//! ```text
//! protocol   what travels                     command    what may become of a command; pure
//! broker     who waits for what, in memory    store      what is on disk; a trait, and SQLite
//! blobs      bodies that are too large for a message, beside the store
//! tokens     who may do what; pure            keyring    the tokens that there are
//! signing    addresses for results that need no token
//! http       the routes                       server     listening, and ending in good order
//! ```

pub mod blobs;
pub mod broker;
pub mod clock;
pub mod command;
pub mod http;
mod keyring;
pub mod limits;
pub mod metrics;
pub mod protocol;
pub mod server;
pub mod signing;
pub mod store;
pub mod tls;
pub mod tokens;
