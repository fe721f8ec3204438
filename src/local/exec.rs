//! A program beside a daemon, started by way of the helper, which can enter the sandbox: this process has threads.

use super::helper::Helper;
use crate::engine::exec::{Options, PIECES, Session, Size, Stream, copy, feed};
use crate::engine::status::ExitStatus;
use crate::error::Report;
use crate::supervisor::exec::{Outcome, REPORT};
use crate::sys::{process, socket, time};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot};

/// Runs a program beside the daemon in `dir`, whose own program is `pid`.
pub fn exec(helper: &Helper, dir: &Path, pid: i32, options: &Options) -> Result<Session, Report> {
    start(helper, dir, pid, options).map_err(|error| {
        Report::new("HELPER_FAILED", format!("cannot run {}: {error}", helper.program().display())).status(500)
    })
}

fn start(helper: &Helper, dir: &Path, pid: i32, options: &Options) -> io::Result<Session> {
    let (report, theirs) = socket::message_pair()?;
    let mut command = Command::new(helper.program());
    command.arg("exec").arg(dir).arg(pid.to_string()).arg(if options.tty { "terminal" } else { "plain" }).arg("--");
    command.args(&options.command).env_clear().current_dir("/");
    command.stdin(if options.stdin { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(if options.tty { Stdio::null() } else { Stdio::piped() });
    process::hand_over(&mut command, theirs, REPORT);
    let mut child = command.spawn()?;
    // Its own copy of the socket goes with it.
    drop(command);
    let stdin = child.stdin.take().map(|pipe| Sender::from_owned_fd(pipe.into())).transpose()?.map(feed);
    let stdout = child.stdout.take().map(|pipe| Receiver::from_owned_fd(pipe.into())).transpose()?;
    let stderr = child.stderr.take().map(|pipe| Receiver::from_owned_fd(pipe.into())).transpose()?;
    // It is reaped, whoever still wants to know of it.
    std::thread::Builder::new().name("exec".to_owned()).stack_size(64 * 1024).spawn(move || child.wait())?;
    let (output, received) = mpsc::channel(PIECES);
    let (tell_exit, exit) = oneshot::channel();
    let (resize, sizes) = mpsc::channel::<Size>(PIECES);
    tokio::spawn(async move {
        let streams = async move {
            tokio::select! {
                _ = async { tokio::join!(copy(stdout, Stream::Stdout, &output), copy(stderr, Stream::Stderr, &output)) } => {}
                // Nobody listens any more.
                () = output.closed() => {}
            }
        };
        let ((), told) = tokio::join!(streams, watch(report, sizes));
        let _ = tell_exit.send(told);
    });
    Ok(Session { stdin, output: received, size: options.tty.then_some(resize), exit })
}

/// Tells the helper the terminal's sizes, and waits for how the program ended. Where nobody tells sizes any more, nobody
/// is there.
async fn watch(report: OwnedFd, mut sizes: mpsc::Receiver<Size>) -> Result<ExitStatus, Report> {
    let cut = |why: String| Report::new("EXEC_CUT", format!("how the program ended is not known: {why}")).status(502);
    // SAFETY: the AsyncFd owns the descriptor, and nobody else has its number.
    let report = unsafe { AsyncFd::register(report) }.map_err(|error| cut(io::Error::from(error).to_string()))?;
    loop {
        let mut ready = tokio::select! {
            Some(Size { columns, rows }) = sizes.recv() => {
                let _ = socket::send(report.get_ref(), format!("{columns} {rows}").as_bytes());
                continue;
            }
            ready = report.readable() => ready.map_err(|error| cut(error.to_string()))?,
        };
        let mut buffer = [0; 8192];
        match socket::receive(report.get_ref(), &mut buffer) {
            socket::Received::Empty => ready.clear_ready(),
            socket::Received::Closed => return Err(cut("the helper has ended".to_owned())),
            socket::Received::Message(size, _) => {
                let outcome = serde_json::from_slice(&buffer[..size]).map_err(|error| cut(error.to_string()))?;
                return ended(outcome);
            }
        }
    }
}

fn ended(outcome: Outcome) -> Result<ExitStatus, Report> {
    let at = time::rfc3339(time::wall());
    match outcome {
        Outcome::Code(code) => Ok(ExitStatus { code: Some(code), signal: None, oom: false, at }),
        Outcome::Signal(name) => Ok(ExitStatus { code: None, signal: Some(name), oom: false, at }),
        // It ended while we were on the way.
        Outcome::Failed(failure) if failure.code == "DAEMON_NOT_RUNNING" => Err(Report::from(failure).status(409)),
        Outcome::Failed(failure) => Err(failure.into()),
    }
}
