//! Bringing up another version of a daemon beside the container of the one that runs, and taking it back.

use super::keeper::{Keeper, ROLLED_BACK};
use super::up::{End, ended};
use crate::engine::event::Events;
use crate::engine::plan::Action;
use crate::error::Report;
use crate::local::layout::unusable;
use crate::local::version::Document;
use crate::sandbox::Failure;
use crate::supervisor::protocol::RolledBack;
use crate::supervisor::spec::{self, CURRENT, NEXT, PREVIOUS};
use std::fs;

impl Keeper<'_> {
    /// Makes the daemon run another version than `current`.
    pub(super) async fn update(
        &self,
        current: &Document,
        document: &Document,
        action: Action,
        events: &Events,
    ) -> Result<(), Report> {
        let dir = self.dir();
        let write = |file: &str, document: &Document| {
            spec::write(&dir.join(file), document).map_err(|error| unusable(&dir, &error))
        };
        if current.run.version == document.run.version {
            // What was declared differs, and what runs does not.
            write(CURRENT, document)?;
            return self.restart(action, events).await;
        }
        // The version that an interrupted change was bringing up, and the one before the last: nothing names them after this.
        let mut leaving = self.digests(&[NEXT, PREVIOUS]);
        write(NEXT, document)?;
        let had_been_up = self.has_been_up(&current.run).await?;
        self.clear(Some(&current.run.version)).await?;
        let id = self.make(&document.run).await?;
        events.resource(self.names.id, action, "updating", None);
        for old in self.containers().await?.iter().filter(|old| old.id != id) {
            self.halt(old, &current.run).await?;
        }
        let begun = match self.start(&document.run, &id).await {
            Ok(()) => self.until_up(&document.run, &id, 0).await,
            Err(report) => Err(End::of(report)),
        };
        match begun {
            Ok(()) => {
                self.take_up(current, document, &leaving).await?;
                self.note_up();
                events.resource(self.names.id, action, "running", None);
                Ok(())
            }
            // Neither has been up: the later one is left to be mended, as a first one is.
            Err(end) if end.report.is_none() && !had_been_up => {
                self.take_up(current, document, &leaving).await?;
                Err(self.not_up(end))
            }
            Err(end) => {
                // What cannot be told of an engine that is away is left as it is: the next deploy sees it.
                let taken_back = self.take_back(current, document, &id, end).await;
                if !dir.join(NEXT).exists() {
                    leaving.push(document.run.digest.clone());
                    self.drop_images(&leaving).await;
                }
                taken_back
            }
        }
    }

    /// Has the version that an update has started be the one that is to run, from now on alone.
    async fn take_up(&self, current: &Document, document: &Document, leaving: &[String]) -> Result<(), Report> {
        let dir = self.dir();
        let put = || {
            spec::write(&dir.join(PREVIOUS), current)?;
            fs::rename(dir.join(NEXT), dir.join(CURRENT))
        };
        put().map_err(|error| unusable(&dir, &error))?;
        let _ = fs::remove_file(dir.join(ROLLED_BACK));
        self.clear(Some(&document.run.version)).await?;
        self.drop_images(leaving).await;
        Ok(())
    }

    /// Has the version before run again, and gives the error that says so.
    async fn take_back(&self, current: &Document, tried: &Document, id: &str, end: End) -> Result<(), Report> {
        if let Some(report) = end.report.clone().filter(|report| report.code == "ENGINE_UNREACHABLE") {
            return Err(report);
        }
        self.remove_container(id).await?;
        let dir = self.dir();
        let _ = fs::remove_file(dir.join(NEXT));
        let back = RolledBack {
            version: tried.run.version.clone(),
            exit: end.exit.clone(),
            failure: end.report.as_ref().map(|report| Failure {
                code: report.code.clone(),
                message: report.message.clone(),
                hint: report.hint.clone(),
            }),
        };
        spec::write(&dir.join(ROLLED_BACK), &back).map_err(|error| unusable(&dir, &error))?;
        self.again(&current.run).await?;
        if let Some(report) = end.report {
            return Err(report);
        }
        let message = format!(
            "the new version of daemon {:?} did not come up: {}. The version before runs again.",
            self.names.id,
            back.why()
        );
        Err(ended(Report::new("UPDATE_ROLLED_BACK", message), end))
    }
}
