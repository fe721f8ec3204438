//! Whether a daemon's container comes up, and how its program ended where it does not.

use super::found::{self, Container};
use super::keeper::{BEGIN, Keeper, LOOK};
use super::logs;
use crate::engine::failure;
use crate::error::Report;
use crate::supervisor::protocol::ExitStatus;
use crate::supervisor::spec::Spec;
use crate::sys::time;
use std::time::Duration;

/// Lines of a program's last words in an error.
const LAST_LINES: usize = 20;

impl Keeper<'_> {
    /// Follows a container until its program is up, or has ended: engines start it again, more than `restarts` times then.
    pub(super) async fn until_up(&self, run: &Spec, id: &str, restarts: u64) -> Result<(), End> {
        let (began, begun) = (time::wall(), tokio::time::Instant::now());
        loop {
            let container = found::inspect(self.engine, id).await.map_err(End::of)?;
            let Some(container) = container else {
                let message = format!("the container of daemon {:?} was removed by somebody else", self.names.id);
                return Err(End::of(Report::new("CONTAINER_GONE", message).hint("deploy again to make it anew")));
            };
            if container.runs() && container.restart_count <= restarts {
                match container.unsettled(run) {
                    Duration::ZERO => return Ok(()),
                    left => tokio::time::sleep(left.min(LOOK)).await,
                }
                continue;
            }
            if container.restart_count > restarts || container.has_ended() {
                return Err(self.end_of(&container, began).await);
            }
            if begun.elapsed() > BEGIN {
                let message =
                    format!("the container of daemon {:?} was not started within {} s", self.names.id, BEGIN.as_secs());
                return Err(End::of(Report::new("ENGINE_REFUSED", message).status(504)));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How the run ended that did not come up, and what it printed. The engine may have begun another one by now.
    async fn end_of(&self, container: &Container, began: Duration) -> End {
        // A moment earlier: what is followed was started before.
        let began = began.saturating_sub(Duration::from_secs(1));
        let stands = container.last_exit().filter(|_| container.restart_count == 0);
        let (exit, until) = match stands {
            Some(exit) => (Some(exit), None),
            None => match self.told_end_of(container, began).await {
                Some(past) => (Some(past.exit), Some(past.at)),
                None => (container.last_exit(), None),
            },
        };
        let lines = logs::last_lines(self.engine, container, LAST_LINES, (began, until)).await;
        let report = lines.iter().find(|line| is_inits(line)).map(|why| {
            let message = format!("the program of daemon {:?} cannot be started: {why}", self.names.id);
            Report::new("ENTRYPOINT_MISSING", message)
                .hint("check the image's entry point, or give the daemon another command")
        });
        End { exit, lines, report }
    }

    /// What the engine's events tell of it: Podman writes them a little after the fact.
    async fn told_end_of(&self, container: &Container, began: Duration) -> Option<found::Past> {
        let patience = time::monotonic() + Duration::from_secs(2);
        loop {
            let told = found::first_end(self.engine, container, began).await;
            if told.is_some() || time::monotonic() > patience {
                return told;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) fn not_up(&self, end: End) -> Report {
        if let Some(report) = end.report {
            return report;
        }
        let how = end.exit.as_ref().map_or("an unknown cause".to_owned(), ExitStatus::in_words);
        let id = self.names.id;
        let message = format!("daemon {id:?} does not come up: its program ended with {how}");
        let hint = failure::left_crash_looping(&format!("alien logs {id}"), end.exit.as_ref());
        ended(Report::new("DAEMON_NOT_UP", message).hint(hint), end)
    }
}

/// How it came that a daemon is not up.
#[derive(Default)]
pub(super) struct End {
    pub(super) exit: Option<ExitStatus>,
    lines: Vec<String>,
    /// Where its program did not even run.
    pub(super) report: Option<Report>,
}

impl End {
    pub(super) fn of(report: Report) -> End {
        End { report: Some(report), ..End::default() }
    }
}

/// The error of a program that has ended: how, and what it printed last.
pub(super) fn ended(report: Report, end: End) -> Report {
    failure::ended(report, end.exit.as_ref(), end.lines)
}

/// What the inits of Docker (tini) and Podman (catatonit) print where there is no such program.
fn is_inits(line: &str) -> bool {
    line.contains("[FATAL tini (") || (line.starts_with("ERROR (catatonit:") && line.contains("failed to exec"))
}
