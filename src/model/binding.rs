//! External bindings: where a linked resource is that the platform has none of.

use super::check::{At, Issues, any_of, field, quote, suggestion};
use super::dns;
use super::raw::Raw;
use super::resource::ResourceType;
use std::collections::BTreeMap;

/// External bindings by the id of their resource.
pub type Bindings = BTreeMap<String, ExternalBinding>;

/// Where a resource is. JSON: `{"type", "service", …fields}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalBinding {
    /// What it is a binding of.
    pub kind: ResourceType,
    /// The tag that the daemon tells bindings apart by, such as `s3`.
    pub service: String,
    /// Everything else, by name.
    pub fields: BTreeMap<String, BindingValue>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindingValue {
    Text(String),
    Integer(u32),
    /// A value that the platform keeps: the key of a Secret.
    SecretRef {
        name: String,
        key: String,
    },
}

/// A service that a resource may be found at: its tag, what it is one of, and its fields.
struct Service {
    tag: &'static str,
    kind: ResourceType,
    fields: &'static [Field],
}

/// A field's name, and whether it may be left out.
struct Field {
    name: &'static str,
    optional: bool,
    takes: Takes,
}

#[derive(Clone, Copy, PartialEq)]
enum Takes {
    /// A text, or the Secret that it is in.
    Text,
    /// A namespace; the daemon's rights are made from it, and so it must be known.
    Label,
    /// The beginning of Secrets' names, likewise.
    Subdomain,
    /// A whole number.
    Integer,
}

const fn text(name: &'static str) -> Field {
    field_of(name, false, Takes::Text)
}

const fn field_of(name: &'static str, optional: bool, takes: Takes) -> Field {
    Field { name, optional, takes }
}

const SERVICES: [Service; 14] = {
    use ResourceType::{Kv, Queue, Storage, Vault};
    const fn service(kind: ResourceType, tag: &'static str, fields: &'static [Field]) -> Service {
        Service { tag, kind, fields }
    }
    [
        service(Storage, "s3", &[text("bucketName")]),
        service(Storage, "blob", &[text("accountName"), text("containerName")]),
        service(Storage, "gcs", &[text("bucketName")]),
        service(Kv, "dynamodb", &[text("tableName"), text("region"), field_of("endpointUrl", true, Takes::Text)]),
        service(Kv, "firestore", &[text("projectId"), text("databaseId"), text("collectionName")]),
        service(Kv, "tablestorage", &[text("resourceGroupName"), text("accountName"), text("tableName")]),
        service(
            Kv,
            "redis",
            &[
                text("connectionUrl"),
                field_of("keyPrefix", true, Takes::Text),
                field_of("database", true, Takes::Integer),
            ],
        ),
        service(Queue, "sqs", &[text("queueUrl")]),
        service(Queue, "pubsub", &[text("topic"), text("subscription")]),
        service(Queue, "servicebus", &[text("namespace"), text("queueName")]),
        service(
            Vault,
            "kubernetes-secret",
            &[field_of("namespace", false, Takes::Label), field_of("vaultPrefix", false, Takes::Subdomain)],
        ),
        service(Vault, "parameter-store", &[text("vaultPrefix")]),
        service(Vault, "secret-manager", &[text("vaultPrefix")]),
        service(Vault, "key-vault", &[text("vaultName")]),
    ]
};

/// What can be bound: everything but daemons.
const KINDS: [ResourceType; 4] = [ResourceType::Storage, ResourceType::Kv, ResourceType::Queue, ResourceType::Vault];

/// Checks `{"<resource id>": {"type", "service", …}}`. No message ever holds a field's value: it may be a secret.
pub fn check(raw: &Raw, at: &At, issues: &mut Issues) -> Bindings {
    let mut bindings = Bindings::new();
    for (id, raw) in issues.object(at, raw).unwrap_or_default() {
        if let Some(binding) = check_one(raw, &at.key(id), issues) {
            bindings.insert(id.clone(), binding);
        }
    }
    bindings
}

fn check_one(raw: &Raw, at: &At, issues: &mut Issues) -> Option<ExternalBinding> {
    let given = issues.object(at, raw)?;
    let kind = check_kind(field(given, "type"), &at.key("type"), issues);
    let service = check_service(field(given, "service"), kind, &at.key("service"), issues)?;
    let names = service.fields.iter().map(|field| field.name);
    let known: Vec<&str> = ["type", "service"].into_iter().chain(names).collect();
    issues.known_keys(at, given, &known);
    let mut fields = BTreeMap::new();
    for Field { name, optional, takes } in service.fields {
        let at = at.key(name);
        match field(given, name) {
            Some(raw) => {
                fields.extend(check_value(raw, *takes, &at, issues).map(|value| ((*name).to_owned(), value)));
            }
            None if *optional => {}
            None => {
                issues.missing(&at).hint = Some(format!("{} needs it", service.tag));
            }
        }
    }
    Some(ExternalBinding { kind: kind?, service: service.tag.to_owned(), fields })
}

fn check_kind(raw: Option<&Raw>, at: &At, issues: &mut Issues) -> Option<ResourceType> {
    let names = KINDS.map(ResourceType::as_str);
    match raw {
        None => {
            issues.missing(at).hint = Some(format!("the type of the resource: {}", any_of(&names)));
            None
        }
        Some(Raw::String(text)) => {
            let kind = KINDS.into_iter().find(|kind| kind.as_str() == text);
            if kind.is_none() {
                issues.not_one_of(at, &names, text);
            }
            kind
        }
        Some(other) => {
            issues.wrong_type(at, &any_of(&names), other);
            None
        }
    }
}

/// The service; of any kind where the kind is not known, so that its fields can be checked all the same.
fn check_service(
    raw: Option<&Raw>,
    kind: Option<ResourceType>,
    at: &At,
    issues: &mut Issues,
) -> Option<&'static Service> {
    let of_kind = |service: &&Service| kind.is_none_or(|kind| service.kind == kind);
    let tags: Vec<&str> = SERVICES.iter().filter(of_kind).map(|service| service.tag).collect();
    let tag = match raw {
        None => {
            issues.missing(at).hint = Some(format!("where it is: {}", any_of(&tags)));
            return None;
        }
        Some(Raw::String(tag)) => tag,
        Some(other) => {
            issues.wrong_type(at, &any_of(&tags), other);
            return None;
        }
    };
    match (SERVICES.iter().find(|service| service.tag == tag), kind) {
        (Some(service), Some(kind)) if service.kind != kind => {
            let message = format!("{} is a {}, not a {kind}: expected {}", quote(tag), service.kind, any_of(&tags));
            issues.add(at, "invalid_value", message);
            None
        }
        (Some(service), _) => Some(service),
        (None, _) => {
            // Tags hold no secrets, and a near one of another kind is still what was meant.
            let near = suggestion(tag, SERVICES.iter().map(|service| service.tag));
            issues.add(at, "invalid_value", format!("expected {}, received {}{near}", any_of(&tags), quote(tag)));
            None
        }
    }
}

fn check_value(raw: &Raw, takes: Takes, at: &At, issues: &mut Issues) -> Option<BindingValue> {
    match (takes, raw) {
        (Takes::Integer, raw) => issues.integer(at, raw, 0, u32::MAX).map(BindingValue::Integer),
        (Takes::Text, Raw::Object(_)) => check_secret_ref(raw, at, issues),
        (Takes::Text, Raw::String(_)) => issues.text(at, raw).map(|text| BindingValue::Text(text.to_owned())),
        (Takes::Text, other) => {
            issues.wrong_type(at, "string or {secretRef: {name, key}}", other);
            None
        }
        (Takes::Label, raw) => check_name(raw, dns::is_label, dns::LABEL, at, issues),
        (Takes::Subdomain, raw) => check_name(raw, dns::is_subdomain, dns::SUBDOMAIN, at, issues),
    }
}

fn check_name(raw: &Raw, legal: fn(&str) -> bool, what: &str, at: &At, issues: &mut Issues) -> Option<BindingValue> {
    let text = issues.text(at, raw)?;
    if legal(text) {
        return Some(BindingValue::Text(text.to_owned()));
    }
    issues.add(at, "invalid_value", format!("expected {what}, received {}", quote(text)));
    None
}

/// `{"secretRef": {"name", "key"}}`.
fn check_secret_ref(raw: &Raw, at: &At, issues: &mut Issues) -> Option<BindingValue> {
    let fields = issues.object_of(at, raw, &["secretRef"])?;
    let at = at.key("secretRef");
    let Some(raw) = field(fields, "secretRef") else {
        issues.missing(&at).hint = Some("a field is a string or {secretRef: {name, key}}".to_owned());
        return None;
    };
    let fields = issues.object_of(&at, raw, &["name", "key"])?;
    let (name, key) = (issues.required_text(fields, "name", &at), issues.required_text(fields, "key", &at));
    if let Some(name) = name.filter(|name| !dns::is_subdomain(name)) {
        let message = format!("expected the name of a Secret, {}, received {}", dns::SUBDOMAIN, quote(name));
        issues.add(&at.key("name"), "invalid_value", message);
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if let Some(key) = key.filter(|key| !key.bytes().all(legal) || key.len() > 253) {
        let expected = "expected the key of a Secret, at most 253 letters, digits, -, _ and .";
        issues.add(&at.key("key"), "invalid_value", format!("{expected}, received {}", quote(key)));
    }
    Some(BindingValue::SecretRef { name: name?.to_owned(), key: key?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> (Bindings, Vec<String>) {
        let mut issues = Issues::default();
        let bindings = check(&Raw::from_text(json).unwrap(), &At::ROOT, &mut issues);
        let line = |issue: crate::error::Issue| {
            let path: Vec<String> = issue.path.iter().map(|part| serde_json::to_string(part).unwrap()).collect();
            let hint = issue.hint.map_or_else(String::new, |hint| format!(" ({hint})"));
            format!("{}: {}{hint}", path.join(".").replace('"', ""), issue.message)
        };
        (bindings, issues.0.into_iter().map(line).collect())
    }

    #[test]
    fn a_binding_is_its_service_and_its_fields() {
        let (bindings, issues) = checked(
            r#"{"cache": {"type": "kv", "service": "redis", "database": 2, "keyPrefix": "a:",
                "connectionUrl": {"secretRef": {"name": "redis.prod", "key": "url"}}}}"#,
        );
        assert_eq!(issues, Vec::<String>::new());
        let cache = &bindings["cache"];
        assert_eq!((cache.kind, cache.service.as_str()), (ResourceType::Kv, "redis"));
        assert_eq!(cache.fields["database"], BindingValue::Integer(2));
        assert_eq!(cache.fields["keyPrefix"], BindingValue::Text("a:".to_owned()));
        let reference = BindingValue::SecretRef { name: "redis.prod".to_owned(), key: "url".to_owned() };
        assert_eq!(cache.fields["connectionUrl"], reference);
    }

    #[test]
    fn every_service_takes_just_its_own_fields() {
        for service in &SERVICES {
            let value = |field: &Field| if field.takes == Takes::Integer { "1" } else { r#""v""# };
            let fields: Vec<String> =
                service.fields.iter().map(|field| format!(r#","{}":{}"#, field.name, value(field))).collect();
            let head = format!(r#"{{"r":{{"type":"{}","service":"{}""#, service.kind, service.tag);
            let (bindings, issues) = checked(&format!("{head}{}}}}}", fields.concat()));
            assert_eq!(issues, Vec::<String>::new(), "{}", service.tag);
            assert_eq!(bindings["r"].fields.len(), service.fields.len());
            let needed = service.fields.iter().filter(|field| !field.optional).count();
            assert_eq!(checked(&format!("{head}}}}}")).1.len(), needed, "{}", service.tag);
        }
    }

    #[test]
    fn every_problem_is_named_at_once_and_no_value_is() {
        let (_, issues) = checked(
            r#"{"a": {"type": "storage", "service": "s3", "bucketname": "x", "region": "y"},
                "b": {"type": "stroage", "service": "s3", "bucketName": 5},
                "c": {"type": "queue", "service": "s3"},
                "d": {"type": "kv", "service": "reddis", "connectionUrl": "redis://:hush@h"},
                "e": {"service": "sqs", "queueUrl": {"secretref": {}}},
                "f": {"type": "kv"},
                "g": {"type": "daemon", "service": 1},
                "h": {"type": "kv", "service": "redis", "connectionUrl": "", "database": -1},
                "i": {"type": "queue", "service": "sqs", "queueUrl": {"secretRef": {"name": "A b", "key": "é", "x": 1}}},
                "j": {"type": "vault", "service": "kubernetes-secret", "namespace": {"secretRef": {}}, "vaultPrefix": "A"},
                "k": 1}"#,
        );
        let expected = [
            r#"a: unrecognized key "bucketname"; did you mean "bucketName"?"#,
            r#"a: unrecognized key "region""#,
            "a.bucketName: required, but not given (s3 needs it)",
            r#"b.type: expected "storage", "kv", "queue" or "vault", received "stroage"; did you mean "storage"?"#,
            "b.bucketName: expected string or {secretRef: {name, key}}, received number",
            r#"c.service: "s3" is a storage, not a queue: expected "sqs", "pubsub" or "servicebus""#,
            r#"d.service: expected "dynamodb", "firestore", "tablestorage" or "redis", received "reddis"; did you mean "redis"?"#,
            r#"e.type: required, but not given (the type of the resource: "storage", "kv", "queue" or "vault")"#,
            r#"e.queueUrl: unrecognized key "secretref"; did you mean "secretRef"?"#,
            "e.queueUrl.secretRef: required, but not given (a field is a string or {secretRef: {name, key}})",
            r#"f.service: required, but not given (where it is: "dynamodb", "firestore", "tablestorage" or "redis")"#,
            r#"g.type: expected "storage", "kv", "queue" or "vault", received "daemon""#,
        ];
        assert_eq!(issues[..expected.len()], expected);
        let rest = issues[expected.len()..].join("\n");
        assert!(rest.contains("g.service: expected \"s3\"") && rest.contains("k: expected object, received number"));
        assert!(
            rest.contains("h.connectionUrl: expected at least 1 character") && rest.contains("h.database: expected")
        );
        assert!(rest.contains("i.queueUrl.secretRef: unrecognized key \"x\""), "{rest}");
        assert!(rest.contains("i.queueUrl.secretRef.name: expected the name of a Secret"), "{rest}");
        assert!(rest.contains("i.queueUrl.secretRef.key: expected the key of a Secret"), "{rest}");
        assert!(rest.contains("j.namespace: expected string, received object"), "{rest}");
        assert!(rest.contains("j.vaultPrefix: expected at most 253 lower-case letters"), "{rest}");
        assert!(!issues.concat().contains("hush"), "{issues:?}");
    }
}
