//! An always-on process.

use super::check::{At, Issues, field, quote, suggestion};
use super::code::Code;
use super::environment;
use super::quantity::{Bounds, Unit};
use super::raw::Raw;
use super::resource::{ID_MAX, ResourceRef, ResourceType, Source};
use super::storage::given;
use serde::ser::SerializeMap;
use std::collections::BTreeMap;

/// A process that runs until it is removed, restarted whenever it ends.
///
/// JSON: `type`, then in alphabetical order `code`, `command`?, `commandsEnabled`, `cpu`?, `environment`, `id`, `links`,
/// `memory`?, `permissions`, `stopGracePeriodSeconds`?.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    pub code: Code,
    /// What to run instead of the image's entry point and command, as argv.
    pub command: Option<Vec<String>>,
    /// Whether it takes commands; false unless set.
    pub commands_enabled: bool,
    /// A share of the machine's CPU, never a cap; unset means no wish.
    pub cpu: Option<Bounds>,
    pub environment: BTreeMap<String, String>,
    pub id: String,
    /// What is bound into it, in the order of the calls; each resource once, never itself.
    pub links: Vec<ResourceRef>,
    /// Memory it is given; `desired` is its limit. Unset means no limit.
    pub memory: Option<Bounds>,
    /// The name of its permission profile.
    pub permissions: String,
    /// Seconds from the stop signal to the kill, 1 to 86,400; platforms take 30 when unset.
    pub stop_grace_period_seconds: Option<u32>,
}

const KEYS: [&str; 11] = [
    "type",
    "code",
    "command",
    "commandsEnabled",
    "cpu",
    "environment",
    "id",
    "links",
    "memory",
    "permissions",
    "stopGracePeriodSeconds",
];

/// The longest name of a profile.
const PROFILE_MAX: usize = 128;

impl Daemon {
    pub(super) fn check(fields: &[(String, Raw)], source: Source, at: &At, issues: &mut Issues) -> Option<Daemon> {
        issues.known_keys(at, fields, &KEYS);
        let id = issues.id(&at.key("id"), field(fields, "id"), ID_MAX);
        let code = check_code(fields, source, &at.key("code"), issues);
        let command = given(fields, "command", source).and_then(|raw| check_command(raw, &at.key("command"), issues));
        let commands_enabled = given(fields, "commandsEnabled", source)
            .is_some_and(|raw| issues.boolean(&at.key("commandsEnabled"), raw).unwrap_or_default());
        let cpu = given(fields, "cpu", source).and_then(|raw| Bounds::check(raw, Unit::Cpu, &at.key("cpu"), issues));
        let environment = given(fields, "environment", source)
            .and_then(|raw| environment::check(raw, &at.key("environment"), issues))
            .unwrap_or_default();
        let links = check_links(given(fields, "links", source), id, source, &at.key("links"), issues);
        let memory =
            given(fields, "memory", source).and_then(|raw| Bounds::check(raw, Unit::Memory, &at.key("memory"), issues));
        let permissions = check_profile_name(fields, source, &at.key("permissions"), issues);
        let stop_grace_period_seconds = given(fields, "stopGracePeriodSeconds", source)
            .and_then(|raw| issues.integer(&at.key("stopGracePeriodSeconds"), raw, 1, 86_400));
        Some(Daemon {
            code: code?,
            command,
            commands_enabled,
            cpu,
            environment,
            id: id?.to_owned(),
            links,
            memory,
            permissions: permissions?,
            stop_grace_period_seconds,
        })
    }

    /// Writes every field but `type`.
    pub(super) fn write<M: SerializeMap>(&self, map: &mut M, with_id: bool) -> Result<(), M::Error> {
        map.serialize_entry("code", &self.code)?;
        if let Some(command) = &self.command {
            map.serialize_entry("command", command)?;
        }
        map.serialize_entry("commandsEnabled", &self.commands_enabled)?;
        if let Some(cpu) = &self.cpu {
            map.serialize_entry("cpu", cpu)?;
        }
        map.serialize_entry("environment", &self.environment)?;
        if with_id {
            map.serialize_entry("id", &self.id)?;
        }
        map.serialize_entry("links", &self.links)?;
        if let Some(memory) = &self.memory {
            map.serialize_entry("memory", memory)?;
        }
        map.serialize_entry("permissions", &self.permissions)?;
        if let Some(seconds) = &self.stop_grace_period_seconds {
            map.serialize_entry("stopGracePeriodSeconds", seconds)?;
        }
        Ok(())
    }
}

fn check_code(fields: &[(String, Raw)], source: Source, at: &At, issues: &mut Issues) -> Option<Code> {
    match given(fields, "code", source) {
        Some(raw) => Code::check(raw, at, issues),
        None => {
            let hint = r#"call .code({ type: "image", image: "registry/repository:tag" })"#;
            issues.missing(at).hint = source.builder.then(|| hint.to_owned());
            None
        }
    }
}

fn check_command(raw: &Raw, at: &At, issues: &mut Issues) -> Option<Vec<String>> {
    if let Raw::String(_) = raw {
        issues.wrong_type(at, "array of strings", raw).hint =
            Some(r#"there is no shell: write ["program", "argument"]"#.to_owned());
        return None;
    }
    let items = issues.array(at, raw)?;
    if items.is_empty() {
        issues.add(at, "too_small", "expected at least 1 string, received an empty array");
        return None;
    }
    let argv: Vec<String> = items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| issues.text(&at.index(index), item).map(str::to_owned))
        .collect();
    Some(argv)
}

fn check_links(raw: Option<&Raw>, id: Option<&str>, source: Source, at: &At, issues: &mut Issues) -> Vec<ResourceRef> {
    let mut links: Vec<ResourceRef> = Vec::new();
    let Some(items) = raw.and_then(|raw| issues.array(at, raw)) else { return links };
    for (index, item) in items.iter().enumerate() {
        let at = at.index(index);
        let Some(link) = ResourceRef::check(item, &at, source.scope, issues) else { continue };
        if link.kind == ResourceType::Daemon && Some(link.id.as_str()) == id {
            issues.add(&at, "custom", "a daemon cannot be linked to itself");
        } else if links.iter().any(|other| other.id == link.id) {
            issues.add(&at, "custom", format!("{} is linked twice", quote(&link.id)));
        } else {
            links.push(link);
        }
    }
    links
}

fn check_profile_name(fields: &[(String, Raw)], source: Source, at: &At, issues: &mut Issues) -> Option<String> {
    let Some(raw) = given(fields, "permissions", source) else {
        let hint = r#"call .permissions("execution") with the name of a profile"#;
        issues.missing(at).hint = source.builder.then(|| hint.to_owned());
        return None;
    };
    let name = issues.text(at, raw)?;
    let length = name.chars().count();
    if length > PROFILE_MAX {
        issues.add(at, "too_big", format!("expected at most {PROFILE_MAX} characters, received {length}"));
        return None;
    }
    if let Some(profiles) = source.scope.and_then(|scope| scope.profiles.as_ref())
        && !profiles.contains(&name)
    {
        let defined = match profiles.as_slice() {
            [] => "the stack's permissions define none".to_owned(),
            names => format!(
                "the stack's permissions define {}",
                names.iter().map(|n| quote(n)).collect::<Vec<_>>().join(", ")
            ),
        };
        let near = suggestion(name, profiles.iter().copied());
        issues.add(at, "invalid_value", format!("no profile {} is defined: {defined}{near}", quote(name)));
    }
    Some(name.to_owned())
}
