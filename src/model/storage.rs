//! An object store, and for how long it keeps what it holds.

use super::check::{At, Issues, field};
use super::raw::Raw;
use super::resource::{ID_MAX, Source};
use serde::Serialize;
use serde::ser::SerializeMap;

/// An object store. JSON: `{"type":"storage","id","lifecycleRules":[],"publicRead":false,"versioning":false}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Storage {
    pub id: String,
    pub lifecycle_rules: Vec<LifecycleRule>,
    /// Whether anybody may read, without credentials.
    pub public_read: bool,
    /// Whether what is overwritten or deleted is kept as an older version.
    pub versioning: bool,
}

/// Deletes objects after a time. JSON: `{"days","prefix"?}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LifecycleRule {
    /// Age at which an object is deleted, in days, 1 to 36,500.
    pub days: u32,
    /// Only objects whose names begin with this; all when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

const KEYS: [&str; 5] = ["type", "id", "lifecycleRules", "publicRead", "versioning"];

impl Storage {
    pub(super) fn check(fields: &[(String, Raw)], source: Source, at: &At, issues: &mut Issues) -> Option<Storage> {
        issues.known_keys(at, fields, &KEYS);
        let id = issues.id(&at.key("id"), field(fields, "id"), ID_MAX);
        let mut flag = |key: &'static str| {
            given(fields, key, source).is_some_and(|raw| issues.boolean(&at.key(key), raw).unwrap_or_default())
        };
        let (public_read, versioning) = (flag("publicRead"), flag("versioning"));
        let at = at.key("lifecycleRules");
        let mut lifecycle_rules = Vec::new();
        if let Some(items) = given(fields, "lifecycleRules", source).and_then(|raw| issues.array(&at, raw)) {
            for (index, item) in items.iter().enumerate() {
                lifecycle_rules.extend(LifecycleRule::check(item, &at.index(index), issues));
            }
        }
        Some(Storage { id: id?.to_owned(), lifecycle_rules, public_read, versioning })
    }

    pub(super) fn write<M: SerializeMap>(&self, map: &mut M, with_id: bool) -> Result<(), M::Error> {
        if with_id {
            map.serialize_entry("id", &self.id)?;
        }
        map.serialize_entry("lifecycleRules", &self.lifecycle_rules)?;
        map.serialize_entry("publicRead", &self.public_read)?;
        map.serialize_entry("versioning", &self.versioning)
    }
}

impl LifecycleRule {
    fn check(raw: &Raw, at: &At, issues: &mut Issues) -> Option<LifecycleRule> {
        let fields = issues.object_of(at, raw, &["days", "prefix"])?;
        let days = match field(fields, "days") {
            Some(raw) => issues.integer(&at.key("days"), raw, 1, 36_500),
            None => {
                issues.missing(&at.key("days"));
                None
            }
        };
        let prefix = field(fields, "prefix").and_then(|raw| issues.text(&at.key("prefix"), raw));
        Some(LifecycleRule { days: days?, prefix: prefix.map(str::to_owned) })
    }
}

/// An optional field's value. A builder's method that was called with undefined did give one: a wrong one.
pub(super) fn given<'r>(fields: &'r [(String, Raw)], key: &str, source: Source) -> Option<&'r Raw> {
    fields
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, raw)| raw)
        .filter(|raw| source.builder || **raw != Raw::Undefined)
}
