//! The systemd unit that brings a state directory's daemons back when the machine starts.
//!
//! It runs the scanner in the foreground, as `bin/current` means it: an upgrade of the package is one of the unit too, and
//! needs no other unit. The scanner's end is no end of its daemons (`KillMode=process`); a stop of the unit is, since SIGTERM
//! has it stop them, each with its stop signal and its grace period. Where another scanner is there already, the unit's waits
//! for the end of that one, and passes SIGTERM on to it.

use super::account;
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
use std::time::{Duration, Instant};

/// Where the machine's own units are.
const SYSTEM: &str = "/etc/systemd/system";
/// Where an account's are, in its folder of configuration.
const USER: &str = "systemd/user";
/// Is there where systemd runs this machine (sd_booted(3)).
pub const BOOTED: &str = "/run/systemd/system";
/// Where systemd notes the accounts whose units run with the machine (systemd-logind.service(8)).
const LINGER: &str = "/var/lib/systemd/linger";
/// How long an account's systemd may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does what is wanted.
///
/// # Errors
/// `STARTUP_FAILED` where systemd refuses: with its own words.
pub fn startup(layout: &Layout, helper: &Helper, request: &Request) -> Result<Startup, Report> {
    let is_root = unsafe { libc::geteuid() } == 0;
    let unit = unit(layout);
    let dir = match &request.unit_dir {
        Some(dir) => dir.clone(),
        None if is_root => PathBuf::from(SYSTEM),
        None => request.config_home.join(USER),
    };
    let program = program(layout);
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
            let mut all = commands(&startup.unit, is_root);
            // Somebody may have granted already what an account may not take by itself.
            all.retain(|command| !(here && command.starts_with("loginctl ") && lingers()));
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

/// What the unit of a state directory is called.
pub fn unit(layout: &Layout) -> String {
    format!("alien-{}.service", fingerprint(layout.root().as_os_str().as_encoded_bytes(), 8))
}

/// What it runs.
pub fn program(layout: &Layout) -> PathBuf {
    layout.root().join(BIN).join(CURRENT).join(PROGRAM)
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

pub fn scope(is_root: bool) -> &'static str {
    if is_root { "" } else { "--user " }
}

/// What makes a unit that is written down one that is started with the machine.
fn commands(unit: &str, is_root: bool) -> Vec<String> {
    let scope = scope(is_root);
    let systemctl = [format!("systemctl {scope}daemon-reload"), format!("systemctl {scope}enable --now {unit}")];
    // Without it an account's units run only while somebody is logged in. It also has them run where nobody is. The account
    // is named: `loginctl` takes none from a caller that is in no session.
    let linger = (!is_root).then(|| format!("loginctl enable-linger {}", account::current()));
    linger.into_iter().chain(systemctl).collect()
}

/// Runs commands, or leaves them to somebody else. Says what all of those said that failed.
fn run(startup: &mut Startup, commands: Vec<String>, here: bool) -> Result<(), Report> {
    if !here {
        startup.left.extend(commands);
        return Ok(());
    }
    let (mut failed, mut said) = (Vec::new(), Vec::new());
    for command in commands {
        let mut words = command.split(' ');
        let mut process = Command::new(words.next().unwrap_or_default());
        process.args(words).stdin(Stdio::null());
        if command.starts_with("systemctl --user ") {
            process.envs(of_account());
        }
        let why = match process.output() {
            Ok(output) if output.status.success() => {
                startup.done.push(command);
                continue;
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        said.push(format!("`{command}` failed: {why}"));
        failed.push(command);
    }
    if failed.is_empty() {
        return Ok(());
    }
    let hint = match &failed[..] {
        [linger] if linger.starts_with("loginctl ") => {
            format!("the unit is enabled, but runs only while you are logged in; as root: `{linger}`")
        }
        [linger, ..] if linger.starts_with("loginctl ") => format!("as root: `{linger}`; then again what you ran"),
        _ => "run it again, or the commands by hand, once what they say is mended".to_owned(),
    };
    Err(Report::new("STARTUP_FAILED", said.join("\n")).with("path", startup.path.display().to_string()).hint(hint))
}

/// What systemd knows of a unit, as lines of `NAME=VALUE`; nothing where it cannot be asked.
pub fn known(unit: &str, is_root: bool) -> Vec<String> {
    let mut process = Command::new("systemctl");
    if !is_root {
        process.arg("--user").envs(of_account());
    }
    process.args(["show", "--property=LoadState,UnitFileState,ActiveState,FragmentPath", unit]).stdin(Stdio::null());
    let said = process.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).lines().map(str::to_owned).collect()
}

/// Whether systemd has `DelegateSubgroup=`, which is of version 254; where there is none to ask, that of another machine will.
fn has_subgroups() -> bool {
    let said = Command::new("systemctl").arg("--version").stdin(Stdio::null()).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version = said.strip_prefix("systemd ").and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    version.and_then(|version| version.parse::<u32>().ok()).is_none_or(|version| version >= 254)
}

/// Where this account's systemd is to be found, for a caller that no session of the account has told: one of `sudo -u`, of
/// cron, or of a machine that has just begun to run units for it.
fn of_account() -> Option<(&'static str, PathBuf)> {
    const NAME: &str = "XDG_RUNTIME_DIR";
    let listens = |dir: &Path| dir.join("systemd/private").exists();
    if std::env::var_os(NAME).is_some_and(|dir| listens(Path::new(&dir))) {
        return None;
    }
    let dir = PathBuf::from(format!("/run/user/{}", unsafe { libc::geteuid() }));
    let until = Instant::now() + PATIENCE;
    // Begun by `loginctl`, which does not wait for it.
    while !listens(&dir) && lingers() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    Some((NAME, dir))
}

/// Whether the machine runs this account's units also where nobody is logged in.
pub fn lingers() -> bool {
    Path::new(LINGER).join(account::current()).exists()
}

/// The unit (systemd.unit(5), systemd.service(5)).
pub fn text(state_dir: &Path, program: &Path, is_root: bool) -> Result<String, Report> {
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
    // Older ones would warn of a key that they do not know whenever they read the unit.
    let subgroup = if has_subgroups() { "\nDelegateSubgroup=supervisor" } else { "" };
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
# Limits of cpu and memory are control groups below the unit's own, beside that of what keeps the daemons: a group of version
# 2 with such groups has no processes itself, and what is left in it would keep a new scanner from starting there.
Delegate=yes{subgroup}
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
