//! What is told of the way in which daemons come back when their machine has started.

use serde::Serialize;
use std::path::PathBuf;

/// What is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Only say what it would be.
    Print,
    /// Write it down, and have the machine know it.
    Install,
    /// Take it away again. What runs goes on.
    Uninstall,
    /// Say what it does, for somebody who does that in its place.
    Run,
}

/// What is wanted, and where.
#[derive(Debug, Clone)]
pub struct Request {
    pub wanted: Wanted,
    /// In place of the machine's own folder of units; the machine is told nothing then.
    pub unit_dir: Option<PathBuf>,
    /// Of the account, for its own units.
    pub config_home: PathBuf,
}

/// The unit, and what was done.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Startup {
    /// Its name.
    pub unit: String,
    pub path: PathBuf,
    pub text: String,
    /// Commands that were run.
    pub done: Vec<String>,
    /// Commands that are still to be run, by somebody who may, or on the machine that it is for.
    pub left: Vec<String>,
    /// The program that the unit runs, with its arguments.
    pub command: Vec<String>,
}
