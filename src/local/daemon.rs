//! Bringing one daemon up, to another version, or away, by way of its folder and its supervisor.

use super::control::{self, Conversation, UNRESPONSIVE};
use super::helper::Helper;
use super::layout::{Layout, unusable};
use super::version::Document;
use crate::engine::event::Events;
use crate::engine::failure;
use crate::engine::plan::Action;
use crate::error::Report;
use crate::supervisor::log;
use crate::supervisor::protocol::{CONTROL, ExitStatus, Op, Phase, Reply, SCANNER, Status};
use crate::supervisor::spec::{self, CURRENT, PREVIOUS, REMOVED};
use crate::sys::{process, time};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lines of a program's last words in an error.
const LAST_LINES: usize = 20;
/// Between two looks for something that nobody tells us of.
const LOOK: Duration = Duration::from_millis(1);
/// How many supervisors may go away over one update.
const ATTEMPTS: u32 = 5;

/// One daemon's folder, and the means to change what happens there.
pub struct DaemonDir<'a> {
    pub layout: &'a Layout,
    pub helper: &'a Helper,
    pub deployment: &'a str,
    pub id: &'a str,
}

/// From when on a daemon's being up counts.
#[derive(Clone, Copy)]
enum Since {
    /// Since its supervisor took up the version, for whose first time we wait.
    TakenUp,
    /// It has to be up once more.
    Now,
}

impl DaemonDir<'_> {
    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.layout.daemon(self.deployment, self.id)
    }

    /// What was deployed last, if anything was.
    pub fn document(&self) -> Option<Document> {
        let dir = self.path();
        (!dir.join(REMOVED).exists()).then(|| spec::read(&dir.join(CURRENT)).ok()).flatten()
    }

    /// Makes the daemon run this version, and returns once it is up.
    ///
    /// # Errors
    /// `DAEMON_NOT_UP` where it ends by itself and no version has been up yet: it is left crash-looping. `UPDATE_ROLLED_BACK`
    /// where one has: the last that was runs again. What the image lacks (program, user) by its own code; nothing has
    /// changed then, and a first version is gone again.
    pub async fn put(&self, document: &Document, action: Action, events: &Events) -> Result<(), Report> {
        let result = match self.document() {
            Some(_) => self.update(document, action, events).await,
            None => self.create(document, action, events).await,
        };
        result.map_err(|error| error.with("daemon", self.id).with("image", document.run.image.as_str()))
    }

    async fn create(&self, document: &Document, action: Action, events: &Events) -> Result<(), Report> {
        let dir = self.path();
        if dir.exists() {
            // Someone was interrupted while removing it.
            self.remove(events).await?;
        }
        let began = time::rfc3339(time::wall());
        self.helper
            .scan_after(|| {
                self.stage(document)?;
                events.resource(self.id, action, "starting", None);
                Ok(())
            })
            .await?;
        let mut conversation = self.talk(Op::Watch).await?;
        match self.until_up(&mut conversation, document, &began, Since::TakenUp).await {
            Err(error) if cannot_ever_run(&error.code) => {
                self.remove(&Events::ignored()).await?;
                Err(error)
            }
            Err(error) => Err(error),
            Ok(()) => {
                events.resource(self.id, action, "running", None);
                Ok(())
            }
        }
    }

    /// Makes the folder aside and puts it in its place whole: a scanner never sees half of it.
    fn stage(&self, document: &Document) -> Result<(), Report> {
        let dir = self.path();
        let staged = dir.with_file_name(format!(".{}-{}", self.id, std::process::id()));
        let make = || {
            let _ = fs::remove_dir_all(&staged);
            fs::create_dir_all(&staged)?;
            spec::write(&staged.join(CURRENT), document)?;
            fs::rename(&staged, &dir)
        };
        make().map_err(|error| {
            let _ = fs::remove_dir_all(&staged);
            unusable(&dir, &error)
        })
    }

    async fn update(&self, document: &Document, action: Action, events: &Events) -> Result<(), Report> {
        let began = time::rfc3339(time::wall());
        self.helper.scan().await?;
        events.resource(self.id, action, "updating", None);
        let mut conversation = self.ask_to_update(document).await?;
        self.until_up(&mut conversation, document, &began, Since::TakenUp).await?;
        events.resource(self.id, action, "running", None);
        Ok(())
    }

    /// Has the supervisor take up this version. One that goes away over it, or is stopped and therefore ended, may have
    /// done so or not: the folder says which.
    async fn ask_to_update(&self, document: &Document) -> Result<Conversation, Report> {
        let dir = self.path();
        let request = process::random().map(u64::from_ne_bytes).map_err(|error| unusable(&dir, &error))?;
        let next = dir.join(spec::next(request));
        let asked = self.ask_until_taken_up(document, &next, Op::Update(request)).await;
        if asked.is_err() {
            let _ = fs::remove_file(&next);
        }
        asked
    }

    async fn ask_until_taken_up(&self, document: &Document, next: &Path, op: Op) -> Result<Conversation, Report> {
        for attempt in 1.. {
            spec::write(next, document).map_err(|error| unusable(&self.path(), &error))?;
            let error = match self.talk(op).await {
                Err(error) => error,
                Ok(mut conversation) => match conversation.next().await {
                    Ok(Reply::Refused(failure)) => return Err(failure.into()),
                    Ok(_) => return Ok(conversation),
                    Err(error) => {
                        self.replace(conversation, &error).await?;
                        error
                    }
                },
            };
            let taken_up = self.document().is_some_and(|there| there.run.version == document.run.version);
            if taken_up && !next.exists() {
                return self.talk(Op::Watch).await;
            }
            if attempt == ATTEMPTS {
                return Err(error);
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Ends the supervisor that was spoken with where it does not answer, and sees to it that there is another one.
    async fn replace(&self, conversation: Conversation, error: &Report) -> Result<(), Report> {
        if error.code == UNRESPONSIVE {
            conversation.end_peer().await;
        }
        self.helper.scan().await
    }

    /// Stops the daemon and starts it again.
    pub async fn restart(&self, action: Action, events: &Events) -> Result<(), Report> {
        let dir = self.path();
        // It was there a moment ago: somebody is removing it.
        let document = self.document().ok_or_else(|| failure::no_daemon(self.deployment, self.id, &[]))?;
        let began = time::rfc3339(time::wall());
        self.helper.renew().await;
        events.resource(self.id, action, "restarting", None);
        let asked = match Conversation::begin(&dir, CONTROL, Op::Restart).await {
            Ok(mut conversation) => match conversation.next_soon().await {
                Ok(Reply::Refused(failure)) => return Err(failure.into()),
                Ok(_) => Some(conversation),
                Err(error) => {
                    self.replace(conversation, &error).await?;
                    None
                }
            },
            Err(_) => {
                self.helper.scan().await?;
                None
            }
        };
        let mut conversation = match asked {
            Some(conversation) => conversation,
            // Nobody kept it: once somebody does, it is started without being asked for.
            None => self.talk(Op::Watch).await?,
        };
        self.until_up(&mut conversation, &document, &began, Since::Now)
            .await
            .map_err(|error| error.with("path", dir.display().to_string()))?;
        events.resource(self.id, action, "running", None);
        Ok(())
    }

    /// Makes the daemon run the version that ran before this one, and returns once it is up.
    ///
    /// # Errors
    /// `NO_PREVIOUS_VERSION`, and those of [`DaemonDir::put`].
    pub async fn roll_back(&self, events: &Events) -> Result<(), Report> {
        let current = self.document().ok_or_else(|| failure::no_daemon(self.deployment, self.id, &[]))?;
        let previous = spec::read::<Document>(&self.path().join(PREVIOUS)).ok();
        match previous.filter(|previous| previous.run.version != current.run.version) {
            Some(previous) => self.put(&previous, Action::Update, events).await,
            None => {
                let message = format!("daemon {:?} has no version from before to go back to", self.id);
                Err(Report::new("NO_PREVIOUS_VERSION", message).status(409).with("daemon", self.id))
            }
        }
    }

    /// Returns once the daemon, which runs as it should, counts as up.
    pub async fn wait_up(&self) -> Result<(), Report> {
        let Some(document) = self.document() else { return Ok(()) };
        let began = time::rfc3339(time::wall());
        let mut conversation = self.talk(Op::Watch).await?;
        let up = self.until_up(&mut conversation, &document, &began, Since::Now).await;
        up.map_err(|error| error.with("daemon", self.id))
    }

    /// Stops the daemon and removes its folder; returns once it is gone.
    pub async fn remove(&self, events: &Events) -> Result<(), Report> {
        let dir = self.path();
        if !dir.exists() {
            return Ok(());
        }
        events.resource(self.id, Action::Delete, "stopping", None);
        // What is marked is removed by the scanner, whatever becomes of us.
        let told = Conversation::connect(self.layout.root(), SCANNER).await;
        if let Err(error) = fs::write(dir.join(REMOVED), "")
            && dir.exists()
        {
            return Err(unusable(&dir, &error));
        }
        drop(told);
        let mut asked = false;
        while dir.exists() {
            // Asked again now and then: a scanner that is killed over its last daemon has nobody to start it again.
            self.helper.scan_while(|| dir.exists()).await?;
            if asked {
                // One that does not listen does not end by itself.
                let _ = control::call_or_end(&dir, CONTROL, Op::Status).await;
            }
            asked = true;
            let mut wait = LOOK;
            while dir.exists() && wait < Duration::from_secs(1) {
                tokio::time::sleep(wait.min(Duration::from_millis(20))).await;
                wait += wait.min(Duration::from_millis(20));
            }
        }
        events.resource(self.id, Action::Delete, "removed", None);
        Ok(())
    }

    /// Reaches the supervisor, which may just be starting, by a scanner that may have to be replaced first.
    async fn talk(&self, op: Op) -> Result<Conversation, Report> {
        let patience = time::monotonic() + Duration::from_secs(5);
        let mut next_scan = time::monotonic() + Duration::from_secs(1);
        loop {
            match Conversation::begin(&self.path(), CONTROL, op).await {
                Err(_) if time::monotonic() < patience => tokio::time::sleep(LOOK).await,
                other => return other,
            }
            if time::monotonic() > next_scan {
                self.helper.scan().await?;
                next_scan = time::monotonic() + Duration::from_secs(1);
            }
        }
    }

    /// Follows the daemon until it is up or has failed.
    async fn until_up(
        &self,
        conversation: &mut Conversation,
        document: &Document,
        began: &str,
        since: Since,
    ) -> Result<(), Report> {
        let version = &document.run.version;
        // The former version's last words come after the update has begun.
        let mut began = began.to_owned();
        loop {
            let status = match conversation.next().await {
                Ok(Reply::Status(status)) => status,
                Ok(Reply::Refused(failure)) => return Err(failure.into()),
                Ok(Reply::Accepted) => continue,
                // The supervisor was killed, or is stopped and killed now: the scanner starts another one, which we ask
                // the same.
                Err(error) => {
                    if error.code == UNRESPONSIVE {
                        conversation.end_peer().await;
                    }
                    *conversation = self.talk(Op::Watch).await?;
                    continue;
                }
            };
            if let Some(back) = status.rolled_back.as_ref().filter(|back| back.version == *version) {
                let message = format!(
                    "the new version of daemon {:?} did not come up: {}. The version before runs again.",
                    self.id,
                    back.why()
                );
                return Err(self.ended(Report::new("UPDATE_ROLLED_BACK", message), back.exit.as_ref(), &began));
            }
            if status.version != *version {
                continue;
            }
            if let (Phase::Starting, Some(started_at)) = (&status.state, &status.started_at) {
                began.clone_from(started_at);
            }
            match status.state {
                Phase::Running => return Ok(()),
                // It was up, and ended before we came to look.
                Phase::CrashLooping if status.was_up && matches!(since, Since::TakenUp) => return Ok(()),
                Phase::CrashLooping => return Err(self.not_up(&status, &began)),
                _ => {}
            }
        }
    }

    fn not_up(&self, status: &Status, began: &str) -> Report {
        if let Some(failure) = status.failure.clone() {
            return failure.into();
        }
        let how = status.last_exit.as_ref().map_or("an unknown cause".to_owned(), ExitStatus::in_words);
        let message = format!("daemon {:?} does not come up: its program ended with {how}", self.id);
        let report = Report::new("DAEMON_NOT_UP", message)
            .hint(format!("it is left crash-looping; see `alien logs {}`, mend it and deploy again", self.id));
        self.ended(report, status.last_exit.as_ref(), began)
    }

    /// The error of a program that has ended: how, and what it printed last.
    fn ended(&self, report: Report, exit: Option<&ExitStatus>, since: &str) -> Report {
        let lines = log::last_lines(&self.path(), LAST_LINES, since, exit.map(|exit| exit.at.as_str()));
        failure::ended(report, exit, lines)
    }
}

/// Whether trying again could not help, because the image itself lacks what is asked for.
fn cannot_ever_run(code: &str) -> bool {
    matches!(
        code,
        "ENTRYPOINT_MISSING"
            | "ENTRYPOINT_NOT_EXECUTABLE"
            | "EXEC_FAILED"
            | "IMAGE_USER_UNKNOWN"
            | "IMAGE_USER_UNMAPPED"
            | "WORKING_DIR_UNUSABLE"
    )
}
