//! Keeps one process alive, and keeps those alive that do so.
//!
//! # Theory of operation
//!
//! One *scanner* per state directory keeps one *supervisor* per daemon; a supervisor keeps its daemon. All are the
//! same small native program, detached from whoever deployed, single threaded, without an async runtime.
//!
//! ```text
//! scanner                      <state>/scan.lock, <state>/scanner.sock
//! └─ supervisor                <daemon>/lock, <daemon>/control.sock
//!    └─ init (pid 1 inside)    reaps zombies, passes signals on; one for each version
//!       └─ the daemon's program
//! ```
//!
//! The folders are the truth. A daemon is wanted while its folder `deployments/<name>/daemons/<id>/` holds a
//! `spec.json` and no `removed`; deploying writes folders and tells the scanner to look, nothing more. So whoever is
//! killed at whatever moment, what is there says what should be.
//!
//! Liveness is a lock, never a guess about a pid: a supervisor holds `<daemon>/lock` (fcntl(2) record lock) for its
//! life, the kernel names the holder, and the holder's pidfd says when it ends. Scanner and supervisors watch each
//! other that way: a supervisor that ends is started again by the scanner, and a scanner that ends by whichever
//! supervisor sees it first.
//!
//! The init asks the kernel to be killed with its supervisor, and a pid namespace dies with its init: there is never
//! a second copy of a daemon.
//!
//! What a start costs is paid ahead. An init stays when its program ends, and ends all else that the program has left: the
//! next start is a message to it, a fork and an execve(2). An update makes sandbox and init of the new version ready
//! while the old one runs.
//!
//! All of them run one program, the state directory's own copy of it. A newer version of the package has scanner and
//! supervisors execute its program in place, without touching a daemon: see [`handover`]. An older one leaves them alone.
//!
//! | file of a daemon's folder | written by | holds |
//! |---|---|---|
//! | `spec.json` | deploy, for a new daemon; else the supervisor | the [`spec::Document`] that runs |
//! | `next.json` | deploy | the one that it asks to run instead (`update`) |
//! | `previous.json` | supervisor | the one before, for the way back |
//! | `state.json` | supervisor | restart count and last exit |
//! | `cgroup.json` | supervisor | which control group it made, where there are limits |
//! | `removed` | destroy | that the daemon is not wanted any more |
//! | `logs/` | supervisor | its output, see [`log`] |
//! | `tops/` | supervisor | writable tops, one per image digest |

pub mod backoff;
mod child;
mod control;
mod daemon;
pub mod exec;
pub mod handover;
mod init;
mod inside;
pub mod lock;
pub mod log;
mod notice;
pub mod protocol;
pub mod scanner;
pub mod spec;
mod state;
mod terminal;

pub use daemon::handed::Work;
pub use daemon::{go_on, supervise};
