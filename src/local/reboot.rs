//! Whether the daemons of a state directory come back when their machine has started, as systemd sees it.

use super::account;
use super::layout::Layout;
use super::startup::{self, BOOTED};
use crate::error::Issue;
use std::fs;
use std::path::Path;

/// What keeps them from coming back; `None` where systemd does not run this machine. `program` is what the unit runs.
pub fn complaints(layout: &Layout, program: &Path) -> Option<Vec<Issue>> {
    if !Path::new(BOOTED).exists() {
        return None;
    }
    let is_root = unsafe { libc::geteuid() } == 0;
    let unit = startup::unit(layout);
    let known = startup::known(&unit, is_root);
    let of = |name: &str| known.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    let scope = startup::scope(is_root);
    let install = format!("`alien startup --install --state-dir {}`", layout.root().display());
    if matches!(of("LoadState"), "" | "not-found") {
        let message = "no systemd unit brings the daemons back when this machine starts";
        return Some(vec![issue(message.to_owned(), install)]);
    }
    let mut issues = Vec::new();
    match of("UnitFileState") {
        "enabled" => {}
        state => {
            let message = format!("{unit} is there, but {state}: nothing starts it with the machine");
            issues.push(issue(message, format!("{install} enables it")));
        }
    }
    if of("ActiveState") == "failed" {
        let message = format!("{unit} has failed: nobody starts a scanner that ends");
        issues.push(issue(message, format!("`systemctl {scope}status {unit}` says why")));
    }
    let file = of("FragmentPath");
    let ours = startup::text(layout.root(), program, is_root);
    if let (Ok(there), Ok(ours)) = (fs::read_to_string(file), ours)
        && there != ours
    {
        let hint = format!("{install} writes it anew; what is yours belongs into `systemctl {scope}edit {unit}`");
        issues.push(issue(format!("{file} is not what this version writes"), hint));
    }
    if !is_root && !startup::lingers() {
        let hint = format!("`loginctl enable-linger {}`, if need be as root", account::current());
        issues.push(issue(format!("{unit} runs only while you are logged in"), hint));
    }
    Some(issues)
}

fn issue(message: String, hint: String) -> Issue {
    Issue { hint: Some(hint), ..Issue::new(Vec::new(), "custom", message) }
}
