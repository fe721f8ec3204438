//! Who may do what: profiles that daemons run under, and what the deployment itself may manage.

use super::check::{At, Issues, any_of, field, quote, suggestion};
use super::ordered::Ordered;
use super::raw::Raw;
use super::resource::{ResourceType, Scope};
use super::stack::Platform;
use serde::{Serialize, Serializer};

/// A stack's permissions. JSON: `{"management"?,"profiles"}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Permissions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management: Option<Management>,
    /// Profiles by name; a daemon names the one it runs under.
    pub profiles: Ordered<Profile>,
}

/// Permission sets by the resource they are for: an id of the stack, or `*` for every resource of the set's type.
pub type Profile = Ordered<Vec<PermissionSet>>;

/// What the deployment may manage. JSON: `"auto"`, `{"extend": profile}` or `{"override": profile}`.
#[derive(Debug, Clone, PartialEq)]
pub enum Management {
    /// What the stack's resources need.
    Auto,
    /// That, and this.
    Extend(Profile),
    /// This alone.
    Override(Profile),
}

/// A named bundle of rights.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PermissionSet {
    /// One of the built-in sets, such as `storage/data-read`.
    Id(String),
    /// A set of the user's own, `{description, id, platforms}`: rights in a cloud's own words, by platform.
    Inline(serde_json::Value),
}

const ACTIONS: [&str; 5] = ["data-read", "data-write", "heartbeat", "management", "provision"];

/// The id of every built-in set.
fn set_ids() -> impl Iterator<Item = String> {
    ResourceType::ALL.into_iter().flat_map(|kind| {
        // A daemon holds no data.
        let actions = if kind == ResourceType::Daemon { &ACTIONS[2..] } else { &ACTIONS[..] };
        actions.iter().map(move |action| format!("{kind}/{action}"))
    })
}

/// The type that a built-in set is for, when the id is one.
fn set_type(id: &str) -> Option<ResourceType> {
    let (kind, action) = id.split_once('/')?;
    let kind = ResourceType::parse(kind)?;
    let data = matches!(action, "data-read" | "data-write");
    (ACTIONS.contains(&action) && !(data && kind == ResourceType::Daemon)).then_some(kind)
}

impl PermissionSet {
    /// The built-in set's id.
    pub fn id(&self) -> Option<&str> {
        match self {
            PermissionSet::Id(id) => Some(id),
            PermissionSet::Inline(_) => None,
        }
    }
}

impl Serialize for Management {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Management::Auto => serializer.serialize_str("auto"),
            Management::Extend(profile) => serializer.collect_map([("extend", profile)]),
            Management::Override(profile) => serializer.collect_map([("override", profile)]),
        }
    }
}

impl Permissions {
    pub(super) fn check(raw: &Raw, scope: &Scope, at: &At, issues: &mut Issues) -> Option<Permissions> {
        let fields = issues.object_of(at, raw, &["profiles", "management"])?;
        let management =
            field(fields, "management").and_then(|raw| Management::check(raw, scope, &at.key("management"), issues));
        let at = at.key("profiles");
        let Some(raw) = field(fields, "profiles") else {
            issues.missing(&at).hint = Some("declare at least the profiles that the daemons name".to_owned());
            return None;
        };
        let mut profiles = Ordered::new();
        for (name, raw) in issues.object(&at, raw)? {
            let at = at.key(name);
            if name.is_empty() || name.contains('\0') {
                issues.add(&at, "invalid_value", "a profile's name is 1 to 128 characters without NUL bytes");
            }
            if let Some(profile) = check_profile(raw, scope, &at, issues) {
                profiles.insert(name, profile);
            }
        }
        Some(Permissions { management, profiles })
    }
}

impl Management {
    fn check(raw: &Raw, scope: &Scope, at: &At, issues: &mut Issues) -> Option<Management> {
        const FORMS: &str = "\"auto\", {extend: profile} or {override: profile}";
        match raw {
            Raw::String(text) if text == "auto" => Some(Management::Auto),
            Raw::String(text) => {
                issues.add(at, "invalid_union", format!("expected {FORMS}, received {}", quote(text)));
                None
            }
            Raw::Object(fields) => {
                issues.known_keys(at, fields, &["extend", "override"]);
                match (field(fields, "extend"), field(fields, "override")) {
                    (Some(raw), None) => check_profile(raw, scope, &at.key("extend"), issues).map(Management::Extend),
                    (None, Some(raw)) => {
                        check_profile(raw, scope, &at.key("override"), issues).map(Management::Override)
                    }
                    (both, _) => {
                        let found = if both.is_some() { "both" } else { "neither" };
                        issues.add(
                            at,
                            "invalid_union",
                            format!("expected either extend or override, received {found}"),
                        );
                        None
                    }
                }
            }
            other => {
                issues.add(at, "invalid_union", format!("expected {FORMS}, received {}", other.kind()));
                None
            }
        }
    }
}

fn check_profile(raw: &Raw, scope: &Scope, at: &At, issues: &mut Issues) -> Option<Profile> {
    let mut profile = Profile::new();
    for (key, raw) in issues.object(at, raw)? {
        let at = at.key(key);
        let target = match (key.as_str(), scope.types.get(key.as_str())) {
            ("*", _) => None,
            (_, Some(kind)) => *kind,
            (_, None) => {
                let near = suggestion(key, scope.types.keys().copied());
                issues.add(&at, "invalid_value", format!("expected \"*\" or the id of a resource in the stack{near}"));
                None
            }
        };
        let Some(items) = issues.array(&at, raw) else { continue };
        let mut sets = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            sets.extend(check_set(item, key, target, &at.index(index), issues));
        }
        profile.insert(key, sets);
    }
    Some(profile)
}

/// Checks one set; `target` is the type of the resource it is for, unless that is `*` or not known.
fn check_set(
    raw: &Raw,
    key: &str,
    target: Option<ResourceType>,
    at: &At,
    issues: &mut Issues,
) -> Option<PermissionSet> {
    match raw {
        Raw::String(id) => {
            match (set_type(id), target) {
                (None, _) => {
                    let ids: Vec<String> = set_ids().collect();
                    let near = suggestion(id, ids.iter().map(String::as_str));
                    let issue =
                        issues.add(at, "invalid_value", format!("no permission set {} exists{near}", quote(id)));
                    issue.hint = near.is_empty().then(|| {
                        format!("sets are <type>/<action>, the actions {}; daemons have no data", any_of(&ACTIONS))
                    });
                }
                (Some(kind), Some(target)) if kind != target => {
                    let message = format!("{} is for a {kind}, but {} is a {target}", quote(id), quote(key));
                    issues.add(at, "invalid_value", message);
                }
                _ => {}
            }
            Some(PermissionSet::Id(id.clone()))
        }
        Raw::Object(_) => {
            let fields = issues.object_of(at, raw, &["id", "description", "platforms"])?;
            for key in ["id", "description"] {
                issues.required_text(fields, key, at);
            }
            let at = at.key("platforms");
            let Some(platforms) = field(fields, "platforms") else {
                issues.missing(&at);
                return None;
            };
            for (name, _) in issues.object(&at, platforms)? {
                if Platform::parse(name).is_none() {
                    issues.not_one_of(&at.key(name), &Platform::NAMES, name);
                }
            }
            Some(PermissionSet::Inline(raw.to_json()))
        }
        other => {
            let expected = "a permission set's id or {id, description, platforms}";
            issues.add(at, "invalid_union", format!("expected {expected}, received {}", other.kind()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_are_those_of_the_contract() {
        let ids: Vec<String> = set_ids().collect();
        assert_eq!(ids.len(), 4 * 5 + 3);
        assert!(ids.iter().all(|id| set_type(id).is_some()));
        assert_eq!(set_type("daemon/data-read"), None);
        assert_eq!(set_type("storage"), None);
    }
}
