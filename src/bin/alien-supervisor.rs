//! The program that stays: scanner, supervisor and init of daemons on this machine. See `alien_core::supervisor`.
//!
//! It is called by the addon and by itself, not by people; still it says what it takes.

use alien_core::sandbox::secrets::Secrets;
use alien_core::sandbox::{copy, ids, own, probe};
use alien_core::supervisor::{Work, exec, go_on, handover, scanner, supervise};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

#[cfg(not(feature = "addon"))]
#[global_allocator]
static HEAP: alien_core::sys::heap::Heap = alien_core::sys::heap::Heap;

const USAGE: &str = "usage:
  alien-supervisor scan STATE_DIR             keep every daemon of a state directory; detaches
  alien-supervisor keep STATE_DIR             the same in the foreground, until SIGTERM; daemons end with it then
  alien-supervisor run STATE_DIR DAEMON_DIR   keep one daemon
                                              both go on with what another version wrote to the descriptor that may follow
  alien-supervisor check scan|run             whether this version could go on with that; it is on standard input
  alien-supervisor probe SCRATCH_DIR IDS      try what this machine allows; JSON on stdout
  alien-supervisor exec DAEMON_DIR PID KIND -- PROGRAM [ARGUMENT...]
                                              run a program beside a daemon's, whose pid that is; KIND is plain or
                                              terminal; how it ended goes to descriptor 3, as JSON
  alien-supervisor own LIST LAYER_DIR IDS     give the files of a layer their owners
  alien-supervisor remove TREE IDS            remove files that belong to a sandbox's ids
  alien-supervisor secrets names DIR IDS
  alien-supervisor secrets put|remove DIR IDS NAME
                                              see or change secrets that belong to a sandbox's ids; names go to standard
                                              output, a line each; a value is standard input";

fn main() -> ExitCode {
    if cfg!(feature = "addon") {
        eprintln!(
            "alien-supervisor: built with the addon, this program has not its own heap; `npm run build` makes the right one"
        );
        return ExitCode::FAILURE;
    }
    match run(&std::env::args_os().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("alien-supervisor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[OsString]) -> io::Result<()> {
    let words: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect();
    let path = |index: usize| Path::new(&arguments[index]);
    let ids = |text: &str| serde_json::from_str::<ids::Ids>(text).map_err(io::Error::other);
    match words[..] {
        ["scan", _] => scanner::start(path(1)),
        ["keep", _] => scanner::stay(path(1)),
        ["scan", _, handed] => scanner::go_on(path(1), handed),
        ["run", _, _] => supervise(path(1), path(2)),
        ["run", _, _, handed] => go_on(path(1), path(2), handed),
        ["check", "scan"] => handover::read::<scanner::Work>(io::stdin()).map(drop),
        ["check", "run"] => handover::read::<Work>(io::stdin()).map(drop),
        ["probe", _, text] => {
            println!("{}", serde_json::to_string(&probe::run(path(1), &ids(text)?))?);
            Ok(())
        }
        ["exec", _, pid, kind @ ("plain" | "terminal"), "--", _, ..] => {
            let pid = pid.parse().map_err(io::Error::other)?;
            exec::run(path(1), pid, kind == "terminal", words[5..].iter().map(|&word| word.to_owned()).collect())
        }
        ["own", _, _, text] => own::apply(path(1), path(2), &ids(text)?),
        ["secrets", what, _, text] => ids::as_root_of(&ids(text)?, || secrets(what, path(2), None)),
        ["secrets", what, _, text, name] => ids::as_root_of(&ids(text)?, || secrets(what, path(2), Some(name))),
        ["remove", _, text] => ids::as_root_of(&ids(text)?, || copy::tree(path(1))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE)),
    }
}

fn secrets(what: &str, dir: &Path, name: Option<&str>) -> io::Result<()> {
    let secrets = Secrets::open(dir)?;
    match (what, name) {
        ("names", None) => secrets.names()?.iter().try_for_each(|name| writeln!(io::stdout(), "{name}")),
        ("put", Some(name)) => {
            let mut value = Vec::new();
            io::stdin().read_to_end(&mut value)?;
            secrets.put(name, &value)
        }
        ("remove", Some(name)) => secrets.remove(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE)),
    }
}
