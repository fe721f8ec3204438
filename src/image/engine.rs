//! Reaching a container engine, Docker or Podman, by the Docker API.

use super::error::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::time::Duration;

/// Where an engine listens unless it is told otherwise.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Why an engine is not reached.
#[derive(Debug)]
pub enum Unreached {
    /// The address is none that engines are asked at.
    Address { host: String },
    /// Nobody answers there.
    Unanswered { why: String },
}

/// Asks the engine at `host` (`unix://PATH` or `tcp://HOST:PORT`, as in `DOCKER_HOST`) which version of the API it speaks.
/// Whoever answers is reached; `patience` is how long each later request may go without an answer.
///
/// # Errors
/// [`Unreached`].
pub async fn connect(host: &str, patience: Duration) -> Result<Docker, Unreached> {
    let seconds = patience.as_secs();
    let engine = match host.split_once("://") {
        Some(("unix", path)) => Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION),
        Some(("tcp" | "http", address)) => Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION),
        _ => return Err(Unreached::Address { host: host.to_owned() }),
    };
    let unanswered = |why: bollard::errors::Error| Unreached::Unanswered { why: said(&why) };
    engine.map_err(unanswered)?.negotiate_version().await.map_err(unanswered)
}

/// The error of an address that is none.
pub fn no_address(host: &str) -> Error {
    Error::Options {
        what: format!("the Docker engine's address {host:?} is none that an engine is asked at"),
        hint:
            "give DOCKER_HOST (dockerHost) as unix:///PATH or tcp://HOST:PORT; of one behind ssh or TLS, images can be \
            saved there and used as docker-archive:FILE"
                .to_owned(),
    }
}

/// An error's last cause: those before it say only that there was one.
pub fn said(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
