//! A daemon's output as its engine keeps it: on through restarts and through updates, which have another container, nothing
//! lost and nothing twice.

use super::engine::{Engine, Kind};
use super::found::{self, Container};
use super::names::Names;
use crate::engine::logs::{Line, Options, ReadAhead, Stopped};
use crate::error::Report;
use crate::sys::time;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_util::{Stream, StreamExt};
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The longest piece of a line, as everywhere.
const PIECE: usize = 16 * 1024;
/// Between two looks for a container that runs.
const LOOK: Duration = Duration::from_millis(100);
/// How long the last lines of a program are waited for.
const LAST: Duration = Duration::from_secs(5);

/// Whose log it is.
pub struct Whose {
    pub engine: Arc<Engine>,
    pub state: String,
    pub deployment: String,
    pub id: String,
    /// The daemon's folder: once it has gone, the daemon has.
    pub dir: PathBuf,
}

/// Begins to read; with `follow`, goes on until the daemon is gone.
pub fn open(whose: Whose, options: Options) -> ReadAhead {
    ReadAhead::new(|tell| async move {
        let mut source = Source { whose, options, tell, read: HashMap::new() };
        if source.options.follow { source.follow().await } else { source.read_there().await }
    })
}

/// How far a container's log has been read: the time of the last piece, and how many had that time.
#[derive(Default, Clone)]
struct Place {
    time: String,
    count: usize,
    /// When the run that was read to its end began and ended.
    finished: Option<(String, bool)>,
}

struct Source {
    whose: Whose,
    options: Options,
    tell: mpsc::Sender<Result<Line, Report>>,
    /// By container.
    read: HashMap<String, Place>,
}

impl Source {
    async fn containers(&self) -> Result<Vec<Container>, Report> {
        let Whose { engine, state, deployment, id, .. } = &self.whose;
        found::all(engine, Names { state, deployment, id }.filters()).await
    }

    /// Everything that is there, container by container, the oldest first.
    async fn read_there(&mut self) -> Result<(), Stopped> {
        let mut kept = self.options.tail.map(|_| VecDeque::new());
        for container in self.containers().await? {
            self.pour(&container, false, &mut kept).await?;
        }
        for line in kept.into_iter().flatten() {
            self.give(line).await?;
        }
        Ok(())
    }

    /// What is there and what comes, run after run.
    async fn follow(&mut self) -> Result<(), Stopped> {
        let mut first = true;
        loop {
            let containers = self.containers().await?;
            if containers.is_empty() && !self.whose.dir.exists() {
                return Ok(());
            }
            if let Some(tail) = self.options.tail.filter(|_| first) {
                self.begin_at_the_end(&containers, tail).await?;
            }
            first = false;
            let next = containers.into_iter().find(|container| {
                let finished = self.read.get(&container.id).and_then(|place| place.finished.as_ref());
                let is_read = finished.is_some_and(|(began, ended)| *began == container.state.started_at && *ended);
                !container.never_started() && (container.runs() || !is_read)
            });
            let Some(container) = next else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            let runs = container.runs();
            self.pour(&container, runs, &mut None).await?;
            let place = self.read.entry(container.id.clone()).or_default();
            place.finished = Some((container.state.started_at.clone(), !runs));
            if runs {
                // The run has ended, or the connection was cut: what was written last is asked for once more.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Gives the last lines that are there, and notes that all of them have been read.
    async fn begin_at_the_end(&mut self, containers: &[Container], tail: usize) -> Result<(), Stopped> {
        let mut kept = Some(VecDeque::new());
        for container in containers {
            self.pour(container, false, &mut kept).await?;
        }
        let kept = kept.unwrap_or_default();
        let skipped = kept.len().saturating_sub(tail);
        for line in kept.into_iter().skip(skipped) {
            self.give(line).await?;
        }
        Ok(())
    }

    /// Gives every line of a container that was not given before, or keeps the last ones.
    async fn pour(
        &mut self,
        container: &Container,
        follow: bool,
        kept: &mut Option<VecDeque<Line>>,
    ) -> Result<(), Stopped> {
        let before = self.read.get(&container.id).cloned().unwrap_or_default();
        let since = self.options.since.map(time::rfc3339).unwrap_or_default();
        let from = if before.time.is_empty() { since.as_str() } else { before.time.as_str() };
        let engine = Arc::clone(&self.whose.engine);
        let mut pieces = pin!(read(&engine, &container.id, follow, from));
        let mut skip = before.count;
        let mut lines = Joined::default();
        while let Some(piece) = pieces.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                // It has gone meanwhile, or the engine has: the next look tells.
                Err(_) if follow => break,
                Err(report) if report.http_status_code == 404 => break,
                Err(report) => return Err(report.into()),
            };
            if piece.time < before.time {
                continue;
            }
            if piece.time == before.time && skip > 0 {
                skip -= 1;
                continue;
            }
            let place = self.read.entry(container.id.clone()).or_default();
            if place.time != piece.time {
                (place.time, place.count) = (piece.time.clone(), 0);
            }
            place.count += 1;
            for line in lines.add(piece) {
                self.take(line, &since, kept).await?;
            }
        }
        for line in lines.rest() {
            self.take(line, &since, kept).await?;
        }
        Ok(())
    }

    async fn take(&self, line: Line, since: &str, kept: &mut Option<VecDeque<Line>>) -> Result<(), Stopped> {
        // Podman tells the seconds of a line's time alone.
        let is_wanted = line.time.as_str() >= since || (since.starts_with(&line.time[..19]) && self.tells_seconds());
        match kept {
            _ if !is_wanted => Ok(()),
            None => self.give(line).await,
            Some(kept) => {
                kept.push_back(line);
                let most = self.options.tail.unwrap_or(usize::MAX);
                kept.drain(..kept.len().saturating_sub(most));
                Ok(())
            }
        }
    }

    fn tells_seconds(&self) -> bool {
        self.whose.engine.kind == Kind::Podman
    }

    async fn give(&self, line: Line) -> Result<(), Stopped> {
        self.tell.send(Ok(line)).await.map_err(|_| Stopped::Unheard)
    }
}

/// The last lines that a container printed in a time, where they can be had.
pub async fn last_lines(
    engine: &Engine,
    container: &Container,
    count: usize,
    (since, until): (Duration, Option<Duration>),
) -> Vec<String> {
    let mut last = VecDeque::new();
    let mut lines = Joined::default();
    let (since, until) = (time::rfc3339(since), until.map(time::rfc3339));
    let is_meant = |piece: &Piece| {
        let began = if engine.kind == Kind::Podman { &since[..19] } else { since.as_str() };
        piece.time.as_str() >= began && until.as_ref().is_none_or(|until| piece.time <= *until)
    };
    let reading = async {
        // Podman's file tells the whole time of a line, its API only the second, in which another run may have begun.
        let mut pieces: Pieces<'_> = match written(engine, container) {
            Some(pieces) => Box::pin(futures_util::stream::iter(pieces.into_iter().map(Ok))),
            None => read(engine, &container.id, false, &since),
        };
        while let Some(Ok(piece)) = pieces.next().await {
            if is_meant(&piece) {
                last.extend(lines.add(piece));
                last.drain(..last.len().saturating_sub(count));
            }
        }
    };
    let _ = tokio::time::timeout(LAST, reading).await;
    last.extend(lines.rest());
    let skipped = last.len().saturating_sub(count);
    last.into_iter().skip(skipped).map(|line| line.line).collect()
}

/// What is in Podman's file of a log, where this account may read it: CRI lines.
fn written(engine: &Engine, container: &Container) -> Option<Vec<Piece>> {
    if engine.kind != Kind::Podman {
        return None;
    }
    let bytes = std::fs::read(&container.log_path).ok()?;
    let pieces = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let mut word = || std::str::from_utf8(fields.next()?).ok();
        let (time, stream, tag) = (word()?, word()?, word()?);
        let time: jiff::Timestamp = time.parse().ok()?;
        let mut bytes = fields.next()?.to_vec();
        if tag == "P" {
            bytes.pop();
        }
        let stream = if stream == "stderr" { "stderr" } else { "stdout" };
        Some(Piece { time: format!("{time:.9}"), stream, bytes })
    });
    Some(pieces.collect())
}

/// What an engine gives at once: a line, or a piece of one.
struct Piece {
    time: String,
    stream: &'static str,
    bytes: Vec<u8>,
}

type Pieces<'e> = Pin<Box<dyn Stream<Item = Result<Piece, Report>> + Send + 'e>>;

/// A container's log from a time on; engines take whole seconds.
fn read<'e>(engine: &'e Engine, id: &str, follow: bool, from: &str) -> Pieces<'e> {
    let since = from.parse::<jiff::Timestamp>().map_or(0, |at| i32::try_from(at.as_second() - 1).unwrap_or(0));
    let options = LogsOptions {
        follow,
        stdout: true,
        stderr: true,
        since: since.max(0),
        timestamps: true,
        ..LogsOptions::default()
    };
    let output = engine.docker.logs(id, Some(options));
    Box::pin(output.filter_map(move |output| async move {
        match output {
            Ok(LogOutput::StdErr { message }) => stamped("stderr", &message).map(Ok),
            Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => stamped("stdout", &message).map(Ok),
            Ok(LogOutput::StdIn { .. }) => None,
            Err(error) => {
                let status = super::engine::status(&error);
                let report = engine.report("give a container's log", &error);
                // 409: it is being removed.
                Some(Err(if matches!(status, Some(404 | 409)) { report.status(404) } else { report }))
            }
        }
    }))
}

/// `<time> <bytes>`, the time in UTC with nine digits, so that times compare as text.
fn stamped(stream: &'static str, bytes: &[u8]) -> Option<Piece> {
    let at = bytes.iter().position(|byte| *byte == b' ')?;
    let time: jiff::Timestamp = std::str::from_utf8(&bytes[..at]).ok()?.parse().ok()?;
    Some(Piece { time: format!("{time:.9}"), stream, bytes: bytes[at + 1..].to_vec() })
}

/// Puts pieces together to lines. Engines cut lines where their buffers end, or where a program wrote them in parts.
#[derive(Default)]
struct Joined {
    stdout: Held,
    stderr: Held,
}

#[derive(Default)]
struct Held {
    time: String,
    bytes: Vec<u8>,
}

impl Joined {
    fn of(&mut self, stream: &str) -> &mut Held {
        if stream == "stderr" { &mut self.stderr } else { &mut self.stdout }
    }

    fn add(&mut self, piece: Piece) -> Vec<Line> {
        let Piece { time, stream, mut bytes } = piece;
        let held = self.of(stream);
        if held.bytes.is_empty() {
            held.time = time;
        }
        let is_whole = bytes.pop_if(|last| *last == b'\n').is_some();
        held.bytes.append(&mut bytes);
        let mut lines = Vec::new();
        while held.bytes.len() > PIECE {
            let rest = held.bytes.split_off(PIECE);
            lines.push(held.line(stream, true));
            held.bytes = rest;
        }
        if is_whole {
            lines.push(held.line(stream, false));
        } else if held.bytes.len() == PIECE {
            lines.push(held.line(stream, true));
        }
        lines
    }

    /// What ends without a line end.
    fn rest(mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        for stream in ["stdout", "stderr"] {
            let held = self.of(stream);
            if !held.bytes.is_empty() {
                lines.push(held.line(stream, false));
            }
        }
        lines
    }
}

impl Held {
    fn line(&mut self, stream: &str, partial: bool) -> Line {
        let bytes = std::mem::take(&mut self.bytes);
        Line {
            time: self.time.clone(),
            stream: stream.to_owned(),
            line: String::from_utf8_lossy(&bytes).into_owned(),
            partial,
        }
    }
}
