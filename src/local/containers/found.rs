//! The containers that there are, and how they are.

use super::engine::{Engine, Kind};
use super::names::{DAEMON, DEPLOYMENT, Names, VERSION};
use crate::error::Report;
use crate::sandbox::Failure;
use crate::supervisor::protocol::{ExitStatus, Phase, RolledBack, Status};
use crate::supervisor::spec::Spec;
use crate::sys::process::Exit;
use crate::sys::time;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::time::Duration;

/// How many containers an engine is asked about at once.
const AT_ONCE: usize = 16;
/// A run that lasted this long was a healthy one.
const HEALTHY: Duration = Duration::from_secs(10);

/// A container as the engine tells of it. What bollard makes of it does not know all the states that Podman has.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    pub id: String,
    #[serde(default)]
    pub created: String,
    pub state: State,
    #[serde(default)]
    pub restart_count: u64,
    /// Where its log is, as far as the engine tells.
    #[serde(default)]
    pub log_path: String,
    config: Config,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    #[serde(default)]
    status: String,
    pub running: bool,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    restarting: bool,
    #[serde(rename = "OOMKilled", default)]
    oom: bool,
    #[serde(default)]
    pid: i32,
    #[serde(default)]
    exit_code: i32,
    #[serde(default)]
    pub started_at: String,
    #[serde(default)]
    finished_at: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

impl Container {
    fn label(&self, name: &str) -> &str {
        self.config.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str)
    }

    /// The deployment's name.
    pub fn deployment(&self) -> &str {
        self.label(DEPLOYMENT)
    }

    /// The daemon's id.
    pub fn daemon(&self) -> &str {
        self.label(DAEMON)
    }

    /// Which version of the daemon it runs.
    pub fn version(&self) -> &str {
        self.label(VERSION)
    }

    /// Whether it is of this daemon, of this state directory.
    pub fn is_of(&self, names: &Names<'_>) -> bool {
        names.labels("").iter().all(|(label, value)| self.label(label) == value)
    }

    /// Whether its program runs, and is not just about to.
    pub fn runs(&self) -> bool {
        self.state.running && !self.state.restarting && !self.state.paused
    }

    /// How long its program has run. Engine and caller have one clock: they are on one machine.
    fn lived(&self) -> Duration {
        let since = seconds(&self.state.started_at).unwrap_or_default();
        Duration::try_from_secs_f64(time::wall().as_secs_f64() - since).unwrap_or_default()
    }

    /// How long its program, which runs, has yet to live to count as up.
    pub fn unsettled(&self, run: &Spec) -> Duration {
        Duration::from_millis(run.settle_ms).saturating_sub(self.lived())
    }

    /// Whether the program was started and has ended.
    pub fn has_ended(&self) -> bool {
        !self.runs() && !self.state.paused && is_time(&self.state.finished_at)
    }

    /// Whether Podman has yet to see to what has ended: that is `stopped` until then, and `exited` after.
    pub fn is_between_runs(&self) -> bool {
        self.state.status == "stopped"
    }

    /// Whether it was made and not started yet.
    pub fn never_started(&self) -> bool {
        !is_time(&self.state.started_at)
    }

    /// How the last run ended, where the container stands still after it.
    pub fn last_exit(&self) -> Option<ExitStatus> {
        let exit = || Exit::from_shell_code(self.state.exit_code);
        self.has_ended().then(|| ExitStatus::new(exit(), self.state.oom, stamp(&self.state.finished_at)))
    }
}

/// One container; `None` where there is none.
pub async fn inspect(engine: &Engine, id: &str) -> Result<Option<Container>, Report> {
    let call = async {
        match engine.read(|| engine.docker.inspect_container(id, None::<InspectContainerOptions>)).await {
            Ok(known) => reread(known),
            Err(Error::JsonDataError { contents, .. }) => Ok(serde_json::from_str(&contents)?),
            Err(error) => Err(error),
        }
    };
    engine.find("tell how a container is", call).await
}

fn reread<T: DeserializeOwned>(known: ContainerInspectResponse) -> Result<T, Error> {
    Ok(serde_json::from_value(serde_json::to_value(known)?)?)
}

/// All containers with these labels, the oldest first.
pub async fn all(engine: &Engine, filters: HashMap<String, Vec<String>>) -> Result<Vec<Container>, Report> {
    let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
    let call = async {
        match engine.read(|| engine.docker.list_containers(Some(options.clone()))).await {
            Ok(known) => Ok(known.into_iter().filter_map(|one| one.id).collect()),
            Err(Error::JsonDataError { contents, .. }) => {
                let listed: Vec<Listed> = serde_json::from_str(&contents)?;
                Ok(listed.into_iter().map(|one| one.id).collect::<Vec<String>>())
            }
            Err(error) => Err(error),
        }
    };
    let ids = engine.ask("list its containers", call).await?;
    let asked = ids.into_iter().map(|id| async move { inspect(engine, &id).await });
    let there: Vec<Option<Container>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    // It may have gone meanwhile.
    let mut found: Vec<Container> = there.into_iter().flatten().collect();
    found.sort_by(|a, b| a.created.cmp(&b.created));
    Ok(found)
}

/// How a daemon is whose version `run` is, and has this container.
pub async fn status(
    engine: &Engine,
    run: &Spec,
    container: &Container,
    rolled_back: Option<RolledBack>,
) -> Result<Status, Report> {
    let state = &container.state;
    let mut last_exit = container.last_exit();
    let mut was_healthy = false;
    if container.runs() && container.restart_count > 0 {
        let past = past(engine, container).await;
        was_healthy = past.as_ref().is_some_and(|past| past.lasted.is_some_and(|lasted| lasted >= HEALTHY));
        last_exit = past.map(|past| past.exit);
    }
    let phase = if container.runs() {
        match container.unsettled(run) {
            Duration::ZERO => Phase::Running,
            _ if container.restart_count > 0 && !was_healthy => Phase::CrashLooping,
            _ => Phase::Starting,
        }
    } else if is_about_to_restart(engine, container) {
        Phase::CrashLooping
    } else {
        Phase::Stopping
    };
    let since = if container.runs() { &state.started_at } else { &state.finished_at };
    Ok(Status {
        state: phase,
        since: stamp(since),
        pid: (state.pid > 0).then_some(state.pid),
        started_at: container.runs().then(|| stamp(&state.started_at)),
        restarts: container.restart_count,
        // A run that somebody ended on purpose is no failure.
        last_exit: last_exit.filter(|_| container.restart_count > 0 || phase == Phase::CrashLooping),
        next_start_at: None,
        failure: None,
        unlimited: unlimited(engine, run).await?,
        rolled_back,
        version: run.version.clone(),
        // An engine's own settling says so.
        was_up: false,
        image: run.image.clone(),
        digest: run.digest.clone(),
    })
}

/// Whether the engine will start it again by itself. Podman has no state for that: it does so within a second, but for
/// what was stopped on purpose, which is `exited` and not just `stopped` to it.
pub fn is_about_to_restart(engine: &Engine, container: &Container) -> bool {
    let state = &container.state;
    match engine.kind {
        Kind::Docker => state.restarting,
        Kind::Podman => {
            let ended =
                Duration::try_from_secs_f64(seconds(&state.finished_at).unwrap_or_default()).unwrap_or_default();
            container.has_ended() && container.is_between_runs() && time::wall().saturating_sub(ended) < HEALTHY
        }
    }
}

/// Why a daemon runs without the limits that it asks for.
async fn unlimited(engine: &Engine, run: &Spec) -> Result<Option<Failure>, Report> {
    if run.limits.is_empty() {
        return Ok(None);
    }
    let can = engine.traits().await?;
    let missing = [
        ("cpu", run.limits.cpu_millis.is_some() && !can.cpu),
        ("memory", run.limits.memory_bytes.is_some() && !can.memory),
    ];
    let missing: Vec<&str> = missing.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect();
    let message =
        format!("{} cannot be limited: {} says that it cannot here", missing.join(" and "), engine.in_words());
    Ok((!missing.is_empty()).then(|| Failure::new("LIMITS_NOT_ENFORCED", message)))
}

/// A run that has ended.
pub struct Past {
    pub exit: ExitStatus,
    /// When it ended.
    pub at: Duration,
    /// How long it took, where its beginning is still known.
    lasted: Option<Duration>,
}

/// The run before the present one, where the engine still knows of it.
pub async fn past(engine: &Engine, container: &Container) -> Option<Past> {
    runs(engine, container).await.pop()
}

/// The first run that has ended since a time.
pub async fn first_end(engine: &Engine, container: &Container, since: Duration) -> Option<Past> {
    runs(engine, container).await.into_iter().find(|past| past.at >= since)
}

/// The runs that have ended, the last one last: the engine's events tell of them. They are few and do not outlive the
/// engine, so that nothing may be known of any.
async fn runs(engine: &Engine, container: &Container) -> Vec<Past> {
    const WAIT: Duration = Duration::from_secs(5);
    let began = seconds(&container.created).unwrap_or_default();
    let filters = HashMap::from([("container".to_owned(), vec![container.id.clone()])]);
    let options = EventsOptions {
        since: Some(format!("{}", began as u64)),
        until: Some(format!("{}", time::wall().as_secs() + 1)),
        filters: Some(filters),
    };
    let mut events = std::pin::pin!(engine.docker.events(Some(options)));
    let (mut started, mut oom, mut is_over, mut runs) = (None, false, false, Vec::new());
    let reading = async {
        while let Some(Ok(event)) = events.next().await {
            let at = event.time_nano.and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
            match event.action.as_deref() {
                Some("start") => (started, oom, is_over) = (at, false, false),
                // The kernel tells containerd of it on a way of its own: the word may come after that of the end.
                Some("oom") => match runs.last_mut() {
                    Some(Past { exit, .. }) if is_over => exit.oom = true,
                    _ => oom = true,
                },
                Some("die" | "died") => {
                    is_over = true;
                    let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
                    let code =
                        ["exitCode", "containerExitCode"].iter().find_map(|name| attributes.get(*name)?.parse().ok());
                    let at = at.unwrap_or_else(time::wall);
                    runs.extend(code.map(|code| Past {
                        exit: ExitStatus::new(Exit::from_shell_code(code), oom, time::rfc3339(at)),
                        at,
                        lasted: started.map(|started| at.saturating_sub(started)),
                    }));
                }
                _ => {}
            }
        }
    };
    // What has been told until then is what is known. An engine waits for the end of the time that was asked about.
    let _ = tokio::time::timeout(WAIT, reading).await;
    runs
}

/// Go's zero time is no time.
fn is_time(text: &str) -> bool {
    !text.is_empty() && !text.starts_with("0001-")
}

/// Seconds since 1970.
fn seconds(text: &str) -> Option<f64> {
    let at: jiff::Timestamp = text.parse().ok().filter(|_| is_time(text))?;
    Some(at.as_nanosecond() as f64 / 1e9)
}

/// A time as ours are written: in UTC, with nine digits.
fn stamp(text: &str) -> String {
    text.parse::<jiff::Timestamp>().map_or_else(|_| text.to_owned(), |at| format!("{at:.9}"))
}
