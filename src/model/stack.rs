//! A set of resources that is deployed as one.

use super::check::{At, Issues, any_of, field, quote};
use super::daemon::Daemon;
use super::ordered::Ordered;
use super::permissions::Permissions;
use super::raw::Raw;
use super::resource::{InStack, Resource, ResourceRef, ResourceType, Scope, Source, unbuilt};
use super::storage::given;
use crate::error::Report;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// The longest id of a stack.
const STACK_ID_MAX: usize = 128;

/// A checked stack. JSON: `{"id","permissions"?,"resources":{<id>: entry},"supportedPlatforms"?}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    pub id: String,
    /// Unset: whatever is linked may be read and written.
    pub permissions: Option<Permissions>,
    /// By id, in the order they were added.
    pub resources: Ordered<Entry>,
    /// Unset: every platform.
    pub supported_platforms: Option<Vec<Platform>>,
}

/// A resource in a stack. JSON: `{"config","dependencies","lifecycle","remoteAccess"?}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub config: Resource,
    /// What must be there before it, besides its links. Builders leave it empty.
    pub dependencies: Vec<ResourceRef>,
    pub lifecycle: Lifecycle,
    /// Whether it may be reached from outside its environment; in the JSON only when true.
    pub remote_access: bool,
}

/// How often a resource changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Made once, at the first deploy, with the rights to do so.
    Frozen,
    /// Updated by every deploy.
    Live,
}

impl Lifecycle {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Lifecycle::Frozen => "frozen",
            Lifecycle::Live => "live",
        }
    }
}

/// Where a stack runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    Aws,
    Gcp,
    Azure,
    Kubernetes,
    Local,
    Test,
}

impl Platform {
    pub const ALL: [Platform; 6] =
        [Platform::Aws, Platform::Gcp, Platform::Azure, Platform::Kubernetes, Platform::Local, Platform::Test];
    /// Their names, in the same order.
    pub const NAMES: [&'static str; 6] = ["aws", "gcp", "azure", "kubernetes", "local", "test"];

    pub fn as_str(self) -> &'static str {
        Platform::NAMES[self as usize]
    }

    pub fn parse(text: &str) -> Option<Platform> {
        Platform::ALL.into_iter().find(|platform| platform.as_str() == text)
    }

    /// Checks a platform's name.
    pub fn check(raw: &Raw, at: &At, issues: &mut Issues) -> Option<Platform> {
        match raw {
            Raw::String(text) => {
                let platform = Platform::parse(text);
                if platform.is_none() {
                    issues.not_one_of(at, &Platform::NAMES, text);
                }
                platform
            }
            other => {
                issues.wrong_type(at, &any_of(&Platform::NAMES), other);
                None
            }
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Stack {
    /// Checks what a builder has gathered: `{id, add: [{resource, lifecycle, options?}], permissions?,
    /// supportedPlatforms?}`, with paths as in the stack that comes out.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every issue.
    pub fn build(draft: &Raw) -> Result<Stack, Report> {
        let mut issues = Issues::default();
        let calls = match draft.get("add") {
            Some(Raw::Array(calls)) => calls.as_slice(),
            _ => &[],
        };
        let root = At::ROOT;
        let at = root.key("resources");
        let mut candidates: Vec<Candidate> = Vec::with_capacity(calls.len());
        let mut seen = HashMap::with_capacity(calls.len());
        for (index, call) in calls.iter().enumerate() {
            let resource = call.get("resource").unwrap_or(&Raw::Undefined);
            let Some(config) = added(resource, &at.index(index), &mut issues) else { continue };
            let id = config.get("id").and_then(Raw::as_str).unwrap_or_default();
            if seen.insert(id, index).is_some() {
                issues.add(&at.key(id), "custom", format!("a resource {} was already added", quote(id)));
                continue;
            }
            let options = call.get("options").filter(|raw| **raw != Raw::Undefined);
            let lifecycle = call.get("lifecycle");
            let options = options.and_then(|raw| issues.object_of(&at.key(id), raw, &["remoteAccess"]));
            let remote_access = options.and_then(|fields| field(fields, "remoteAccess"));
            candidates.push(Candidate { id, config: Some(config), lifecycle, remote_access, dependencies: None });
        }
        let document = Document { fields: draft, builder: true };
        document.check(candidates, issues)
    }

    /// Checks a stack that was built before: its JSON, from anywhere, by the same rules.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every issue.
    pub fn from_raw(raw: &Raw) -> Result<Stack, Report> {
        let mut issues = Issues::default();
        if let Raw::Other(kind) = raw
            && kind == "unbuilt Stack"
        {
            issues.add(&At::ROOT, "invalid_type", "expected a built stack, received a Stack that was not built").hint =
                Some("call .build() on it".to_owned());
            return issues.finish(None, "Stack", None);
        }
        let Some(fields) = issues.object_of(&At::ROOT, raw, &["id", "permissions", "resources", "supportedPlatforms"])
        else {
            return issues.finish(None, "Stack", None);
        };
        let root = At::ROOT;
        let at = root.key("resources");
        let mut candidates: Vec<Candidate> = Vec::new();
        let Some(resources) = field(fields, "resources") else {
            issues.missing(&at);
            return Document { fields: raw, builder: false }.check(candidates, issues);
        };
        let mut seen = HashSet::new();
        for (id, entry) in issues.object(&at, resources).unwrap_or_default() {
            let at = at.key(id);
            const KEYS: [&str; 4] = ["config", "dependencies", "lifecycle", "remoteAccess"];
            let Some(fields) = issues.object_of(&at, entry, &KEYS) else { continue };
            let config = field(fields, "config");
            if !seen.insert(id) {
                issues.add(&at, "custom", "the stack holds it twice");
                continue;
            }
            if config.is_none() {
                issues.missing(&at.key("config"));
            }
            let named = config.and_then(|config| config.get("id")).and_then(Raw::as_str);
            if let Some(named) = named.filter(|named| named != id) {
                let at = at.key("config");
                let message = format!("is {}, but the stack holds it as {}", quote(named), quote(id));
                issues.add(&at.key("id"), "invalid_value", message);
            }
            candidates.push(Candidate {
                id,
                config,
                lifecycle: field(fields, "lifecycle"),
                remote_access: field(fields, "remoteAccess"),
                dependencies: field(fields, "dependencies"),
            });
        }
        Document { fields: raw, builder: false }.check(candidates, issues)
    }

    /// [`Stack::from_raw`] on text, which keeps the order of the resources.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`, also for text that is not JSON.
    pub fn from_text(text: &str) -> Result<Stack, Report> {
        match Raw::from_text(text) {
            Ok(raw) => Stack::from_raw(&raw),
            Err(why) => {
                let mut issues = Issues::default();
                issues.add(&At::ROOT, "invalid_type", format!("is not JSON: {why}"));
                issues.finish(None, "Stack", None)
            }
        }
    }

    /// [`Stack::from_raw`] on a JSON value; its keys come in that value's own order.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every issue.
    pub fn from_json(value: &serde_json::Value) -> Result<Stack, Report> {
        Stack::from_raw(&Raw::from(value))
    }

    /// The daemons, in the order they were added.
    pub fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        self.resources.values().filter_map(|entry| entry.config.as_daemon())
    }

    /// The daemon of that id.
    pub fn daemon(&self, id: &str) -> Option<&Daemon> {
        self.resources.get(id)?.config.as_daemon()
    }

    /// Whether the stack is meant for a platform: it lists it, or lists none.
    pub fn supports(&self, platform: Platform) -> bool {
        self.supported_platforms.as_ref().is_none_or(|listed| listed.contains(&platform))
    }
}

/// What stands where a resource should, before it is known to be one.
struct Candidate<'r> {
    id: &'r str,
    config: Option<&'r Raw>,
    lifecycle: Option<&'r Raw>,
    remote_access: Option<&'r Raw>,
    dependencies: Option<&'r Raw>,
}

/// The stack around the candidates.
struct Document<'r> {
    fields: &'r Raw,
    builder: bool,
}

impl<'r> Document<'r> {
    fn check(&self, candidates: Vec<Candidate<'r>>, mut issues: Issues) -> Result<Stack, Report> {
        let fields = match self.fields {
            Raw::Object(fields) => fields.as_slice(),
            _ => &[],
        };
        let id = issues.id(&At::ROOT.key("id"), field(fields, "id"), STACK_ID_MAX);
        let source = Source { builder: self.builder, scope: None };
        let permissions = given(fields, "permissions", source);
        let scope = Scope {
            types: candidates
                .iter()
                .map(|candidate| {
                    let kind = candidate.config.and_then(|config| config.get("type")).and_then(Raw::as_str);
                    (candidate.id, kind.and_then(ResourceType::parse))
                })
                .collect(),
            profiles: permissions.and_then(|raw| match raw.get("profiles") {
                Some(Raw::Object(profiles)) => Some(profiles.iter().map(|(name, _)| name.as_str()).collect()),
                _ => None,
            }),
        };
        let permissions =
            permissions.and_then(|raw| Permissions::check(raw, &scope, &At::ROOT.key("permissions"), &mut issues));
        let mut resources = Ordered::new();
        let root = At::ROOT;
        let at = root.key("resources");
        for candidate in &candidates {
            if let Some(entry) = candidate.check(&scope, &at.key(candidate.id), &mut issues) {
                resources.insert(candidate.id, entry);
            }
        }
        let supported_platforms = given(fields, "supportedPlatforms", source)
            .and_then(|raw| check_platforms(raw, &At::ROOT.key("supportedPlatforms"), &mut issues));
        let stack = id.map(|id| Stack { id: id.to_owned(), permissions, resources, supported_platforms });
        issues.finish(stack, "Stack", field(fields, "id").and_then(Raw::as_str))
    }
}

impl Candidate<'_> {
    fn check(&self, scope: &Scope, at: &At, issues: &mut Issues) -> Option<Entry> {
        let source = Source { builder: false, scope: Some(scope) };
        let config = self.config.and_then(|raw| Resource::check(raw, source, &at.key("config"), issues));
        let kind = scope.types.get(self.id).copied().flatten();
        let lifecycle = check_lifecycle(self.lifecycle, kind, &at.key("lifecycle"), issues);
        let remote_access =
            self.remote_access.is_some_and(|raw| issues.boolean(&at.key("remoteAccess"), raw).unwrap_or_default());
        let at = at.key("dependencies");
        let mut dependencies = Vec::new();
        if let Some(items) = self.dependencies.and_then(|raw| issues.array(&at, raw)) {
            for (index, item) in items.iter().enumerate() {
                dependencies.extend(ResourceRef::check(item, &at.index(index), Some(scope), issues));
            }
        }
        Some(Entry { config: config?, dependencies, lifecycle: lifecycle?, remote_access })
    }
}

/// The config of what was given to `add`.
fn added<'r>(resource: &'r Raw, at: &At, issues: &mut Issues) -> Option<&'r Raw> {
    match (resource, resource.get("config")) {
        (_, Some(config @ Raw::Object(_))) => return Some(config),
        (Raw::Other(kind), _) if kind.starts_with("unbuilt ") => unbuilt(kind, at, issues),
        (Raw::Object(_), None) => {
            issues.add(at, "invalid_type", "expected a built resource, received an object without config");
        }
        (Raw::Object(_), Some(config)) => {
            issues.wrong_type(&at.key("config"), "object", config);
        }
        (other, _) => {
            issues.wrong_type(at, "a built resource", other);
        }
    }
    None
}

fn check_lifecycle(raw: Option<&Raw>, kind: Option<ResourceType>, at: &At, issues: &mut Issues) -> Option<Lifecycle> {
    let allowed: &[&str] = if kind == Some(ResourceType::Daemon) { &["live"] } else { &["frozen", "live"] };
    match raw {
        Some(Raw::String(text)) if text == "live" => Some(Lifecycle::Live),
        Some(Raw::String(text)) if text == "frozen" && allowed.len() == 2 => Some(Lifecycle::Frozen),
        Some(Raw::String(text)) if text == "frozen" => {
            issues.add(at, "invalid_value", "a daemon is always \"live\", received \"frozen\"");
            None
        }
        Some(Raw::String(text)) => {
            issues.not_one_of(at, allowed, text);
            None
        }
        found => {
            issues.wrong_type(at, &any_of(allowed), found.unwrap_or(&Raw::Undefined));
            None
        }
    }
}

fn check_platforms(raw: &Raw, at: &At, issues: &mut Issues) -> Option<Vec<Platform>> {
    let items = issues.array(at, raw)?;
    if items.is_empty() {
        issues.add(at, "too_small", "expected at least 1 platform, received an empty array").hint =
            Some("leave it out to allow every platform".to_owned());
    }
    let mut platforms = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = at.index(index);
        let Some(platform) = Platform::check(item, &at, issues) else { continue };
        if platforms.contains(&platform) {
            issues.add(&at, "custom", format!("\"{platform}\" is listed twice"));
        } else {
            platforms.push(platform);
        }
    }
    Some(platforms)
}

impl Serialize for Stack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        if let Some(permissions) = &self.permissions {
            map.serialize_entry("permissions", permissions)?;
        }
        map.serialize_entry("resources", &self.resources)?;
        if let Some(platforms) = &self.supported_platforms {
            map.serialize_entry("supportedPlatforms", platforms)?;
        }
        map.end()
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("config", &InStack(&self.config))?;
        map.serialize_entry("dependencies", &self.dependencies)?;
        map.serialize_entry("lifecycle", &self.lifecycle)?;
        if self.remote_access {
            map.serialize_entry("remoteAccess", &true)?;
        }
        map.end()
    }
}
