//! A program run beside a daemon, in its container.

use super::engine::Engine;
use crate::engine::exec::{Options, Output, PIECES, Session, Size, Stream, feed};
use crate::engine::status::ExitStatus;
use crate::error::Report;
use crate::sys::process::Exit;
use crate::sys::time;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long the engine may take to know how a program ended whose output has.
const TO_KNOW: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
/// What engines write in place of a program's output where there is none.
const REFUSALS: [&str; 2] = ["OCI runtime exec failed", "Error: "];
/// As shells have it: found and not executable, not found.
const NOT_RUN: [i64; 2] = [126, 127];

/// Runs a program in a running container.
pub async fn exec(engine: Arc<Engine>, container: &str, options: &Options) -> Result<Session, Report> {
    let wanted = CreateExecOptions {
        attach_stdin: Some(options.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(options.tty),
        cmd: Some(options.command.clone()),
        ..CreateExecOptions::default()
    };
    let program = options.command.first().cloned().unwrap_or_default();
    let doing = format!("run {program} in a container");
    let id = engine.ask(&doing, engine.docker.create_exec(container, wanted)).await?.id;
    let start = StartExecOptions { tty: options.tty, ..StartExecOptions::default() };
    let started = engine.ask(&doing, engine.docker.start_exec(&id, Some(start))).await?;
    let StartExecResults::Attached { output: mut from, input } = started else {
        return Err(Report::new("INTERNAL", "the engine has let go of a program"));
    };
    let stdin = options.stdin.then(|| feed(input));
    let (to, output) = mpsc::channel(PIECES);
    let (tell_exit, exit) = oneshot::channel();
    let (resize, mut sizes) = mpsc::channel::<Size>(PIECES);
    let tty = options.tty;
    tokio::spawn(async move {
        let mut beginning = Vec::new();
        let mut sizes_end = !tty;
        let cut = loop {
            tokio::select! {
                size = sizes.recv(), if !sizes_end => match size {
                    Some(Size { columns, rows }) => {
                        let size = ResizeExecOptions { height: rows, width: columns };
                        let _ = engine.try_to(engine.docker.resize_exec(&id, size)).await;
                    }
                    None => sizes_end = true,
                },
                piece = from.next() => {
                    let (stream, bytes) = match piece {
                        None => break None,
                        Some(Err(error)) => break Some(engine.report(&doing, &error)),
                        Some(Ok(LogOutput::StdErr { message })) => (Stream::Stderr, message),
                        Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message })) => (Stream::Stdout, message),
                        Some(Ok(LogOutput::StdIn { .. })) => continue,
                    };
                    if beginning.len() < 4096 {
                        beginning.extend_from_slice(&bytes);
                    }
                    if to.send(Output { stream, bytes: bytes.to_vec() }).await.is_err() {
                        break None;
                    }
                }
                () = to.closed() => break None,
            }
        };
        drop(to);
        let told = match cut {
            Some(report) => Err(report),
            None => ended(&engine, &id, &program, &String::from_utf8_lossy(&beginning)).await,
        };
        let _ = tell_exit.send(told);
    });
    Ok(Session { stdin, output, size: tty.then_some(resize), exit })
}

/// How the program ended.
async fn ended(engine: &Engine, id: &str, program: &str, said: &str) -> Result<ExitStatus, Report> {
    let asking = async {
        loop {
            let now = engine.ask("tell how a program ended", engine.docker.inspect_exec(id)).await?;
            match now.exit_code.filter(|_| now.running != Some(true)) {
                Some(code) => return Ok(code),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    };
    let code = tokio::time::timeout(TO_KNOW, asking).await.unwrap_or_else(|_| {
        Err(Report::new("EXEC_CUT", "how the program ended is not known: the engine says that it still runs")
            .status(502))
    })?;
    if NOT_RUN.contains(&code) && REFUSALS.iter().any(|refusal| said.starts_with(refusal)) {
        let said = said.trim();
        return Err(Report::new("EXEC_FAILED", format!("{program} cannot be run in the container: {said}")).status(400));
    }
    let code = i32::try_from(code).unwrap_or(i32::MAX);
    Ok(ExitStatus::new(Exit::from_shell_code(code), false, time::rfc3339(time::wall())))
}
