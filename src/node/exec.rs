//! `deployment.exec(id, command, options)`: a program with a number, written to and read from piece by piece.
//!
//! `execOpen` checks the request and gives the number; `execStart` has the program started. From then on `execNext` gives
//! its output, one piece each time it is asked and so no faster than it is wanted, and at the end how it ended;
//! `execWrite`, `execEndInput` and `execResize` go the other way. `execClose` ends the connection at any time.
//! Bytes cross as Buffers: output may be anything, and JSON would make it text.

use super::handles::Handles;
use super::request::{Asked, place};
use super::value::{answer, envelope};
use crate::engine::Platform;
use crate::engine::exec::{Options, Output, Session, Size, Stream};
use crate::engine::status::ExitStatus;
use crate::error::Report;
use crate::model::Raw;
use crate::model::check::{At, Issues, OPTIONS, field};
use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

/// What `js/exec.js` says of an input that it can read.
const READABLE: &str = "input";

/// A program, from the request on.
#[derive(Clone)]
struct Program {
    close: Arc<watch::Sender<bool>>,
    state: Arc<Mutex<State>>,
    stdin: Option<mpsc::Sender<Vec<u8>>>,
    size: Option<mpsc::Sender<Size>>,
}

enum State {
    Asked(Box<Start>),
    Running { output: mpsc::Receiver<Output>, exit: oneshot::Receiver<Result<ExitStatus, Report>> },
    Over,
}

struct Start {
    platform: Box<dyn Platform>,
    deployment: String,
    id: String,
    options: Options,
    size: Option<Size>,
    timeout: Duration,
}

static PROGRAMS: Handles<Program> = Handles::new();

/// Takes `{options, defaults, id, exec: {command, stdin?, tty?, size?}}`; answers with the program's number.
#[napi(skip_typescript)]
pub fn exec_open(request: String) -> String {
    answer(|| {
        let asked = Asked::read(&request)?;
        let (deployment, id) = (asked.deployment()?, asked.text("id"));
        let (options, size) = wanted(asked.part("exec"))?;
        let timeout = asked.options.timeout;
        let platform = place(asked.options, None)?;
        let start = Start { platform, deployment, id, options, size, timeout };
        let state = Arc::new(Mutex::new(State::Asked(Box::new(start))));
        Ok(PROGRAMS.put(Program { close: Arc::new(watch::Sender::new(false)), state, stdin: None, size: None }))
    })
}

fn wanted(raw: &Raw) -> Result<(Options, Option<Size>), Report> {
    let mut issues = Issues::default();
    let at = At::ROOT;
    let fields = issues.object_of(&at, raw, &["command", "stdin", "tty", "size"]).unwrap_or(&[]);
    let command = command(field(fields, "command"), &at.key("command"), &mut issues);
    let stdin = field(fields, "stdin");
    if let Some(other) = stdin.filter(|raw| **raw != Raw::Other(READABLE.to_owned())) {
        issues.wrong_type(&at.key("stdin"), "a string, bytes or a stream of them", other);
    }
    let tty = field(fields, "tty").and_then(|raw| issues.boolean(&at.key("tty"), raw)).unwrap_or(false);
    let at_size = at.key("size");
    let size = field(fields, "size").and_then(|raw| {
        if !tty {
            issues.add(&at_size, "custom", "only a terminal has a size").hint = Some("set tty too".to_owned());
        }
        let fields = issues.object_of(&at_size, raw, &["columns", "rows"])?;
        let mut side = |key| match field(fields, key) {
            Some(raw) => issues.integer(&at_size.key(key), raw, 1, u32::from(u16::MAX)),
            None => {
                issues.missing(&at_size.key(key));
                None
            }
        };
        let (columns, rows) = (side("columns"), side("rows"));
        Some(self::size(columns?, rows?))
    });
    issues.finish(Some((Options { command, stdin: stdin.is_some(), tty }, size)), OPTIONS, None)
}

/// Program and arguments. An argument may be empty, a program not.
fn command(raw: Option<&Raw>, at: &At, issues: &mut Issues) -> Vec<String> {
    match raw {
        None => {
            issues.missing(at).hint = Some(r#"write ["program", "argument"]"#.to_owned());
        }
        Some(Raw::Array(items)) => {
            if items.is_empty() {
                issues.add(at, "too_small", "expected at least 1 string, received an empty array");
            }
            let word = |(index, item)| match index {
                0 => issues.text(&at.index(0), item),
                _ => issues.string(&at.index(index), item),
            };
            return items.iter().enumerate().filter_map(word).map(str::to_owned).collect();
        }
        Some(other) => {
            issues.wrong_type(at, "array of strings", other).hint =
                Some(r#"there is no shell: write ["program", "argument"]"#.to_owned());
        }
    }
    Vec::new()
}

fn size(columns: u32, rows: u32) -> Size {
    let side = |characters: u32| u16::try_from(characters).unwrap_or(u16::MAX);
    Size { columns: side(columns), rows: side(rows) }
}

/// Has the program started, as an envelope with nothing in it. Asked for once.
#[napi(skip_typescript)]
pub async fn exec_start(number: u32) -> String {
    let Some(program) = PROGRAMS.get(number) else { return envelope::<()>(Err(closed())) };
    let mut close = program.close.subscribe();
    let mut state = program.state.lock().await;
    let State::Asked(start) = std::mem::replace(&mut *state, State::Over) else {
        return envelope::<()>(Err(Report::new("INTERNAL_ERROR", "a program is started once")));
    };
    let Start { platform, deployment, id, options, size, timeout } = *start;
    let session = tokio::select! {
        session = platform.exec(&deployment, &id, options) => session,
        () = tokio::time::sleep(timeout) => {
            let message = format!("the program was not started within {} s", timeout.as_secs_f64());
            Err(Report::new("TIMEOUT", message).retryable().status(504))
        }
        _ = close.wait_for(|closed| *closed) => Err(closed()),
    };
    envelope(session.map(|Session { stdin, output, size: resize, exit }| {
        *state = State::Running { output, exit };
        if let (Some(resize), Some(size)) = (&resize, size) {
            let _ = resize.try_send(size);
        }
        PROGRAMS.with(number, |program| {
            program.stdin = stdin;
            program.size = resize;
        });
    }))
}

fn closed() -> Report {
    Report::new("CANCELLED", "the connection to the program was closed").status(499)
}

/// The next piece of output: a byte that says what it is, 1 for standard output and 2 for standard error, then the bytes.
/// At the end 0 and the envelope of how the program ended.
#[napi(skip_typescript)]
pub async fn exec_next(number: u32) -> Buffer {
    let Some(program) = PROGRAMS.get(number) else { return end(Err(closed())) };
    let mut close = program.close.subscribe();
    let mut state = program.state.lock().await;
    tokio::select! {
        piece = next(&mut state) => piece,
        _ = close.wait_for(|closed| *closed) => end(Err(closed())),
    }
}

async fn next(state: &mut State) -> Buffer {
    let State::Running { output, exit } = state else { return end(Err(closed())) };
    if let Some(Output { stream, bytes }) = output.recv().await {
        let tag = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        return piece(tag, &bytes);
    }
    let exit = exit.await.unwrap_or_else(|_| {
        let message = "the connection to the program was lost before it ended; it may still run";
        Err(Report::new("EXEC_INTERRUPTED", message).retryable().status(502))
    });
    *state = State::Over;
    end(exit)
}

fn end(exit: Result<ExitStatus, Report>) -> Buffer {
    piece(0, envelope(exit).as_bytes())
}

fn piece(tag: u8, bytes: &[u8]) -> Buffer {
    let mut piece = Vec::with_capacity(1 + bytes.len());
    piece.push(tag);
    piece.extend_from_slice(bytes);
    piece.into()
}

/// Gives the program input, once there is room for it. False when it takes no more.
#[napi(skip_typescript)]
pub async fn exec_write(number: u32, bytes: Buffer) -> bool {
    let Some(Program { close, stdin: Some(stdin), .. }) = PROGRAMS.get(number) else { return false };
    let mut close = close.subscribe();
    tokio::select! {
        sent = stdin.send(bytes.to_vec()) => sent.is_ok(),
        _ = close.wait_for(|closed| *closed) => false,
    }
}

/// Lets the program read the end of its input.
#[napi(skip_typescript)]
pub fn exec_end_input(number: u32) {
    PROGRAMS.with(number, |program| program.stdin = None);
}

/// Tells the program's terminal its size.
#[napi(skip_typescript)]
pub async fn exec_resize(number: u32, columns: u32, rows: u32) {
    if let Some(resize) = PROGRAMS.with(number, |program| program.size.clone()).flatten() {
        let _ = resize.send(size(columns, rows)).await;
    }
}

/// Ends the connection; who waits for output gets the end.
#[napi(skip_typescript)]
pub fn exec_close(number: u32) {
    if let Some(program) = PROGRAMS.take(number) {
        let _ = program.close.send(true);
    }
}
