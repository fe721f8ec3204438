//! Reading a daemon's log while it is written: the last lines, those since a time, and what follows.

use crate::engine::logs::{BATCH, Line, LogReader, Options};
use crate::error::Report;
use crate::supervisor::log::{DIR, FILE};
use crate::sys::time;
use async_trait::async_trait;
use rustix::fs::inotify;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// A place in a daemon's log.
pub struct Reader {
    dir: PathBuf,
    options: Options,
    since: Option<String>,
    /// Rotated files yet to be read, oldest first.
    queue: VecDeque<BufReader<File>>,
    current: Option<BufReader<File>>,
    /// The beginning of a line whose end is not written yet.
    held: Vec<u8>,
    ready: VecDeque<Line>,
    watch: Option<AsyncFd<OwnedFd>>,
    started: bool,
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> Result<Vec<Line>, Report> {
        self.lines().await
    }
}

impl Reader {
    /// Opens the log in a daemon's folder. Every file that is there is opened now, so that rotation loses nothing.
    ///
    /// # Errors
    /// `LOG_UNREADABLE`.
    pub fn open(daemon: &Path, options: Options) -> Result<Self, Report> {
        let dir = daemon.join(DIR);
        let unreadable =
            |error: io::Error| Report::new("LOG_UNREADABLE", format!("cannot read {}: {error}", dir.display()));
        let mut watch = None;
        if options.follow {
            // Watched before it is read: what is written between is seen twice, never missed.
            std::fs::create_dir_all(&dir).map_err(unreadable)?;
            let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)
                .map_err(|errno| unreadable(errno.into()))?;
            let changes = inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::DELETE
                | inotify::WatchFlags::DELETE_SELF;
            inotify::add_watch(&fd, &dir, changes).map_err(|errno| unreadable(errno.into()))?;
            // SAFETY: the AsyncFd owns the descriptor, and nobody else has its number.
            watch = Some(unsafe { AsyncFd::register(fd) }.map_err(|error| unreadable(error.into()))?);
        }
        let mut queue = open_all(&dir);
        let current = queue.pop_back();
        Ok(Reader {
            since: options.since.map(time::rfc3339),
            dir,
            options,
            queue,
            current,
            held: Vec::new(),
            ready: VecDeque::new(),
            watch,
            started: false,
        })
    }

    async fn lines(&mut self) -> Result<Vec<Line>, Report> {
        if !self.started {
            self.started = true;
            if let Some(tail) = self.options.tail {
                self.keep_last(tail);
            }
        }
        loop {
            while self.ready.len() < BATCH {
                match self.read_line() {
                    Some(line) => self.ready.extend(line),
                    None => break,
                }
            }
            if !self.ready.is_empty() {
                let count = self.ready.len().min(BATCH);
                return Ok(self.ready.drain(..count).collect());
            }
            if self.watch.is_none() || !self.changed().await? {
                return Ok(Vec::new());
            }
        }
    }

    /// Reads to the end and keeps the last `count` lines.
    fn keep_last(&mut self, count: usize) {
        let mut last = VecDeque::new();
        while let Some(line) = self.read_line() {
            last.extend(line);
            if last.len() > count {
                last.pop_front();
            }
        }
        self.ready = last;
    }

    /// The next whole line: `Some(None)` for one that is not wanted, `None` at the end of what there is.
    #[allow(clippy::option_option, reason = "three answers: a line, one to skip, no more")]
    fn read_line(&mut self) -> Option<Option<Line>> {
        loop {
            // A daemon that has printed nothing yet has no file.
            let Some(file) = self.queue.front_mut().or(self.current.as_mut()) else {
                return if self.rotated() { Some(None) } else { None };
            };
            let read = file.read_until(b'\n', &mut self.held).unwrap_or(0);
            if self.held.last() == Some(&b'\n') {
                self.held.pop();
                let line = parse(&self.held);
                self.held.clear();
                return Some(line.filter(|line| self.since.as_ref().is_none_or(|since| line.time >= *since)));
            }
            if read > 0 {
                continue;
            }
            if self.queue.pop_front().is_none() {
                return if self.rotated() { Some(None) } else { None };
            }
        }
    }

    /// At the end of the current file: goes on to those that were begun since it was opened.
    fn rotated(&mut self) -> bool {
        let place = |file: &BufReader<File>| file.get_ref().metadata().map(|m| (m.dev(), m.ino())).ok();
        let ours = self.current.as_ref().and_then(place);
        let mut files = open_all(&self.dir);
        if let Some(index) = files.iter().position(|file| place(file) == ours) {
            files.drain(..=index);
        }
        let Some(newest) = files.pop_back() else { return false };
        self.current = Some(newest);
        self.queue = files;
        true
    }

    /// Waits until the folder changes. Gives false when it has gone.
    async fn changed(&mut self) -> Result<bool, Report> {
        let Some(watch) = &self.watch else { return Ok(false) };
        // An open file keeps its removed folder in the kernel's memory, and the word that it has gone from us.
        if self
            .current
            .as_ref()
            .is_some_and(|file| file.get_ref().metadata().is_ok_and(|metadata| metadata.nlink() == 0))
        {
            self.current = None;
        }
        let broken =
            |error: io::Error| Report::new("LOG_UNREADABLE", format!("cannot watch {}: {error}", self.dir.display()));
        let mut guard = watch.readable().await.map_err(broken)?;
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(watch.get_ref(), &mut buffer);
        let mut gone = false;
        while let Ok(event) = events.next() {
            gone |= event.events().intersects(inotify::ReadFlags::DELETE_SELF | inotify::ReadFlags::IGNORED);
        }
        guard.clear_ready();
        Ok(!gone)
    }
}

/// Every file of the log, oldest first.
///
/// They are opened from the newest on, because rotation may come between: a file then turns up again under its next
/// name, and whatever was opened since is newer than what has been asked for, to be found by the next look.
fn open_all(dir: &Path) -> VecDeque<BufReader<File>> {
    let mut files: Vec<(File, Option<(u64, u64)>)> = Vec::new();
    let mut gaps = 0;
    for number in 0.. {
        let name = if number == 0 { FILE.to_owned() } else { format!("{FILE}.{number}") };
        match File::open(dir.join(name)) {
            Ok(file) => {
                let place = file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
                match files.iter().position(|(_, other)| *other == place) {
                    Some(index) => files.truncate(index + 1),
                    None => files.push((file, place)),
                }
            }
            // While files are renamed one number is missing, and before the first line the current file may be.
            Err(_) if gaps < 2 => gaps += 1,
            Err(_) => break,
        }
    }
    files.into_iter().rev().map(|(file, _)| BufReader::with_capacity(64 * 1024, file)).collect()
}

/// `<time> <stream> <F|P> <bytes>`; `None` for what is none.
fn parse(bytes: &[u8]) -> Option<Line> {
    let mut fields = bytes.splitn(4, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(fields.next()?).ok();
    let (time, stream, tag) = (word()?, word()?, word()?);
    Some(Line {
        time: time.to_owned(),
        stream: stream.to_owned(),
        partial: tag == "P",
        line: String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned(),
    })
}
