//! A compressed layer becomes a directory that overlayfs can stack.
//!
//! This is where bytes that strangers made meet the file system. The rules, each kept in one place:
//! - every path goes through [`resolver`], which cannot leave the layer;
//! - [`tarball`] and [`meter`] bound every length before memory or disk is spent on it;
//! - [`tree`] puts entries down: an existing leaf is removed and made anew with `O_EXCL`, never written through;
//! - what forges is dropped: devices (a device 0/0 is overlayfs' whiteout) and all extended attributes but
//!   `security.capability`, and that one only where this process is really root.
//!
//! Semantics are those of the OCI image specification (`layer.md`): whiteouts `.wh.NAME` and `.wh..wh..opq` apply to
//! the layers below and become what overlayfs, mounted with `userxattr`, understands: a character device 0/0 and the
//! attribute `user.overlay.opaque=y`.

mod ahead;
mod meter;
mod owners;
mod resolver;
mod tarball;
mod tree;

pub use meter::Limits;

use super::digest::Digest;
use super::error::{Error, Place};
use flate2::read::MultiGzDecoder;
use meter::{Hashing, Metered, failure};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tarball::Tarball;
use tree::Tree;

/// A compressed layer on disk and what it must turn out to be.
#[derive(Debug)]
pub(super) struct Blob {
    /// The file that holds it, and the place in the file.
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Its digest; also what messages call it.
    pub(super) digest: Digest,
    /// Whether the digest has been checked already.
    pub(super) verified: bool,
    /// The digest of its contents, uncompressed.
    pub(super) diff_id: Digest,
}

/// Where a layer goes, and what it lies on.
#[derive(Debug)]
pub(super) struct Target {
    /// A directory that does not exist yet.
    pub(super) tree: PathBuf,
    /// Where the owners are written that could not be given to the files.
    pub(super) owners: PathBuf,
    /// The unpacked layers below, lowest first.
    pub(super) lowers: Vec<Lower>,
}

/// An unpacked layer, open: it may be given its name in the store while another one is laid on it.
#[derive(Debug)]
pub(super) struct Lower {
    pub(super) tree: File,
    /// Its list of owners; without one all of it belongs to root.
    pub(super) owners: Option<File>,
}

/// Why unpacking failed, before it is known to which image that happened.
#[derive(Debug)]
enum Failure {
    Cancelled,
    Corrupt(String),
    Unsafe { entry: String, why: String },
    Read(io::Error),
    Write { doing: &'static str, path: String, source: io::Error },
}

impl Failure {
    fn write(doing: &'static str, path: &[u8], source: impl Into<io::Error>) -> Failure {
        Failure::Write { doing, path: shown(path), source: source.into() }
    }

    /// A failure that may be the fault of the entry's name.
    fn name(entry: &[u8], why: rustix::io::Errno) -> Failure {
        match why {
            rustix::io::Errno::NAMETOOLONG => {
                Failure::Unsafe { entry: shown(entry), why: "a part of its path has more than 255 bytes".to_owned() }
            }
            why => Failure::write("look up", entry, why),
        }
    }
}

/// A path for a message: printable, and not longer than a line or two.
fn shown(path: &[u8]) -> String {
    let mut text: String = String::from_utf8_lossy(&path[..path.len().min(200)]).escape_debug().collect();
    if path.len() > 200 {
        text.push('…');
    }
    text
}

/// Bytes that are moved at once. Several layers are unpacked side by side, each with a handful of such buffers.
const BUFFER: usize = 64 << 10;

/// Unpacks `blob` into `target`, verifying all digests; returns whether a list of owners was written.
///
/// Blocking, with bounded memory: one pass, a thread that reads ahead. On failure what was made stays in `target` and is the
/// caller's to remove; it must not be used.
pub(super) fn unpack(
    blob: &Blob,
    target: &Target,
    limits: &Limits,
    place: &Place,
    cancelled: &Arc<AtomicBool>,
) -> Result<bool, Error> {
    run(blob, target, limits, cancelled).map_err(|failure| match failure {
        Failure::Write { doing, path, source } => Error::store(doing, &target.tree.join(path), source),
        failure => failed(failure, blob, place),
    })
}

/// What kept a layer from being read, or from being written where that has no better name than the blob's.
fn failed(failure: Failure, blob: &Blob, place: &Place) -> Error {
    let layer = blob.digest.to_string();
    let place = Box::new(place.clone());
    match failure {
        Failure::Cancelled => Error::Cancelled,
        Failure::Corrupt(what) => Error::Corrupt { place, what: format!("layer {layer}: {what}") },
        Failure::Unsafe { entry, why } => Error::Unsafe { place, layer, entry, why },
        Failure::Read(source) => Error::store("read", &blob.path, source),
        Failure::Write { doing, source, .. } => Error::store(doing, &blob.path, source),
    }
}

/// Writes `blob` uncompressed, verifying all digests; returns how many bytes that were. Blocking, with bounded memory.
pub(super) fn write_plain(
    blob: &Blob,
    to: &mut impl Write,
    limits: &Limits,
    place: &Place,
    cancelled: &Arc<AtomicBool>,
) -> Result<u64, Error> {
    let mut write = || {
        let mut decoded = open(blob, limits, cancelled)?;
        let mut buffer = vec![0; BUFFER];
        let mut written = 0;
        loop {
            match decoded.read(&mut buffer).map_err(failure)? {
                0 => break,
                count => to.write_all(&buffer[..count]).map_err(|why| Failure::write("write", b"", why))?,
            }
            written = decoded.read_so_far();
        }
        close(blob, decoded)?;
        Ok(written)
    };
    write().map_err(|failure| failed(failure, blob, place))
}

type Decoded = Metered<Decoder<BufReader<Hashing<io::Take<File>>>>>;

fn open(blob: &Blob, limits: &Limits, cancelled: &Arc<AtomicBool>) -> Result<Decoded, Failure> {
    let mut file = File::open(&blob.path).map_err(Failure::Read)?;
    file.seek(SeekFrom::Start(blob.offset)).map_err(Failure::Read)?;
    // A layout's blobs are verified as they are read; a downloaded one was on its way here.
    let source = BufReader::with_capacity(BUFFER, Hashing::new(file.take(blob.size), !blob.verified));
    Ok(Metered::new(decoder(source)?, limits.clone(), blob.size, cancelled.clone()))
}

fn run(blob: &Blob, target: &Target, limits: &Limits, cancelled: &Arc<AtomicBool>) -> Result<bool, Failure> {
    let decoded = open(blob, limits, cancelled)?;
    std::thread::scope(|scope| {
        let (ahead, thread) = ahead::read_ahead(scope, decoded).map_err(Failure::Read)?;
        let mut tarball = Tarball::new(ahead);
        let mut tree = Tree::make(target, limits)?;
        while let Some(entry) = tarball.next()? {
            tree.put(&entry, &mut tarball)?;
        }
        // What is behind the end of the archive counts for the digests too.
        io::copy(&mut tarball.into_inner(), &mut io::sink()).map_err(failure)?;
        let decoded = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        close(blob, decoded)?;
        tree.finish()
    })
}

/// Reads to the end and compares sizes and digests with what they must be.
fn close(blob: &Blob, decoded: Decoded) -> Result<(), Failure> {
    let (decoder, diff_id) = decoded.finish().map_err(failure)?;
    let (size, digest) = decoder.into_source().into_inner().finish().map_err(failure)?;
    if size != blob.size {
        return Err(Failure::Corrupt(format!("it has {size} bytes, its manifest says {}", blob.size)));
    }
    if let Some(digest) = digest.filter(|digest| *digest != blob.digest) {
        return Err(Failure::Corrupt(format!("its digest is {digest}, its manifest says {}", blob.digest)));
    }
    if diff_id != blob.diff_id {
        let expected = &blob.diff_id;
        return Err(Failure::Corrupt(format!(
            "uncompressed its digest is {diff_id}, its configuration says {expected}"
        )));
    }
    Ok(())
}

/// Uncompresses a whole file into the new file `target`, within the limits of a layer. Blocking.
pub(super) fn uncompress(
    source: &Path,
    target: &Path,
    limits: &Limits,
    place: &Place,
    cancelled: &Arc<AtomicBool>,
) -> Result<(), Error> {
    let read = |why| Error::store("read", source, why);
    let file = File::open(source).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    let said = |failure: Failure| {
        let place = Box::new(place.clone());
        match failure {
            Failure::Cancelled => Error::Cancelled,
            Failure::Unsafe { why, .. } => Error::Corrupt { place, what: format!("{}: {why}", source.display()) },
            Failure::Corrupt(what) => Error::Corrupt { place, what: format!("{}: {what}", source.display()) },
            Failure::Read(why) | Failure::Write { source: why, .. } => Error::store("read", source, why),
        }
    };
    let decoder = decoder(BufReader::with_capacity(BUFFER, file)).map_err(said)?;
    let mut plain = Metered::new(decoder, limits.clone(), size, cancelled.clone());
    let write = |why| Error::store("write", target, why);
    let mut out = File::create_new(target).map_err(write)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match plain.read(&mut buffer).map_err(|why| said(failure(why)))? {
            0 => return Ok(()),
            count => out.write_all(&buffer[..count]).map_err(write)?,
        }
    }
}

/// The three compressions a layer may have; which one its first bytes say, whatever its media type does.
enum Decoder<R: BufRead> {
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<zstd::Decoder<'static, R>>),
    Plain(R),
}

/// The largest window a zstd layer may ask for, as a power of two: what `zstd` itself takes without being told.
const ZSTD_WINDOW_MAX: u32 = 27;

fn decoder<R: BufRead>(mut source: R) -> Result<Decoder<R>, Failure> {
    let magic = source.fill_buf().map_err(failure)?;
    // Bytes 0x184D2A5? begin a skippable frame, with which zstd:chunked and seekable archives may start.
    let zstd = magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || (magic.len() >= 4 && magic[0] & 0xf0 == 0x50 && magic[1..4] == [0x2a, 0x4d, 0x18]);
    Ok(if magic.starts_with(&[0x1f, 0x8b]) {
        Decoder::Gzip(Box::new(MultiGzDecoder::new(source)))
    } else if zstd {
        let mut decoder = zstd::Decoder::with_buffer(source).map_err(failure)?;
        decoder.window_log_max(ZSTD_WINDOW_MAX).map_err(failure)?;
        Decoder::Zstd(Box::new(decoder))
    } else {
        Decoder::Plain(source)
    })
}

impl<R: BufRead> Decoder<R> {
    fn into_source(self) -> R {
        match self {
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish(),
            Decoder::Plain(source) => source,
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
            Decoder::Plain(source) => source.read(buffer),
        }
    }
}

/// Whether this process is the machine's root, able to give files to whom they belong.
///
/// Root of a user namespace is not: ids outside its map cannot be given.
pub(super) fn really_root() -> bool {
    const NEEDED: u64 = 1 << 0 /* CAP_CHOWN */ | 1 << 1 /* CAP_DAC_OVERRIDE */ | 1 << 3 /* CAP_FOWNER */ | 1 << 4 /* CAP_FSETID */;
    let all_ids = std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]));
    let capabilities = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    rustix::process::geteuid().is_root() && all_ids && capabilities.is_some_and(|held| held & NEEDED == NEEDED)
}
