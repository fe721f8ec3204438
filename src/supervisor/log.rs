//! A daemon's output on disk, in the CRI's log format, rotated by size.
//!
//! Each line is `<RFC 3339 time> <stdout|stderr> <F|P> <bytes>` (Kubernetes, "CRI container log format"): `F` ends a
//! line of the program, `P` is a part of one that is longer than [`PART`]. The current file is `logs/daemon.log`; on
//! rotation it becomes `daemon.log.1`, that one `daemon.log.2`, and so on. Any bytes may follow the tag.

use super::spec::LogLimits;
use crate::sys::time;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The folder in a daemon's folder.
pub const DIR: &str = "logs";
/// The current file.
pub const FILE: &str = "daemon.log";
/// The longest part of a line that is kept back for its end, in bytes; what containerd and CRI-O use.
pub const PART: usize = 16 * 1024;

/// Writes the output of one daemon.
pub struct Log {
    dir: PathBuf,
    file: Option<File>,
    size: u64,
    limits: LogLimits,
    streams: [Stream; 2],
    out: Vec<u8>,
}

struct Stream {
    name: &'static str,
    /// The beginning of a line whose end has not come.
    held: Vec<u8>,
}

/// Which of the program's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Log {
    /// A log in the daemon's folder; its file is opened with the first line.
    pub fn new(daemon: &Path, limits: LogLimits) -> Self {
        let stream = |name| Stream { name, held: Vec::new() };
        Log {
            dir: daemon.join(DIR),
            file: None,
            size: 0,
            limits,
            streams: [stream("stdout"), stream("stderr")],
            out: Vec::new(),
        }
    }

    /// From now on other limits hold.
    pub fn set_limits(&mut self, limits: LogLimits) {
        self.limits = limits;
    }

    /// Takes what is to be read from `pipe` right now, at most one part. Gives false once the pipe has ended.
    ///
    /// A disk that takes nothing costs the lines, never the program: it must not stall because we do.
    pub fn take(&mut self, output: Output, pipe: &OwnedFd) -> bool {
        let stream = &mut self.streams[output as usize];
        let held = stream.held.len();
        stream.held.resize(PART, 0);
        let read = unsafe {
            let free = &mut stream.held[held..];
            libc::read(pipe.as_raw_fd(), free.as_mut_ptr().cast(), free.len())
        };
        stream.held.truncate(held + read.max(0) as usize);
        if read <= 0 {
            return read < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        }
        let now = time::rfc3339(time::wall());
        let mut begin = 0;
        while let Some(length) = newline(&stream.held[begin..]) {
            line(&mut self.out, &now, stream.name, 'F', &stream.held[begin..begin + length]);
            begin += length + 1;
        }
        if begin == 0 && stream.held.len() == PART {
            line(&mut self.out, &now, stream.name, 'P', &stream.held);
            begin = PART;
        }
        stream.held.drain(..begin);
        self.write();
        true
    }

    /// The program has ended: what it left without a line's end is a line too.
    pub fn end(&mut self) {
        let now = time::rfc3339(time::wall());
        for stream in &mut self.streams {
            if !stream.held.is_empty() {
                line(&mut self.out, &now, stream.name, 'F', &stream.held);
            }
            stream.held = Vec::new();
        }
        self.write();
        self.out = Vec::new();
    }

    fn write(&mut self) {
        if self.out.is_empty() {
            return;
        }
        if self.size >= self.limits.max_bytes {
            self.rotate();
        }
        if self.file.is_none() {
            self.open();
        }
        if let Some(file) = &mut self.file {
            match file.write_all(&self.out) {
                Ok(()) => self.size += self.out.len() as u64,
                // Opened anew with the next line: the folder may have been replaced, the disk may have space again.
                Err(_) => self.file = None,
            }
        }
        self.out.clear();
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

fn newline(bytes: &[u8]) -> Option<usize> {
    // SAFETY: the search stays inside the slice; a match points into it.
    unsafe {
        let found = libc::memchr(bytes.as_ptr().cast(), i32::from(b'\n'), bytes.len()).cast::<u8>();
        (!found.is_null()).then(|| found.offset_from(bytes.as_ptr()) as usize)
    }
}

fn line(out: &mut Vec<u8>, now: &str, stream: &str, tag: char, bytes: &[u8]) {
    let _ = write!(out, "{now} {stream} {tag} ");
    out.extend_from_slice(bytes);
    out.push(b'\n');
}

/// The last `count` lines that the program printed from `since` on and before `until` (RFC 3339), without time and
/// stream, oldest first; for messages.
pub fn last_lines(daemon: &Path, count: usize, since: &str, until: Option<&str>) -> Vec<String> {
    let mut bytes = Vec::new();
    for name in [format!("{FILE}.1"), FILE.to_owned()] {
        if let Ok(mut file) = File::open(daemon.join(DIR).join(name)) {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            // Enough for the last lines of any program that means them to be read.
            let _ = io::Seek::seek(&mut file, io::SeekFrom::Start(length.saturating_sub(64 * 1024)));
            let _ = file.read_to_end(&mut bytes);
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(4, ' ');
            let time = fields.next()?;
            let wanted = time.len() == 30 && time >= since && until.is_none_or(|until| time <= until);
            fields.nth(2).filter(|_| wanted)
        })
        .collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;

    /// A log in a folder of its own, which is removed with it.
    struct Bed {
        dir: PathBuf,
        log: Log,
    }

    impl Bed {
        fn new(name: &str, limits: LogLimits) -> Self {
            let dir = std::env::temp_dir().join(format!("alien-log-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Bed { log: Log::new(&dir, limits), dir }
        }

        /// Has the program print, and the log take all of it.
        fn print(&mut self, output: Output, bytes: &[u8]) {
            let (read, write) = socket::pipe().unwrap();
            File::from(write).write_all(bytes).unwrap();
            while self.log.take(output, &read) {}
        }

        /// The lines of a file: `stdout F text`.
        fn lines(&self, name: &str) -> Vec<String> {
            let text = fs::read_to_string(self.dir.join(DIR).join(name)).unwrap_or_default();
            text.lines().map(|line| line[31..].to_owned()).collect()
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn lines_are_written_whole_however_they_arrive() {
        let mut bed = Bed::new("whole", LogLimits::default());
        bed.print(Output::Stdout, b"one\ntw");
        bed.print(Output::Stderr, b"error\n");
        bed.print(Output::Stdout, b"o\n\nend");
        assert_eq!(bed.lines(FILE), ["stdout F one", "stderr F error", "stdout F two", "stdout F "]);
        bed.log.end();
        assert_eq!(bed.lines(FILE).last().unwrap(), "stdout F end");
    }

    #[test]
    fn a_line_longer_than_a_part_comes_in_parts() {
        let mut bed = Bed::new("parts", LogLimits::default());
        let mut long = vec![b'x'; PART + 10];
        long.push(b'\n');
        bed.print(Output::Stdout, &long);
        let lines = bed.lines(FILE);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], format!("stdout P {}", "x".repeat(PART)));
        assert_eq!(lines[1], "stdout F xxxxxxxxxx");
    }

    #[test]
    fn rotation_keeps_so_many_files_and_loses_no_line_of_them() {
        let mut bed = Bed::new("rotation", LogLimits { max_bytes: 100, max_files: 3 });
        for number in 0..20 {
            bed.print(Output::Stdout, format!("line {number}\n").as_bytes());
        }
        assert!(!bed.dir.join(DIR).join(format!("{FILE}.3")).exists());
        let kept: Vec<String> = [format!("{FILE}.2"), format!("{FILE}.1"), FILE.to_owned()]
            .iter()
            .flat_map(|name| bed.lines(name))
            .collect();
        let expected: Vec<String> = (20 - kept.len()..20).map(|number| format!("stdout F line {number}")).collect();
        assert!(kept.len() >= 5, "{kept:?}");
        assert_eq!(kept, expected);
    }

    #[test]
    fn last_lines_are_those_of_one_run() {
        let mut bed = Bed::new("last", LogLimits::default());
        bed.print(Output::Stdout, b"before\n");
        let began = time::rfc3339(time::wall());
        bed.print(Output::Stdout, b"a\nb\nc\n");
        let ended = time::rfc3339(time::wall());
        bed.print(Output::Stdout, b"after\n");
        assert_eq!(last_lines(&bed.dir, 2, &began, Some(&ended)), ["b", "c"]);
        assert_eq!(last_lines(&bed.dir, 9, &began, None), ["a", "b", "c", "after"]);
    }
}
