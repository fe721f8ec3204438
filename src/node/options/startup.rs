//! What `alien startup` is told, by the command alone.

use crate::engine::startup::{Request, Wanted};
use crate::error::Report;
use crate::model::Raw;
use std::path::PathBuf;

/// `{action, unitDir?, configHome}`.
pub fn startup(raw: &Raw) -> Result<Request, Report> {
    let text = |key: &str| raw.get(key).and_then(Raw::as_str);
    let wanted = match text("action") {
        Some("print") => Wanted::Print,
        Some("install") => Wanted::Install,
        Some("uninstall") => Wanted::Uninstall,
        Some("run") => Wanted::Run,
        other => return Err(Report::new("INTERNAL_ERROR", format!("no such action of startup: {other:?}"))),
    };
    let config_home = text("configHome").map(PathBuf::from).unwrap_or_default();
    Ok(Request { wanted, unit_dir: text("unitDir").map(PathBuf::from), config_home })
}
