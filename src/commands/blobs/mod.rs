//! Bodies that are too large for a message: a file for each, in a folder beside the database.
//!
//! ```text
//! <command>.params                  parameters, as their caller put them
//! <command>.response.<lease>        a result, as the receiver put it that had this lease: nobody overwrites another's
//! .<one of these>.<number>          half of one; none outlives its upload, or the start after a kill
//! ```
//!
//! A file has its name once it is whole and on the disk. All sizes are known in memory, so that what all of them may have
//! is never exceeded: what was promised counts before it has come.

mod sweep;
mod upload;

pub use upload::Upload;

use super::command::Stored;
use super::limits::Limits;
use ring::digest::{Context, SHA256};
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which of a command's bodies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    Params,
    Response { lease: String },
}

/// A body.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub command: String,
    pub part: Part,
}

impl Key {
    pub fn params(command: &str) -> Key {
        Key { command: command.to_owned(), part: Part::Params }
    }

    pub fn response(command: &str, lease: &str) -> Key {
        Key { command: command.to_owned(), part: Part::Response { lease: lease.to_owned() } }
    }

    fn file_name(&self) -> String {
        match &self.part {
            Part::Params => format!("{}.params", self.command),
            Part::Response { lease } => format!("{}.response.{lease}", self.command),
        }
    }

    fn of_file(name: &str) -> Option<Key> {
        let (command, rest) = name.split_once('.')?;
        match rest.split_once('.') {
            None if rest == "params" => Some(Key::params(command)),
            Some(("response", lease)) => Some(Key::response(command, lease)),
            _ => None,
        }
    }
}

/// Why a body is not taken, or not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// One body has at most so many bytes.
    TooLarge { most: u64 },
    /// All of them together have at most so many.
    Full { most: u64 },
    /// The disk has no room.
    NoSpace,
    /// It has another length than was said.
    Size { said: u64, came: u64 },
    /// Its bytes are not those that were said.
    Digest,
    /// There is none.
    Missing,
    /// A newer upload of the same, or the end of what it was for, came between.
    Overtaken,
    /// It is another on the disk than was put there.
    Corrupt(String),
    /// The disk does not do what it should; for the operator.
    Broken(String),
}

/// See the module.
pub struct Blobs {
    dir: PathBuf,
    most_of_one: u64,
    most_of_all: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By command; each has one or two.
    slots: HashMap<String, Vec<Slot>>,
    /// Bytes that are there, on their way or promised.
    used: u64,
    uploads: u64,
}

struct Slot {
    part: Part,
    promised: u64,
    there: Option<There>,
    /// The newest upload: only that one goes on.
    running: Option<Running>,
    /// Its file gets its name at this moment.
    landing: bool,
    /// Somebody relies on what is there: no upload replaces it.
    sealed: bool,
}

#[derive(Clone, Copy)]
struct There {
    size: u64,
    /// Not known of a file that an earlier process has left, until it is asked for.
    sha256: Option<[u8; 32]>,
}

#[derive(Clone, Copy)]
struct Running {
    number: u64,
    bytes: u64,
}

impl Slot {
    fn new(part: Part) -> Slot {
        Slot { part, promised: 0, there: None, running: None, landing: false, sealed: false }
    }

    fn counts(&self) -> u64 {
        let there = self.there.map_or(0, |there| there.size);
        self.promised.max(there + self.running.map_or(0, |running| running.bytes))
    }
}

impl Inner {
    fn slot(&mut self, key: &Key) -> Option<&mut Slot> {
        self.slots.get_mut(&key.command)?.iter_mut().find(|slot| slot.part == key.part)
    }

    fn slot_or_new(&mut self, key: &Key) -> &mut Slot {
        let slots = self.slots.entry(key.command.clone()).or_default();
        let at = slots.iter().position(|slot| slot.part == key.part).unwrap_or_else(|| {
            slots.push(Slot::new(key.part.clone()));
            slots.len() - 1
        });
        &mut slots[at]
    }

    /// Changes a slot, and the sum with it; not where the sum would then be more than it may be.
    fn change(&mut self, key: &Key, most: u64, change: impl Fn(&mut Slot)) -> Result<(), Refusal> {
        let used = self.used;
        let Some(slot) = self.slot(key) else { return Err(Refusal::Overtaken) };
        let before = slot.counts();
        let (promised, there, running) = (slot.promised, slot.there, slot.running);
        change(slot);
        let after = slot.counts();
        if after > before && used - before + after > most {
            (slot.promised, slot.there, slot.running) = (promised, there, running);
            return Err(Refusal::Full { most });
        }
        self.used = used - before + after;
        Ok(())
    }

    /// Forgets an upload that ends without a file, and a slot with nothing in it.
    fn abandon(&mut self, key: &Key, number: u64) {
        let ours = |slot: &Slot| slot.running.is_some_and(|running| running.number == number);
        if self.slot(key).is_some_and(|slot| ours(slot)) {
            let _ = self.change(key, u64::MAX, |slot| {
                slot.running = None;
                slot.landing = false;
            });
        }
        let empty = |slot: &mut Slot| slot.counts() == 0 && slot.there.is_none() && slot.running.is_none();
        if self.slot(key).is_some_and(empty) {
            self.remove(&key.command, |part| *part == key.part);
        }
    }

    /// Forgets slots of a command; gives those that have a file, or are about to.
    fn remove(&mut self, command: &str, which: impl Fn(&Part) -> bool) -> Vec<Key> {
        let Some(slots) = self.slots.get_mut(command) else { return Vec::new() };
        let (gone, left): (Vec<Slot>, Vec<Slot>) =
            std::mem::take(slots).into_iter().partition(|slot| which(&slot.part));
        *slots = left;
        if slots.is_empty() {
            self.slots.remove(command);
        }
        self.used -= gone.iter().map(Slot::counts).sum::<u64>();
        let filed = gone.into_iter().filter(|slot| slot.there.is_some() || slot.landing);
        filed.map(|slot| Key { command: command.to_owned(), part: slot.part }).collect()
    }
}

impl Blobs {
    /// The folder, which is made where it is missing; only its owner sees into it.
    pub fn open(dir: PathBuf, limits: &Limits) -> io::Result<Arc<Blobs>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let (most_of_one, most_of_all) = (limits.body, limits.storage);
        Ok(Arc::new(Blobs { dir, most_of_one, most_of_all, inner: Mutex::default() }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(key.file_name())
    }

    /// Bytes that are there, on their way or promised.
    pub fn used(&self) -> u64 {
        self.inner().used
    }

    /// Keeps room for a body that is to come; `None` where its size is not known.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`], [`Refusal::Full`].
    pub fn promise(&self, key: &Key, size: Option<u64>) -> Result<(), Refusal> {
        let size = size.unwrap_or_default();
        if size > self.most_of_one {
            return Err(Refusal::TooLarge { most: self.most_of_one });
        }
        let mut inner = self.inner();
        inner.slot_or_new(key);
        let kept = inner.change(key, self.most_of_all, |slot| slot.promised = size);
        if kept.is_err() {
            inner.abandon(key, 0);
        }
        kept
    }

    /// The whole body that is there; from now on no upload replaces it. May be asked for twice.
    ///
    /// # Errors
    /// [`Refusal::Missing`]; where an earlier process wrote it, what reading it tells.
    pub async fn seal(self: &Arc<Self>, key: &Key) -> Result<Stored, Refusal> {
        let there = {
            let mut inner = self.inner();
            let there = inner.slot(key).filter(|slot| !slot.landing).and_then(|slot| slot.there);
            let there = there.ok_or(Refusal::Missing)?;
            // Whoever still sends does so in vain.
            let _ = inner.change(key, u64::MAX, |slot| {
                slot.sealed = true;
                slot.running = None;
            });
            there
        };
        if let Some(sha256) = there.sha256 {
            return Ok(Stored { size: there.size, sha256 });
        }
        let path = self.path(key);
        let body = blocking(move || hash(File::open(&path)?)).await.and_then(|body| {
            let said = format!("{} has {} bytes on the disk instead of {}", key.file_name(), body.size, there.size);
            if body.size == there.size { Ok(body) } else { Err(Refusal::Corrupt(said)) }
        });
        match &body {
            Ok(body) => drop(self.inner().change(key, u64::MAX, |slot| {
                slot.there = Some(There { size: body.size, sha256: Some(body.sha256) });
            })),
            Err(_) => self.unseal(key),
        }
        body
    }

    /// What is there may be replaced again.
    pub fn unseal(&self, key: &Key) {
        if let Some(slot) = self.inner().slot(key) {
            slot.sealed = false;
        }
    }

    /// A file to read from.
    ///
    /// # Errors
    /// [`Refusal::Missing`]; [`Refusal::Corrupt`] where it has not the size that it should.
    pub async fn read(&self, key: &Key, size: u64) -> Result<tokio::fs::File, Refusal> {
        let path = self.path(key);
        let opened = tokio::fs::File::open(&path).await;
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::Missing,
            _ => refused(&error),
        })?;
        let found = file.metadata().await.map_err(|error| refused(&error))?.len();
        if found == size {
            return Ok(file);
        }
        Err(Refusal::Corrupt(format!("{} has {found} bytes on the disk instead of {size}", key.file_name())))
    }

    /// Removes a command's bodies, but for those that `stays` says.
    pub fn remove(self: &Arc<Self>, command: &str, stays: impl Fn(&Part) -> bool) {
        let gone = self.inner().remove(command, |part| !stays(part));
        if gone.is_empty() {
            return;
        }
        let paths: Vec<PathBuf> = gone.iter().map(|key| self.path(key)).collect();
        // A large file takes its time to go. What is left by a process that ends meanwhile is found at the next start.
        tokio::task::spawn_blocking(move || paths.iter().for_each(|path| discard(path)));
    }
}

/// Removes a file that nobody needs; it may be gone already.
fn discard(path: &std::path::Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "a body that nobody needs could not be removed");
        }
        _ => {}
    }
}

/// Does what waits for the disk elsewhere than on the one thread that answers.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| refused(&error)),
        Err(error) => Err(Refusal::Broken(error.to_string())),
    }
}

fn refused(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Refusal::NoSpace,
        _ => Refusal::Broken(error.to_string()),
    }
}

fn hash(mut file: File) -> io::Result<Stored> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; super::limits::PIECE];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Stored { size, sha256: whole(context) }),
            count => {
                context.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

fn whole(context: Context) -> [u8; 32] {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    sha256
}
