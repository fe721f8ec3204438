//! A terminal for a program (pty(7)), and the passing on of what goes in and out of it.

use crate::sys::poll::PollSet;
use crate::sys::process::{self, Fork, Pid};
use crate::sys::{self, Context, socket};
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What a terminal takes for the end of its input (`VEOF`): control-D.
const END_OF_INPUT: u8 = 4;
const PIECE: usize = 32 * 1024;

/// Both ends of a terminal.
pub struct Terminal {
    ours: File,
    program: OwnedFd,
}

impl Terminal {
    /// Opens one in this mount namespace's own `/dev/pts`, so that the program finds it by its name.
    pub fn open() -> io::Result<Terminal> {
        let options = || File::options().read(true).write(true).to_owned();
        let ours = options().open("/dev/ptmx").context(|| "open /dev/ptmx".to_owned())?;
        let unlocked: libc::c_int = 0;
        sys::check(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let program = sys::check(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags) });
        let program = program.context(|| "open a terminal".to_owned())?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Terminal { ours, program: unsafe { OwnedFd::from_raw_fd(program) } })
    }

    /// Makes it the terminal of this process's new session, and its three standard streams.
    pub fn become_ours(self) -> io::Result<()> {
        sys::check(unsafe { libc::ioctl(self.program.as_raw_fd(), libc::TIOCSCTTY, 0) })
            .context(|| "take the terminal".to_owned())?;
        (0..3).try_for_each(|number| process::dup_to(&self.program, number))
    }

    /// Passes on standard input and output until `child` has ended and all it said is passed on. Who asked for it says on
    /// `control` how large the terminal is, as `COLUMNS ROWS`, and may go: then it is hung up.
    pub fn relay(self, child: Pid, control: &OwnedFd) -> io::Result<()> {
        let Terminal { mut ours, program } = self;
        drop(program);
        let ended = process::pidfd_open(child)?;
        // A process of its own: a program that does not read its input must not keep its output back.
        let feeder = match process::fork()? {
            Fork::Child => {
                let _ = process::die_with_parent(libc::SIGKILL);
                feed(&mut ours);
                process::exit_now(0)
            }
            Fork::Parent(pid) => pid,
        };
        let mut set = PollSet::default();
        let mut asked = true;
        loop {
            set.clear();
            let (output, end) = (set.add(&ours), set.add(&ended));
            let told = asked.then(|| set.add(control));
            set.wait(None)?;
            if told.is_some_and(|key| set.ready(key)) {
                asked = resize(&ours, control);
                if !asked {
                    break;
                }
            }
            if set.ready(output) {
                if !pass_on(&mut ours) {
                    break;
                }
            } else if set.ready(end) {
                break;
            }
        }
        let _ = process::kill(feeder, libc::SIGKILL);
        process::wait(feeder).map(drop)
    }
}

/// Standard input, as what is typed.
fn feed(terminal: &mut File) {
    let mut input = standard(0);
    let mut buffer = [0; PIECE];
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        if terminal.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    let _ = terminal.write_all(&[END_OF_INPUT]);
}

/// Passes on what was printed; whether there may be more.
fn pass_on(terminal: &mut File) -> bool {
    let mut buffer = [0; PIECE];
    // EIO: nobody has it open any more (pty(7)).
    let Ok(count @ 1..) = terminal.read(&mut buffer) else { return false };
    standard(1).write_all(&buffer[..count]).is_ok()
}

/// Takes what is said of the size; whether somebody is still there to say it.
fn resize(terminal: &File, control: &OwnedFd) -> bool {
    let mut buffer = [0; 64];
    match socket::receive(control, &mut buffer) {
        socket::Received::Message(size, _) => {
            let text = String::from_utf8_lossy(&buffer[..size]);
            if let Some((Ok(columns), Ok(rows))) = text.split_once(' ').map(|(c, r)| (c.parse(), r.parse())) {
                let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                // The kernel tells the program (SIGWINCH).
                unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
            }
            true
        }
        socket::Received::Empty => true,
        socket::Received::Closed => false,
    }
}

/// A standard stream as a file that is not closed with it.
fn standard(number: i32) -> ManuallyDrop<File> {
    // SAFETY: it is never closed here.
    ManuallyDrop::new(unsafe { File::from_raw_fd(number) })
}
