//! The systemd unit that brings a state directory's daemons back when the machine starts.
//!
//! It runs the scanner in the foreground, as `bin/current` means it: an upgrade of the package is one of the unit too, and
//! needs no other unit. The scanner's end is no end of its daemons (`KillMode=process`); a stop of the unit is, since SIGTERM
//! has it stop them, each with its stop signal and its grace period. Where another scanner is there already, the unit's waits
//! for the end of that one, and passes SIGTERM on to it.

use super::helper::Helper;
use super::layout::{Layout, make_dir, unusable};
use crate::engine::startup::{Request, Startup, Wanted};
use crate::error::Report;
use crate::model::names::fingerprint;
use crate::supervisor::handover::{BIN, CURRENT, PROGRAM};
use crate::sys::file::put;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the machine's own units are.
const SYSTEM: &str = "/etc/systemd/system";
/// Where an account's are, in its folder of configuration.
const USER: &str = "systemd/user";
/// Is there where systemd runs this machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// Does what is wanted.
///
/// # Errors
/// `STARTUP_FAILED` where systemd refuses: with its own words.
pub fn startup(layout: &Layout, helper: &Helper, request: &Request) -> Result<Startup, Report> {
    let is_root = unsafe { libc::geteuid() } == 0;
    let unit = format!("alien-{}.service", fingerprint(layout.root().as_os_str().as_encoded_bytes(), 8));
    let dir = match &request.unit_dir {
        Some(dir) => dir.clone(),
        None if is_root => PathBuf::from(SYSTEM),
        None => request.config_home.join(USER),
    };
    let program = layout.root().join(BIN).join(CURRENT).join(PROGRAM);
    let mut startup = Startup {
        path: dir.join(&unit),
        text: text(layout.root(), &program, is_root)?,
        done: Vec::new(),
        left: Vec::new(),
        command: [program.as_os_str(), "keep".as_ref(), layout.root().as_os_str()]
            .map(|word| word.to_string_lossy().into_owned())
            .to_vec(),
        unit,
    };
    // What the unit runs is there from now on.
    if request.wanted != Wanted::Uninstall {
        helper.make_current().map_err(|error| unusable(&layout.bin(), &error))?;
    }
    let here = request.unit_dir.is_none() && Path::new(BOOTED).exists();
    match request.wanted {
        Wanted::Run => {}
        Wanted::Print => startup.left = commands(&startup.unit, is_root),
        Wanted::Install => {
            make_dir_of_units(&dir)?;
            put(&startup.path, 0o644, |file| file.write_all(startup.text.as_bytes()))
                .map_err(|error| unwritable(&startup.path, &error))?;
            let all = commands(&startup.unit, is_root);
            run(&mut startup, all, here)?;
        }
        Wanted::Uninstall => {
            let there = startup.path.exists();
            // What runs goes on: a daemon is not ended by somebody who wants it not to come back.
            let disable = format!("systemctl {}disable {}", scope(is_root), startup.unit);
            if there {
                run(&mut startup, vec![disable], here)?;
            }
            match fs::remove_file(&startup.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(&startup.path, &error)),
                _ => {}
            }
            if there {
                run(&mut startup, vec![format!("systemctl {}daemon-reload", scope(is_root))], here)?;
            }
        }
    }
    Ok(startup)
}

fn make_dir_of_units(dir: &Path) -> Result<(), Report> {
    match dir.exists() {
        true => Ok(()),
        false => make_dir(dir).map_err(|_| unwritable(dir, &io::Error::last_os_error())),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Report {
    Report::new("STARTUP_FAILED", format!("cannot write {}: {error}", path.display()))
        .with("path", path.display().to_string())
        .hint("--unit-dir DIR writes it elsewhere; without --install it is only printed")
}

fn scope(is_root: bool) -> &'static str {
    if is_root { "" } else { "--user " }
}

/// What makes a unit that is written down one that is started with the machine.
fn commands(unit: &str, is_root: bool) -> Vec<String> {
    let scope = scope(is_root);
    let mut commands = vec![format!("systemctl {scope}daemon-reload"), format!("systemctl {scope}enable --now {unit}")];
    if !is_root {
        // Without it an account's units run only while somebody is logged in.
        commands.push("loginctl enable-linger".to_owned());
    }
    commands
}

/// Runs commands, or leaves them to somebody else.
fn run(startup: &mut Startup, commands: Vec<String>, here: bool) -> Result<(), Report> {
    if !here {
        startup.left.extend(commands);
        return Ok(());
    }
    for command in commands {
        let mut words = command.split(' ');
        let output = Command::new(words.next().unwrap_or_default()).args(words).stdin(Stdio::null()).output();
        let why = match output {
            Ok(output) if output.status.success() => {
                startup.done.push(command);
                continue;
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("`{command}` failed: {why}");
        return Err(Report::new("STARTUP_FAILED", message)
            .with("path", startup.path.display().to_string())
            .hint("the unit is written; run the command by hand once what it says is mended"));
    }
    Ok(())
}

/// The unit (systemd.unit(5), systemd.service(5)).
fn text(state_dir: &Path, program: &Path, is_root: bool) -> Result<String, Report> {
    let state = plain(state_dir)?;
    let program = match plain(program)? {
        // systemd takes no such path for a program, but any argument.
        path if path.contains(['"', '\'', '\\']) => {
            format!(r#"/bin/sh -c "exec \"$$0\" \"$$@\"" {}"#, quoted(path).replace('$', "$$"))
        }
        path => quoted(path),
    };
    let argument = quoted(state).replace('$', "$$");
    let described = state.replace('%', "%%");
    // An account's systemd knows nothing of the machine's network and mounts.
    let (needs, target) = match is_root {
        true => (
            format!("Wants=network-online.target\nAfter=network-online.target\nRequiresMountsFor={}\n", quoted(state)),
            "multi-user.target",
        ),
        false => (String::new(), "default.target"),
    };
    Ok(format!(
        "# Written by `alien startup`, which takes it away again with --uninstall.
[Unit]
Description=Daemons kept in {described}
{needs}
[Service]
Type=exec
ExecStart={program} keep {argument}
Restart=always
RestartSec=1
# The scanner's end is not that of its daemons. Being stopped, it stops them and waits for them.
KillMode=process
TimeoutStopSec=5min
# Limits of cpu and memory are control groups below the unit's own.
Delegate=yes
OOMPolicy=continue
TasksMax=infinity

[Install]
WantedBy={target}
"
    ))
}

/// A path that a unit's line can hold.
fn plain(path: &Path) -> Result<&str, Report> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    text.ok_or_else(|| {
        let message = format!("a systemd unit cannot name the state directory {}", path.display());
        Report::new("STARTUP_FAILED", message).hint("choose one whose path is plain text, with --state-dir")
    })
}

/// As one word of a unit's line: quoted, and with nothing for systemd to put in its place. Of a program's arguments `$` has to
/// be doubled besides; of its own path it must not be.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_would_take_for_its_own_is_escaped() {
        let state = Path::new(r#"/a b/100%/"q"/$HOME/back\slash"#);
        let unit = text(state, &state.join("p"), true).unwrap();
        let line = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        let path = r#"/a b/100%%/\"q\"/$$HOME/back\\slash"#;
        assert_eq!(line, format!(r#"ExecStart=/bin/sh -c "exec \"$$0\" \"$$@\"" "{path}/p" keep "{path}""#));
        let easy = text(Path::new("/a b/$HOME%"), Path::new("/a b/$HOME%/p"), false).unwrap();
        assert!(easy.contains("\nExecStart=\"/a b/$HOME%%/p\" keep \"/a b/$$HOME%%\"\n"), "{easy}");
        assert!(unit.contains(r#"Description=Daemons kept in /a b/100%%/"q"/$HOME/back\slash"#));
        assert!(text(Path::new("/a\nExecStartPre=/bin/evil"), Path::new("/p"), true).is_err());
    }
}
