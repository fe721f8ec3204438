//! The files of a log: written in large pieces, begun anew when they are long enough.

use super::{FILE, PART};
use crate::supervisor::spec::LogLimits;
use crate::sys::memory::Pages;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// More than stands around the bytes of a line: time, stream, tag and the line's end.
const AROUND: usize = 64;

/// A flood is written in multiples of this, at such places of the file, which the page cache takes best.
const BLOCK: usize = 64 * 1024;

/// The current file and those before it.
pub struct Files {
    dir: PathBuf,
    file: Option<File>,
    size: u64,
    pub limits: LogLimits,
    /// Lines as they will be in the file.
    out: Pages,
}

impl Files {
    /// Those in `dir`; nothing is opened before there is something to write.
    pub fn new(dir: &Path, limits: LogLimits) -> io::Result<Self> {
        Ok(Files { dir: dir.to_owned(), file: None, size: 0, limits, out: Pages::new(BLOCK + PART + AROUND)? })
    }

    /// Adds parts of a line as long as more than `most` bytes of it are left; gives the rest.
    pub fn parts<'a>(&mut self, prefix: &str, mut line: &'a [u8], most: usize) -> &'a [u8] {
        while line.len() > most {
            let (part, rest) = line.split_at(PART);
            self.line(prefix, 'P', part);
            line = rest;
        }
        line
    }

    /// Adds a line, or a part of one: at most [`PART`] bytes.
    pub fn line(&mut self, prefix: &str, tag: char, bytes: &[u8]) {
        if self.out.len() >= BLOCK {
            self.write_first(self.out.len() - (self.size as usize + self.out.len()) % BLOCK);
        }
        self.out.push(prefix.as_bytes());
        self.out.push(&[tag as u8, b' ']);
        self.out.push(bytes);
        self.out.push(b"\n");
    }

    /// Writes all that was added.
    pub fn write(&mut self) {
        if !self.out.is_empty() {
            self.write_first(self.out.len());
        }
    }

    fn write_first(&mut self, count: usize) {
        if self.size >= self.limits.max_bytes {
            self.rotate();
        }
        if self.file.is_none() {
            self.open();
        }
        if let Some(file) = &mut self.file {
            match file.write_all(&self.out[..count]) {
                Ok(()) => self.size += count as u64,
                // Opened anew with the next line: the folder may have been replaced, the disk may have space again.
                Err(_) => self.file = None,
            }
        }
        self.out.forget(count);
    }

    /// Gives the buffer's memory back.
    pub fn release(&mut self) {
        self.out.release();
    }

    fn open(&mut self) {
        let _ = fs::create_dir_all(&self.dir);
        let open = File::options().append(true).create(true).mode(0o600).open(self.dir.join(FILE));
        self.size = open.as_ref().ok().and_then(|file| file.metadata().ok()).map_or(0, |metadata| metadata.len());
        self.file = open.ok();
    }

    fn rotate(&mut self) {
        self.file = None;
        let numbered = |number: u32| match number {
            0 => self.dir.join(FILE),
            _ => self.dir.join(format!("{FILE}.{number}")),
        };
        for number in (0..self.limits.max_files.saturating_sub(1)).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        if self.limits.max_files <= 1 {
            let _ = fs::remove_file(numbered(0));
        }
    }
}
