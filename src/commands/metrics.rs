//! What an operator counts (OpenMetrics text, as Prometheus reads it). No names of commands: there may be any number.

use super::clock::{Millis, now};
use super::command::Command;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Daemon {
    deployment: String,
    resource: String,
}

/// All of a manager's metrics.
pub struct Metrics {
    registry: Mutex<Registry>,
    created: Counter,
    ended: Family<Outcome, Counter>,
    leased: Counter,
    taken_back: Counter,
    /// From making to end.
    seconds: Histogram,
    commits: Histogram,
    pending: Family<Daemon, Gauge>,
    dispatched: Family<Daemon, Gauge>,
    oldest: Family<Daemon, Gauge>,
    stored: Gauge,
    received: Counter,
    sent: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("alien_commands");
        let metrics = Metrics {
            created: Counter::default(),
            ended: Family::default(),
            leased: Counter::default(),
            taken_back: Counter::default(),
            seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 22)),
            commits: Histogram::new(exponential_buckets(0.000_125, 2.0, 16)),
            pending: Family::default(),
            dispatched: Family::default(),
            oldest: Family::default(),
            stored: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            registry: Mutex::default(),
        };
        registry.register("created", "Commands that were made", metrics.created.clone());
        registry.register("ended", "Commands that ended, by how", metrics.ended.clone());
        registry.register("leases", "Deliveries to receivers", metrics.leased.clone());
        registry.register("leases_taken_back", "Deliveries without a result", metrics.taken_back.clone());
        registry.register("duration_seconds", "From making a command to its end", metrics.seconds.clone());
        registry.register("commit_seconds", "How long a commit of the store takes", metrics.commits.clone());
        registry.register("pending", "Commands that wait, by daemon", metrics.pending.clone());
        registry.register("dispatched", "Commands that a daemon has", metrics.dispatched.clone());
        registry.register("oldest_seconds", "Age of the command that waits longest", metrics.oldest.clone());
        registry.register(
            "stored_bytes",
            "Bytes of bodies beside the database, promised ones too",
            metrics.stored.clone(),
        );
        registry.register("received_bytes", "Bytes of such bodies that were put", metrics.received.clone());
        registry.register("sent_bytes", "Bytes of such bodies that were fetched", metrics.sent.clone());
        Metrics { registry: Mutex::new(registry), ..metrics }
    }
}

impl Metrics {
    pub fn created(&self) {
        self.created.inc();
    }

    /// A commit of the store, which answers everybody who waits for it.
    pub fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    pub fn leased(&self, count: usize) {
        self.leased.inc_by(count as u64);
    }

    pub fn taken_back(&self) {
        self.taken_back.inc();
    }

    pub fn ended(&self, command: &Command) {
        self.ended.get_or_create(&Outcome { state: command.state.as_str().to_lowercase() }).inc();
        self.seconds.observe(now().saturating_sub(command.created_at) as f64 / 1000.0);
    }

    /// So many bytes of a body beside the database have come.
    pub fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    /// The same the other way.
    pub fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    /// As text; `stored` is how many bytes there are beside the database, `depths` is what waits and what is handed out now, by daemon, with the age of what waits longest.
    pub fn text(&self, stored: u64, depths: Vec<((String, String), usize, usize, Millis)>) -> String {
        for family in [&self.pending, &self.dispatched, &self.oldest] {
            family.clear();
        }
        for ((deployment, resource), pending, dispatched, oldest) in depths {
            let labels = Daemon { deployment, resource };
            self.pending.get_or_create(&labels).set(pending as i64);
            self.dispatched.get_or_create(&labels).set(dispatched as i64);
            self.oldest.get_or_create(&labels).set((oldest / 1000) as i64);
        }
        self.stored.set(stored as i64);
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        text
    }
}
