//! The kinds of things a stack is made of.

use super::check::{At, Issues, any_of, field, quote, suggestion};
use super::daemon::Daemon;
use super::raw::Raw;
use super::storage::Storage;
use crate::error::Report;
use serde::{Serialize, Serializer};
use std::fmt;

/// The longest id of a resource.
pub(super) const ID_MAX: usize = 64;

/// A kind of resource; `type` in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceType {
    Daemon,
    Storage,
    Kv,
    Queue,
    Vault,
}

impl ResourceType {
    pub const ALL: [ResourceType; 5] =
        [ResourceType::Daemon, ResourceType::Storage, ResourceType::Kv, ResourceType::Queue, ResourceType::Vault];

    /// As JSON writes it: `daemon`.
    pub fn as_str(self) -> &'static str {
        match self {
            ResourceType::Daemon => "daemon",
            ResourceType::Storage => "storage",
            ResourceType::Kv => "kv",
            ResourceType::Queue => "queue",
            ResourceType::Vault => "vault",
        }
    }

    /// As the class is called: `Daemon`.
    pub fn class(self) -> &'static str {
        match self {
            ResourceType::Daemon => "Daemon",
            ResourceType::Storage => "Storage",
            ResourceType::Kv => "Kv",
            ResourceType::Queue => "Queue",
            ResourceType::Vault => "Vault",
        }
    }

    pub fn parse(text: &str) -> Option<ResourceType> {
        ResourceType::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Checks the `type` of a resource or a reference.
    pub(super) fn check(raw: Option<&Raw>, at: &At, issues: &mut Issues) -> Option<ResourceType> {
        let names = ResourceType::ALL.map(ResourceType::as_str);
        let text = match raw {
            Some(Raw::String(text)) => text,
            found => {
                issues.wrong_type(at, &any_of(&names), found.unwrap_or(&Raw::Undefined));
                return None;
            }
        };
        let kind = ResourceType::parse(text);
        if kind.is_none() {
            let message = format!(
                "resources of type {} are not supported here, expected {}{}",
                quote(text),
                any_of(&names),
                suggestion(text, names)
            );
            issues.add(at, "invalid_value", message);
        }
        kind
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reference to a resource of the same stack. JSON: `{"type","id"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceRef {
    #[serde(rename = "type")]
    pub kind: ResourceType,
    pub id: String,
}

/// What a reference is held against, once the whole stack is known.
pub(super) struct Scope<'r> {
    /// The type of every resource that the stack names, by id; `None` when its type is itself wrong.
    pub types: std::collections::HashMap<&'r str, Option<ResourceType>>,
    /// The names of the profiles, when the stack declares permissions.
    pub profiles: Option<Vec<&'r str>>,
}

impl ResourceRef {
    pub(super) fn check(raw: &Raw, at: &At, scope: Option<&Scope>, issues: &mut Issues) -> Option<ResourceRef> {
        let fields = match raw {
            Raw::Other(kind) if kind.starts_with("unbuilt ") => {
                unbuilt(kind, at, issues);
                return None;
            }
            Raw::Object(fields) => fields,
            other => {
                issues.wrong_type(at, "a built resource or {type, id}", other);
                return None;
            }
        };
        issues.known_keys(at, fields, &["type", "id"]);
        let kind = ResourceType::check(field(fields, "type"), &at.key("type"), issues);
        let id = issues.id(&at.key("id"), field(fields, "id"), ID_MAX);
        let (kind, id) = (kind?, id?);
        if let Some(scope) = scope {
            match scope.types.get(id) {
                None => {
                    let near = suggestion(id, scope.types.keys().copied());
                    let message = format!("no resource {} is in the stack{near}", quote(id));
                    issues.add(at, "invalid_value", message).hint = Some(format!("add the {kind} to the stack too"));
                }
                Some(Some(other)) if *other != kind => {
                    let message = format!("{} is a {other} in this stack, not a {kind}", quote(id));
                    issues.add(at, "invalid_value", message);
                }
                Some(_) => {}
            }
        }
        Some(ResourceRef { kind, id: id.to_owned() })
    }
}

/// The issue for a builder that stands where a resource should: somebody forgot `.build()`.
pub(super) fn unbuilt(kind: &str, at: &At, issues: &mut Issues) {
    let class = kind.strip_prefix("unbuilt ").unwrap_or(kind);
    let message = format!("expected a built resource, received a {class} that was not built");
    issues.add(at, "invalid_type", message).hint = Some("call .build() on it".to_owned());
}

/// A key-value store. JSON: `{"type":"kv","id"}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Kv {
    pub id: String,
}

/// A queue. JSON: `{"type":"queue","id"}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    pub id: String,
}

/// A vault of secrets. JSON: `{"type":"vault","id"}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Vault {
    pub id: String,
}

/// Something that a stack holds.
///
/// JSON: `type`, `id` among the other fields in alphabetical order; inside a stack `id`, `type`, then the others.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    Daemon(Box<Daemon>),
    Storage(Storage),
    Kv(Kv),
    Queue(Queue),
    Vault(Vault),
}

/// How a resource came here, which decides what absence means and what a hint may say.
#[derive(Clone, Copy)]
pub(super) struct Source<'s> {
    /// From a builder: a method that was called with undefined is a mistake, and hints name methods.
    pub builder: bool,
    /// The stack around it, when it is known.
    pub scope: Option<&'s Scope<'s>>,
}

impl Resource {
    pub fn id(&self) -> &str {
        match self {
            Resource::Daemon(daemon) => &daemon.id,
            Resource::Storage(storage) => &storage.id,
            Resource::Kv(kv) => &kv.id,
            Resource::Queue(queue) => &queue.id,
            Resource::Vault(vault) => &vault.id,
        }
    }

    pub fn kind(&self) -> ResourceType {
        match self {
            Resource::Daemon(_) => ResourceType::Daemon,
            Resource::Storage(_) => ResourceType::Storage,
            Resource::Kv(_) => ResourceType::Kv,
            Resource::Queue(_) => ResourceType::Queue,
            Resource::Vault(_) => ResourceType::Vault,
        }
    }

    /// The daemon, when it is one.
    pub fn as_daemon(&self) -> Option<&Daemon> {
        match self {
            Resource::Daemon(daemon) => Some(daemon),
            _ => None,
        }
    }

    /// Checks what a builder has gathered: an object of everything that was set, by method.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every issue; paths start at the resource.
    pub fn build(kind: ResourceType, draft: &Raw) -> Result<Resource, Report> {
        let mut issues = Issues::default();
        let source = Source { builder: true, scope: None };
        let resource = issues
            .object(&At::ROOT, draft)
            .and_then(|fields| Resource::check_fields(kind, fields, source, &At::ROOT, &mut issues));
        issues.finish(resource, kind.class(), draft.get("id").and_then(Raw::as_str))
    }

    /// Checks a resource's JSON.
    pub(super) fn check(raw: &Raw, source: Source, at: &At, issues: &mut Issues) -> Option<Resource> {
        let fields = issues.object(at, raw)?;
        let kind = ResourceType::check(field(fields, "type"), &at.key("type"), issues)?;
        Resource::check_fields(kind, fields, source, at, issues)
    }

    fn check_fields(
        kind: ResourceType,
        fields: &[(String, Raw)],
        source: Source,
        at: &At,
        issues: &mut Issues,
    ) -> Option<Resource> {
        let id_only = |issues: &mut Issues| {
            issues.known_keys(at, fields, &["type", "id"]);
            issues.id(&at.key("id"), field(fields, "id"), ID_MAX).map(str::to_owned)
        };
        Some(match kind {
            ResourceType::Daemon => Resource::Daemon(Box::new(Daemon::check(fields, source, at, issues)?)),
            ResourceType::Storage => Resource::Storage(Storage::check(fields, source, at, issues)?),
            ResourceType::Kv => Resource::Kv(Kv { id: id_only(issues)? }),
            ResourceType::Queue => Resource::Queue(Queue { id: id_only(issues)? }),
            ResourceType::Vault => Resource::Vault(Vault { id: id_only(issues)? }),
        })
    }

    fn write<S: Serializer>(&self, serializer: S, in_stack: bool) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        if in_stack {
            map.serialize_entry("id", self.id())?;
        }
        map.serialize_entry("type", &self.kind())?;
        match self {
            Resource::Daemon(daemon) => daemon.write(&mut map, !in_stack)?,
            Resource::Storage(storage) => storage.write(&mut map, !in_stack)?,
            _ if !in_stack => map.serialize_entry("id", self.id())?,
            _ => {}
        }
        map.end()
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write(serializer, false)
    }
}

/// A resource as a stack writes it: `id` first.
pub(super) struct InStack<'r>(pub &'r Resource);

impl Serialize for InStack<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer, true)
    }
}
