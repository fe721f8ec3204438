//! A daemon's output: its container's log, on through restarts and replacements of its pod, nothing lost and nothing
//! twice.
//!
//! The API's log does not say which of the two streams a line was written to (it can from Kubernetes 1.32 on, where
//! that is switched on): all of it counts as standard output.

use super::api::{Cluster, encode};
use super::diagnosis;
use super::failure;
use super::feed::Feed;
use super::manifest::CONTAINER;
use super::snapshot;
use crate::engine::logs::{Line, Options, ReadAhead, Stopped};
use crate::error::Report;
use crate::sys::time;
use futures_util::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use http::Request;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The longest piece of a line, as on Local; a time stands before it.
const PIECE: u64 = 16 * 1024;
const STAMP: u64 = 40;
/// How soon a stream that was cut is opened again.
const AGAIN: Duration = Duration::from_millis(100);

type Stream = Pin<Box<dyn AsyncBufRead + Send>>;

/// Begins to read the log of a daemon; with `follow`, goes on until the daemon is gone.
pub fn open(cluster: Arc<Cluster>, deployment: &str, id: &str, options: Options) -> ReadAhead {
    let (deployment, id) = (deployment.to_owned(), id.to_owned());
    ReadAhead::new(|tell| async move {
        let mut source = Source { cluster, id, options, tell, last: Last::default() };
        if source.options.follow { source.follow(&deployment).await } else { source.read_there(&deployment).await }
    })
}

/// The last line that was read of a pod: its time, and how many had that time.
#[derive(Default, Clone)]
struct Last {
    time: String,
    count: usize,
}

struct Source {
    cluster: Arc<Cluster>,
    /// The daemon's.
    id: String,
    options: Options,
    tell: mpsc::Sender<Result<Line, Report>>,
    last: Last,
}

impl Source {
    /// Everything that is there, pod by pod, the oldest first.
    async fn read_there(&mut self, deployment: &str) -> Result<(), Stopped> {
        let mut pods = snapshot::pods(&self.cluster, deployment).await?.remove(&self.id).unwrap_or_default();
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
        if self.options.previous {
            pods.drain(..pods.len().saturating_sub(1));
        }
        let mut kept = self.options.tail.map(|_| VecDeque::new());
        for pod in pods {
            self.last = Last::default();
            // While none runs, the run before is the last one there was.
            let previous = self.options.previous && diagnosis::container(&pod).is_some_and(is_running);
            if let Some(stream) = self.ask(&name(&pod), false, previous).await? {
                self.pour(stream, &mut kept).await?;
            }
        }
        for line in kept.into_iter().flatten() {
            self.give(line).await?;
        }
        Ok(())
    }

    /// What is there and what comes, run after run, until the daemon is gone.
    async fn follow(&mut self, deployment: &str) -> Result<(), Stopped> {
        let feed = Feed::start(&self.cluster, deployment);
        let mut finished = HashSet::new();
        let mut before: Option<(String, String)> = None;
        while let Some((pod, run)) = self.next_run(&feed, &finished).await? {
            match &before {
                // A run that began and ended, or went on, while nobody listened.
                Some((same, other)) if *same == pod && *other != run => {
                    if let Some(stream) = self.ask(&pod, false, true).await? {
                        self.pour(stream, &mut None).await?;
                    }
                }
                Some((other, _)) if *other != pod => self.last = Last::default(),
                _ => {}
            }
            let Some(stream) = self.ask(&pod, true, false).await? else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            before = Some((pod, run.clone()));
            self.pour(stream, &mut None).await?;
            // It has ended with the run, or it was cut: then it is opened again where it was.
            let (_, pods) = feed.daemon(&self.id);
            let mut containers = pods.iter().filter_map(diagnosis::container);
            let goes_on =
                containers.any(|container| container.container_id.as_ref() == Some(&run) && is_running(container));
            if goes_on {
                tokio::time::sleep(AGAIN).await;
            } else {
                finished.insert(run);
            }
        }
        Ok(())
    }

    /// The pod and container id of the oldest run that was not read to its end. `None` once the daemon is gone.
    async fn next_run(&self, feed: &Feed, finished: &HashSet<String>) -> Result<Option<(String, String)>, Report> {
        let mut changes = feed.changes_of(&self.id);
        loop {
            changes.mark_unchanged();
            let (deployment, mut pods) = feed.daemon(&self.id);
            if feed.is_synced() && deployment.is_none() && pods.is_empty() {
                return Ok(None);
            }
            pods.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
            let started = pods.iter().filter_map(|pod| Some((pod, diagnosis::container(pod)?.container_id.clone()?)));
            if let Some((pod, run)) = started.into_iter().find(|(_, run)| !finished.contains(run)) {
                return Ok(Some((name(pod), run)));
            }
            feed.check()?;
            if changes.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Asks for a pod's log. `None` where its container has not been started yet, or the pod has gone, or the server is
    /// away while following.
    async fn ask(&self, pod: &str, follow: bool, previous: bool) -> Result<Option<Stream>, Report> {
        let namespace = &self.cluster.namespace;
        let mut path = format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={CONTAINER}&timestamps=true&follow={follow}&previous={previous}"
        );
        // Times are told in whole seconds; lines of that second that were given already are left out later.
        let since = if self.last.time.is_empty() {
            self.options.since.map(time::rfc3339)
        } else {
            Some(self.last.time.clone())
        };
        if let Some(since) = since {
            path = format!("{path}&sinceTime={}", encode(&format!("{}Z", &since[..19])));
        }
        if let Some(tail) = self.options.tail.filter(|_| self.last.time.is_empty()) {
            path = format!("{path}&tailLines={tail}");
        }
        let doing = format!("reading the log of pod {pod:?} in namespace {namespace:?}");
        let request = Request::get(&path).body(Vec::new());
        let request = request.map_err(|error| Report::new("INTERNAL_ERROR", format!("{doing}: {error}")))?;
        let error = match self.cluster.entrance.client.request_stream(request).await {
            Ok(stream) => return Ok(Some(Box::pin(stream))),
            Err(error) => error,
        };
        match failure::code(&error) {
            Some(404) => Ok(None),
            Some(400) if !self.options.previous => Ok(None),
            Some(400) => {
                let message = format!("there was no run of daemon {:?} before the present one in pod {pod:?}", self.id);
                Err(Report::new("NO_PREVIOUS_RUN", message).status(404))
            }
            _ if self.options.follow && failure::is_passing(&error) => Ok(None),
            _ => Err(failure::report(&error, &doing, &self.cluster.entrance.server)),
        }
    }

    /// Gives every line of a stream that was not given before, or keeps the last ones.
    async fn pour(&mut self, mut stream: Stream, kept: &mut Option<VecDeque<Line>>) -> Result<(), Stopped> {
        let mut seen = self.last.clone();
        let since = self.options.since.map(time::rfc3339).unwrap_or_default();
        let mut mid_line: Option<String> = None;
        loop {
            let mut piece = Vec::new();
            let limit = if mid_line.is_some() { PIECE } else { PIECE + STAMP };
            match (&mut stream).take(limit).read_until(b'\n', &mut piece).await {
                Ok(1..) => {}
                // The end, or a cut.
                _ => return Ok(()),
            }
            let partial = piece.pop_if(|last| *last == b'\n').is_none();
            let goes_on = mid_line.is_some();
            let (time, bytes) = match mid_line.take() {
                Some(time) => (time, piece.as_slice()),
                None => match stamped(&piece) {
                    Some(parts) => parts,
                    // No line of a log: the kubelet says why there is none.
                    None if self.options.previous => return Err(self.unreadable(&piece).into()),
                    None => continue,
                },
            };
            if partial {
                mid_line = Some(time.clone());
            }
            if time < seen.time {
                continue;
            }
            if time == seen.time && seen.count > 0 {
                seen.count -= usize::from(!goes_on);
                continue;
            }
            if time != self.last.time {
                self.last = Last { time: time.clone(), count: 0 };
            }
            self.last.count += usize::from(!goes_on);
            if time < since {
                continue;
            }
            let line =
                Line { time, stream: "stdout".to_owned(), line: String::from_utf8_lossy(bytes).into_owned(), partial };
            match kept {
                None => self.give(line).await?,
                Some(kept) => {
                    kept.push_back(line);
                    kept.drain(..kept.len().saturating_sub(self.options.tail.unwrap_or(usize::MAX)));
                }
            }
        }
    }

    fn unreadable(&self, said: &[u8]) -> Report {
        let message =
            format!("the log of daemon {:?} cannot be read: {}", self.id, String::from_utf8_lossy(said).trim());
        Report::new("LOG_UNREADABLE", message)
    }

    async fn give(&self, line: Line) -> Result<(), Stopped> {
        self.tell.send(Ok(line)).await.map_err(|_| Stopped::Unheard)
    }
}

fn is_running(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// `<time> <text>`, the time in UTC with nine digits, so that times compare as text.
fn stamped(bytes: &[u8]) -> Option<(String, &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    let time: jiff::Timestamp = std::str::from_utf8(&bytes[..at]).ok()?.parse().ok()?;
    Some((format!("{time:.9}"), bytes.get(at + 1..).unwrap_or_default()))
}
