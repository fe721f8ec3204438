//! The container engine: who it is, and calls of it that end, with errors that say what was asked of whom.

use crate::error::Report;
use crate::image::engine::{self as engine_api, Unreached};
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::SystemInfoCgroupVersionEnum;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// How long an engine may take over a call, unless it is one that takes long.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to say who it is.
const GREETING: Duration = Duration::from_secs(10);
/// How long it is taken for the one that it was, as long as it answers at all.
const KNOWN: Duration = Duration::from_secs(60);

/// Whose engine it is, where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Docker,
    Podman,
}

/// What an engine says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// Whether it can limit it.
    pub cpu: bool,
    /// Whether it can limit it.
    pub memory: bool,
    /// Whether root of its containers is another one than who runs the engine (dockerd(8), `--userns-remap`).
    pub own_ids: bool,
}

/// A container engine that has answered.
#[derive(Debug, Clone)]
pub struct Engine {
    pub docker: Docker,
    pub host: String,
    pub kind: Kind,
    version: String,
    traits: Arc<OnceCell<Traits>>,
}

impl Engine {
    /// Asks who listens at an address such as `unix:///var/run/docker.sock`.
    ///
    /// # Errors
    /// `ENGINE_UNREACHABLE`; `IMAGE_OPTIONS_INVALID` for what is no address, and for certificates that cannot be used.
    pub async fn connect(host: &str) -> Result<Engine, Report> {
        let known = engines().get(host).filter(|(_, since)| since.elapsed() < KNOWN).map(|(engine, _)| engine.clone());
        if let Some(engine) = known
            && let Ok(Ok(_)) = tokio::time::timeout(GREETING, engine.docker.ping()).await
        {
            return Ok(engine);
        }
        engines().remove(host);
        let answer = tokio::time::timeout(GREETING, Engine::greet(host)).await;
        let engine = answer.unwrap_or_else(|_| {
            Err(unreachable(host, &format!("it did not answer within {} s", GREETING.as_secs())))
        })?;
        engines().insert(host.to_owned(), (engine.clone(), Instant::now()));
        Ok(engine)
    }

    async fn greet(host: &str) -> Result<Engine, Report> {
        let docker = engine_api::connect(host, PATIENCE).await.map_err(|why| match why {
            Unreached::Address { host } => engine_api::no_address(&host).into(),
            Unreached::Certificates { host, why } => engine_api::no_certificates(&host, &why).into(),
            Unreached::Unanswered { why } => unreachable(host, &why),
        })?;
        let version = docker.version().await.map_err(|error| unreachable(host, &engine_api::said(&error)))?;
        let components = version.components.unwrap_or_default();
        let is_podman = components.iter().any(|component| component.name.contains("Podman"));
        let kind = if is_podman { Kind::Podman } else { Kind::Docker };
        let version = version.version.unwrap_or_default();
        Ok(Engine { docker, host: host.to_owned(), kind, version, traits: Arc::default() })
    }

    /// `Docker 27.0.1 at unix:///var/run/docker.sock`.
    pub fn in_words(&self) -> String {
        let name = match self.kind {
            Kind::Docker => "Docker",
            Kind::Podman => "Podman",
        };
        format!("{name} {} at {}", self.version, self.host)
    }

    /// What it can limit here, and whose ids it has; asked once.
    pub async fn traits(&self) -> Result<Traits, Report> {
        let ask = || async {
            let info = self.ask("tell what it can limit", self.docker.info()).await?;
            // The first version of control groups is root's alone: what Podman tells is what the machine can.
            let is_held = !(info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_1) && self.is_users_podman());
            let can = |told: Option<bool>| is_held && told.unwrap_or(true);
            let options = info.security_options.unwrap_or_default();
            Ok(Traits {
                cpu: can(info.cpu_shares),
                memory: can(info.memory_limit),
                own_ids: options.iter().any(|option| option.split(',').any(|part| part == "name=userns")),
            })
        };
        self.traits.get_or_try_init(ask).await.copied()
    }

    /// Whether it is an ordinary user's Podman: the socket is that account's then.
    fn is_users_podman(&self) -> bool {
        let socket = self.host.strip_prefix("unix://").and_then(|path| fs::metadata(path).ok());
        self.kind == Kind::Podman && socket.is_some_and(|socket| socket.uid() != 0)
    }

    /// Makes a call.
    ///
    /// # Errors
    /// `ENGINE_UNREACHABLE`, `ENGINE_REFUSED`.
    pub async fn ask<T>(&self, doing: &str, call: impl Future<Output = Result<T, Error>>) -> Result<T, Report> {
        self.try_to(call).await.map_err(|error| self.report(doing, &error))
    }

    /// Makes a call about something that may not be there.
    ///
    /// # Errors
    /// As [`Engine::ask`].
    pub async fn find<T>(
        &self,
        doing: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, Report> {
        match self.try_to(call).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.report(doing, &error)),
        }
    }

    /// Makes a call that changes nothing, again where something has ended over it: Podman looks at a process that was there a
    /// moment ago, and takes its end for an error of its own.
    pub async fn read<T, C>(&self, call: impl Fn() -> C) -> Result<T, Error>
    where
        C: Future<Output = Result<T, Error>>,
    {
        const TRIES: u32 = 10;
        for _ in 1..TRIES {
            match call().await {
                Err(Error::DockerResponseServerError { status_code: 500, message })
                    if message.contains("no such process") => {}
                answer => return answer,
            }
        }
        call().await
    }

    /// Makes a call, giving the engine's own error. bollard gives up on an engine that does not begin to answer; this
    /// also gives up on one that does not get to the end.
    pub async fn try_to<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let patience = self.docker.timeout() + GREETING;
        tokio::time::timeout(patience, call).await.unwrap_or(Err(Error::RequestTimeoutError))
    }

    /// The same engine for calls that may take this much longer.
    pub fn patient(&self, longer: Duration) -> Docker {
        self.docker.clone().with_timeout(PATIENCE + longer)
    }

    /// What an engine's error is to the user.
    pub fn report(&self, doing: &str, error: &Error) -> Report {
        match error {
            Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
                Report::new(
                    "ENGINE_REFUSED",
                    format!("the container engine at {} did not {doing}: {message}", self.host),
                )
                .status(502)
                .with("engine", self.host.as_str())
            }
            error => unreachable(&self.host, &format!("it was to {doing}: {}", engine_api::said(error))),
        }
    }
}

/// Engines that have answered this process lately, by address. Only to say who it is takes Podman a second of processor: it
/// asks the machine's package manager for the names of all that it uses.
fn engines() -> MutexGuard<'static, HashMap<String, (Engine, Instant)>> {
    static ENGINES: LazyLock<Mutex<HashMap<String, (Engine, Instant)>>> = LazyLock::new(Mutex::default);
    ENGINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The status that an engine has answered with, where that is the error.
pub fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Whether an engine says that there is no such thing. Podman calls it an error of its own (500) where a container was
/// removed while it was being asked about.
fn is_missing(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code: 404, .. } => true,
        Error::DockerResponseServerError { status_code: 500, message } => message.contains("no such container"),
        _ => false,
    }
}

fn unreachable(host: &str, why: &str) -> Report {
    let report = Report::new("ENGINE_UNREACHABLE", format!("no container engine answers at {host}: {why}"))
        .status(503)
        .retryable()
        .with("engine", host);
    report.hint(if why.contains("ermission denied") {
        "deploy as a member of the socket's group: sudo usermod -aG docker $USER, then log in again"
    } else if why.contains("certificate") || why.contains("Certificate") {
        engine_api::CERTIFICATES
    } else {
        "start it (`sudo systemctl start docker`, `systemctl --user start podman.socket`); DOCKER_HOST (dockerHost) says where \
         a new deployment finds it"
    })
}

/// The first of several engines that answers.
///
/// # Errors
/// `ENGINE_UNREACHABLE`, naming all.
pub async fn first_of(hosts: &[String]) -> Result<Engine, Report> {
    let mut failures: Vec<Report> = Vec::new();
    for host in hosts {
        match Engine::connect(host).await {
            Ok(engine) => return Ok(engine),
            Err(failure) => failures.push(failure),
        }
    }
    let mut messages = failures.iter().map(|failure| failure.message.clone());
    let message = messages.next().into_iter().chain(messages).collect::<Vec<_>>().join("; ");
    match failures.into_iter().next() {
        Some(first) => Err(Report { message, ..first }),
        None => Err(unreachable("any address", "none is known")),
    }
}
