//! The plan: what differs, field by field, and what will be done about it. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A resource as it should be.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Its id in the stack.
    pub id: String,
    /// `daemon`, `storage`, …
    pub kind: &'static str,
    /// Everything that a change of matters.
    pub fields: Fields,
}

/// A resource as it is.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Its id in the stack that made it.
    pub id: String,
    /// `daemon`, `storage`, …
    pub kind: String,
    /// The fields that it was made with.
    pub fields: Fields,
    /// Why it should be started again though nothing of its fields has changed.
    pub unhealthy: Option<String>,
}

/// What will be done, in the order of the stack; removals last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// One for each resource that is declared or there.
    pub changes: Vec<Change>,
}

/// What will be done about one resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its id.
    pub id: String,
    /// `daemon`, `storage`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// What will be done.
    pub action: Action,
    /// What differs; empty where nothing does.
    pub fields: Vec<FieldChange>,
    /// Why, in a few words.
    pub reason: String,
}

/// What can be done about a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is not there.
    Create,
    /// It is there and differs.
    Update,
    /// It is as it should be, but not up.
    Restart,
    /// It is there and not declared.
    Delete,
    /// It is as it should be.
    None,
}

/// One difference. Values are JSON; `null` means that there is none. Secrets read `(secret)`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// `environment.LOG_LEVEL`, `image.digest`.
    pub path: String,
    pub from: Value,
    pub to: Value,
}

/// The fields of a resource by their path.
pub type Fields = BTreeMap<String, Field>;

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Any JSON value.
    pub value: Value,
    /// Whether it must not be shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

impl Field {
    /// A value that may be shown.
    pub fn shown(value: impl Into<Value>) -> Self {
        Field { value: value.into(), secret: false }
    }

    /// A value that must not be shown.
    pub fn secret(value: impl Into<Value>) -> Self {
        Field { value: value.into(), secret: true }
    }

    /// The value for people's eyes.
    fn display(&self) -> Value {
        if self.secret { Value::from("(secret)") } else { self.value.clone() }
    }
}

/// Whether an environment variable's value is better not shown, going by its name.
pub fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = ["SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "TOKEN", "CREDENTIAL", "PRIVATE", "APIKEY", "API_KEY"];
    words.iter().any(|word| name.contains(word))
        || name.split('_').any(|part| matches!(part, "KEY" | "PASS" | "PWD" | "DSN" | "AUTH"))
}

impl Plan {
    /// Compares. `desired` is in the order of the stack.
    pub fn new(desired: &[Desired], observed: &[Observed]) -> Plan {
        let mut changes: Vec<Change> = desired
            .iter()
            .map(|desired| match observed.iter().find(|observed| observed.id == desired.id) {
                None => {
                    let fields = differences(&Fields::new(), &desired.fields);
                    change(&desired.id, desired.kind, Action::Create, fields, "it does not exist yet".to_owned())
                }
                Some(observed) => compare(desired, observed),
            })
            .collect();
        let gone = observed.iter().filter(|observed| !desired.iter().any(|desired| desired.id == observed.id));
        changes.extend(gone.map(|observed| {
            change(
                &observed.id,
                &observed.kind,
                Action::Delete,
                Vec::new(),
                "it is not in the stack any more".to_owned(),
            )
        }));
        Plan { changes }
    }

    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| change.action == Action::None)
    }
}

fn compare(desired: &Desired, observed: &Observed) -> Change {
    let fields = differences(&observed.fields, &desired.fields);
    let (action, reason) = match (fields.as_slice(), &observed.unhealthy) {
        ([], None) => (Action::None, "nothing has changed".to_owned()),
        ([], Some(why)) => (Action::Restart, why.clone()),
        (fields, _) => {
            let paths: Vec<&str> = fields.iter().map(|field| field.path.as_str()).collect();
            let (verb, first) = (if paths.len() == 1 { "has" } else { "have" }, paths.iter().take(3).copied());
            let more = if paths.len() > 3 { format!(" and {} more", paths.len() - 3) } else { String::new() };
            (Action::Update, format!("{}{more} {verb} changed", first.collect::<Vec<_>>().join(", ")))
        }
    };
    change(&desired.id, desired.kind, action, fields, reason)
}

fn change(id: &str, kind: &str, action: Action, fields: Vec<FieldChange>, reason: String) -> Change {
    Change { id: id.to_owned(), kind: kind.to_owned(), action, fields, reason }
}

/// What differs, by path. A field that became a secret, or ceased to be one, differs too.
fn differences(from: &Fields, to: &Fields) -> Vec<FieldChange> {
    let mut paths: Vec<&String> = from.keys().chain(to.keys()).collect();
    paths.sort();
    paths.dedup();
    let shown = |field: Option<&Field>| field.map_or(Value::Null, Field::display);
    paths
        .into_iter()
        .filter(|path| from.get(*path) != to.get(*path))
        .map(|path| FieldChange { path: path.clone(), from: shown(from.get(path)), to: shown(to.get(path)) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, Field)]) -> Fields {
        list.iter().map(|(path, field)| ((*path).to_owned(), field.clone())).collect()
    }

    fn desired(id: &str, fields: Fields) -> Desired {
        Desired { id: id.to_owned(), kind: "daemon", fields }
    }

    fn observed(id: &str, fields: Fields, unhealthy: Option<&str>) -> Observed {
        Observed { id: id.to_owned(), kind: "daemon".to_owned(), fields, unhealthy: unhealthy.map(str::to_owned) }
    }

    #[test]
    fn each_difference_is_named_and_secrets_are_masked() {
        let old = fields(&[("a", Field::shown("1")), ("gone", Field::shown(2)), ("s", Field::secret("old"))]);
        let new = fields(&[("a", Field::shown("2")), ("s", Field::secret("new")), ("same", Field::shown(true))]);
        let plan = Plan::new(&[desired("d", new)], &[observed("d", old, None)]);
        let change = &plan.changes[0];
        assert_eq!(change.action, Action::Update);
        assert_eq!(change.reason, "a, gone, s and 1 more have changed");
        let shown: Vec<String> = change.fields.iter().map(|f| format!("{} {} {}", f.path, f.from, f.to)).collect();
        assert_eq!(shown, ["a \"1\" \"2\"", "gone 2 null", "s \"(secret)\" \"(secret)\"", "same null true"]);
        assert!(!serde_json::to_string(&plan).unwrap().contains("old"));
    }

    #[test]
    fn what_is_equal_is_left_alone_unless_it_is_not_up() {
        let same = || fields(&[("a", Field::shown("1"))]);
        let plan = Plan::new(
            &[desired("ok", same()), desired("down", same()), desired("new", same())],
            &[
                observed("ok", same(), None),
                observed("down", same(), Some("it is down")),
                observed("old", same(), None),
            ],
        );
        let actions: Vec<_> = plan.changes.iter().map(|change| (change.id.as_str(), change.action)).collect();
        let expected =
            [("ok", Action::None), ("down", Action::Restart), ("new", Action::Create), ("old", Action::Delete)];
        assert_eq!(actions, expected);
        assert!(!plan.is_empty());
    }

    #[test]
    fn names_that_sound_secret_do() {
        for name in ["DB_PASSWORD", "API_KEY", "GITHUB_TOKEN", "aws_secret", "SSH_PRIVATE", "KEY", "DB_DSN"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["LOG_LEVEL", "KEYBOARD", "MONKEY", "PORT", "AUTHOR"] {
            assert!(!sounds_secret(name), "{name}");
        }
    }
}
