//! A daemon's output on disk, in the CRI's log format, rotated by size.
//!
//! Each line is `<RFC 3339 time> <stdout|stderr> <F|P> <bytes>` (Kubernetes, "CRI container log format"): `F` ends a
//! line of the program, `P` is a part of one that is longer than [`PART`]. The current file is `logs/daemon.log`; on
//! rotation it becomes `daemon.log.1`, that one `daemon.log.2`, and so on. Any bytes may follow the tag.

mod files;

use super::spec::LogLimits;
use crate::sys::memory::Pages;
use crate::sys::poll::is_ready;
use crate::sys::time;
use files::Files;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The folder in a daemon's folder.
pub const DIR: &str = "logs";
/// The current file.
pub const FILE: &str = "daemon.log";
/// The longest part of a line that is kept back for its end, in bytes; what containerd and CRI-O use.
pub const PART: usize = 16 * 1024;
/// The most that is read at once: what a pipe holds (pipe(7)), so that one read empties a full one.
const PIECE: usize = 64 * 1024;
/// So many reads of one output at most, before others have their turn.
const ROUNDS: usize = 16;
/// A read of less than this is that of a program which is quiet.
const QUIET: usize = 4 * 1024;

/// Writes the output of one daemon.
pub struct Log {
    streams: [Stream; 2],
    /// What is being read, behind the beginning of its first line.
    input: Pages,
    /// Whether the buffers have taken more memory than a quiet program needs.
    swollen: bool,
    files: Files,
}

struct Stream {
    name: &'static str,
    /// The beginning of a line whose end has not come; shorter than [`PART`].
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
    ///
    /// # Errors
    /// There is no memory for its buffers.
    pub fn new(daemon: &Path, limits: LogLimits) -> io::Result<Self> {
        let stream = |name| Stream { name, held: Vec::new() };
        Ok(Log {
            streams: [stream("stdout"), stream("stderr")],
            input: Pages::new(PART + PIECE)?,
            swollen: false,
            files: Files::new(&daemon.join(DIR), limits)?,
        })
    }

    /// The beginnings of lines whose ends have not come: all that is not in the file yet.
    pub fn held(&self) -> [Vec<u8>; 2] {
        self.streams.each_ref().map(|stream| stream.held.clone())
    }

    /// Goes on with these.
    pub fn hold(&mut self, held: [Vec<u8>; 2]) {
        for (stream, held) in self.streams.iter_mut().zip(held) {
            stream.held = held;
        }
    }

    /// From now on other limits hold.
    pub fn set_limits(&mut self, limits: LogLimits) {
        self.files.limits = limits;
    }

    /// Takes what is to be read from `pipe` right now, of a flood some. Gives false once the pipe has ended.
    ///
    /// A disk that takes nothing costs the lines, never the program: it must not stall because we do.
    pub fn take(&mut self, output: Output, pipe: &OwnedFd) -> bool {
        let mut most = 0;
        let mut goes_on = true;
        for _ in 0..ROUNDS {
            match self.read(output, pipe) {
                Ok(0) => goes_on = false,
                Ok(read) => most = most.max(read),
                Err(error) => goes_on = error.kind() == io::ErrorKind::Interrupted,
            }
            if most < QUIET || !goes_on || !is_ready(pipe) {
                break;
            }
        }
        self.files.write();
        self.keep_small(most);
        goes_on && most > 0
    }

    /// One read, and its lines to be written.
    fn read(&mut self, output: Output, pipe: &OwnedFd) -> io::Result<usize> {
        let stream = &mut self.streams[output as usize];
        self.input.clear();
        self.input.push(&stream.held);
        let read = self.input.read(pipe)?;
        let prefix = prefix(stream.name);
        let mut rest = &self.input[..];
        while let Some(length) = newline(rest) {
            let line = self.files.parts(&prefix, &rest[..length], PART);
            self.files.line(&prefix, 'F', line);
            rest = &rest[length + 1..];
        }
        // A part that is as long as may be is written without knowing whether the line ends there.
        rest = self.files.parts(&prefix, rest, PART - 1);
        stream.held.clear();
        stream.held.extend_from_slice(rest);
        Ok(read)
    }

    /// Gives back what a flood took, once it is over.
    fn keep_small(&mut self, read: usize) {
        if read >= QUIET {
            self.swollen = true;
        } else if self.swollen {
            self.swollen = false;
            self.input.release();
            self.files.release();
        }
    }

    /// The program has ended: what it left without a line's end is a line too.
    pub fn end(&mut self) {
        for stream in &mut self.streams {
            if !stream.held.is_empty() {
                self.files.line(&prefix(stream.name), 'F', &stream.held);
            }
            stream.held = Vec::new();
        }
        self.files.write();
        self.swollen = true;
        self.keep_small(0);
    }
}

/// What stands before every line of a read: its time and stream.
fn prefix(stream: &str) -> String {
    format!("{} {stream} ", time::rfc3339(time::wall()))
}

fn newline(bytes: &[u8]) -> Option<usize> {
    // SAFETY: the search stays inside the slice; a match points into it.
    unsafe {
        let found = libc::memchr(bytes.as_ptr().cast(), i32::from(b'\n'), bytes.len()).cast::<u8>();
        (!found.is_null()).then(|| found.offset_from(bytes.as_ptr()) as usize)
    }
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
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;

    /// A log in a folder of its own, which is removed with it.
    struct Bed {
        dir: PathBuf,
        log: Log,
    }

    impl Bed {
        fn new(name: &str, limits: LogLimits) -> Self {
            let dir = std::env::temp_dir().join(format!("alien-log-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Bed { log: Log::new(&dir, limits).unwrap(), dir }
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
