//! What went wrong with a request, in plain words, and whether and when to try again.

use super::{CONNECT_TIMEOUT, READ_TIMEOUT, Registry};
use crate::image::error::{Error, Result};
use backon::BackoffBuilder as _;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(150);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest `Retry-After` that is obeyed; a registry that asks for more fails the pull.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why one try failed.
pub(super) enum Failed {
    /// Another try may help.
    Transient { why: String, retry_after: Option<Duration> },
    /// It would not.
    Final(Error),
}

/// Counts tries and waits between them.
pub(super) struct Pauses {
    tries: u32,
    made: u32,
    delays: backon::ExponentialBackoff,
}

impl Pauses {
    pub(super) fn new(tries: u32) -> Pauses {
        let delays = backon::ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(tries as usize)
            .with_jitter()
            .build();
        Pauses { tries, made: 0, delays }
    }

    /// Waits as long as is right after a failed try, or returns the error when it was the last one.
    pub(super) async fn after(&mut self, failed: Failed, registry: &Registry) -> Result<()> {
        self.made += 1;
        match failed {
            Failed::Final(error) => Err(error),
            Failed::Transient { why, .. } if self.made >= self.tries => Err(registry.unreachable(why, self.made)),
            Failed::Transient { why, retry_after } => {
                let pause = self.delays.next().unwrap_or(LONGEST_PAUSE).max(retry_after.unwrap_or_default());
                if pause > LONGEST_RETRY_AFTER {
                    let why = format!("{why} and asks to come back in {} s", pause.as_secs());
                    return Err(registry.unreachable(why, self.made));
                }
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }
}

/// The first error of a body as the distribution specification shapes it.
pub(super) fn said(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = body.get("errors")?.get(0)?;
    let text = |key: &str| error.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let said = format!("{} {}", text("code"), text("message"));
    Some(said.trim().chars().filter(|char| !char.is_control()).take(200).collect())
}

/// An error's message and those of its causes.
pub(super) fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        texts.push(error.to_string());
        source = error.source();
    }
    texts.dedup();
    texts
}

/// The TLS error inside an I/O error, which may lie in another one.
fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| tls_error(inner.downcast_ref()?))
}

/// What a failed request means in plain words, and whether another try may help.
pub(super) fn describe(error: &reqwest::Error) -> (String, bool) {
    use std::io::ErrorKind;
    if error.is_timeout() {
        let what = if error.is_connect() {
            format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())
        } else {
            format!("it sent nothing for {} s", READ_TIMEOUT.as_secs())
        };
        return (what, true);
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    let mut last = error.to_string();
    while let Some(inner) = source {
        last = inner.to_string();
        if last.contains("dns error") {
            let detail = causes(inner).pop().unwrap_or_default();
            return (format!("its host name cannot be resolved: {detail}"), true);
        }
        let tls = match inner.downcast_ref::<std::io::Error>() {
            Some(io) => {
                let known = match io.kind() {
                    ErrorKind::ConnectionRefused => Some("connection refused"),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                        Some("the connection was reset")
                    }
                    ErrorKind::UnexpectedEof => Some("the connection was cut"),
                    ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some("there is no route to its host"),
                    _ => None,
                };
                if let Some(known) = known {
                    return (known.to_owned(), true);
                }
                tls_error(io)
            }
            None => inner.downcast_ref::<rustls::Error>(),
        };
        match tls {
            Some(rustls::Error::InvalidMessage(_)) => return ("it does not speak TLS (plain HTTP?)".to_owned(), false),
            Some(tls) => return (format!("its TLS certificate or handshake is not accepted: {tls}"), false),
            None => {}
        }
        source = inner.source();
    }
    let cut = ["message completed", "message length", "incomplete", "connection closed"];
    if error.is_body() || error.is_decode() || cut.iter().any(|part| last.contains(part)) {
        return ("the connection was cut".to_owned(), true);
    }
    (last, error.is_request() || error.is_connect())
}
