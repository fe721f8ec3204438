//! Stacks that come from elsewhere. The builders' rules are proven from JavaScript, where the values come from.

use super::*;

const DAEMON: &str = r#"{"id":"d","type":"daemon","code":{"image":"i","type":"image"},"permissions":"p"}"#;

/// A stack of one entry, `d`, made of the given fields.
fn of(entry: &str) -> Result<Stack, crate::error::Report> {
    Stack::from_text(&format!(r#"{{"id":"s","resources":{{"d":{{{entry}}}}}}}"#))
}

/// The one message, with its path.
fn problem(result: Result<Stack, crate::error::Report>) -> String {
    let report = result.expect_err("an error");
    assert_eq!((report.code.as_str(), report.issues.len()), ("VALIDATION_ERROR", 1), "{report}");
    report.message.split_once("\n  ").expect("a list").1.to_owned()
}

#[test]
fn a_built_stack_is_read_and_written_unchanged() {
    let text = r#"{"id":"s","permissions":{"management":{"extend":{"*":["kv/heartbeat"]}},"profiles":{"z":{},"p":{"*":["kv/data-read"]}}},"resources":{"z":{"config":{"id":"z","type":"kv"},"dependencies":[],"lifecycle":"frozen","remoteAccess":true},"d":{"config":{"id":"d","type":"daemon","code":{"image":"i","type":"image"},"commandsEnabled":false,"environment":{},"links":[{"type":"kv","id":"z"}],"permissions":"p"},"dependencies":[{"type":"kv","id":"z"}],"lifecycle":"live"}},"supportedPlatforms":["local"]}"#;
    let stack = Stack::from_text(text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(serde_json::to_string(&stack).unwrap(), text);
    assert_eq!(stack.daemons().map(|daemon| daemon.id.as_str()).collect::<Vec<_>>(), ["d"]);
    assert_eq!(stack.daemon("d").unwrap().links[0].kind, ResourceType::Kv);
    assert!(stack.supports(Platform::Local) && !stack.supports(Platform::Kubernetes));
    let value = serde_json::from_str(text).unwrap();
    assert_eq!(Stack::from_json(&value).unwrap().resources.len(), 2);
}

#[test]
fn what_is_not_a_stack_is_said() {
    let message = "is not JSON: EOF while parsing an object at line 1 column 1";
    assert_eq!(problem(Stack::from_text("{")), message);
    assert_eq!(problem(Stack::from_text("[]")), "expected object, received array");
    assert_eq!(problem(Stack::from_text(r#"{"id":"s"}"#)), "resources: required, but not given");
    assert_eq!(problem(Stack::from_text(r#"{"id":"s","resources":{},"x":1}"#)), "unrecognized key \"x\"");
}

#[test]
fn resources_of_other_worlds_are_named() {
    let message = "resources.d.config.type: resources of type \"container\" are not supported here, expected \"daemon\", \"storage\", \"kv\", \"queue\" or \"vault\"";
    assert_eq!(problem(of(r#""config":{"id":"d","type":"container"},"lifecycle":"live""#)), message);
}

#[test]
fn an_entry_is_checked_whole() {
    assert_eq!(problem(of(r#""lifecycle":"live""#)), "resources.d.config: required, but not given");
    let entry = |more: &str| of(&format!(r#""config":{DAEMON},"lifecycle":"live"{more}"#));
    assert!(entry("").is_ok());
    assert_eq!(
        problem(entry(r#","dependencies":[{"type":"kv","id":"k"}]"#)),
        "resources.d.dependencies[0]: no resource \"k\" is in the stack (add the kv to the stack too)"
    );
    assert_eq!(problem(entry(r#","remoteAccess":1"#)), "resources.d.remoteAccess: expected boolean, received number");
    assert_eq!(problem(entry(r#","outputs":{}"#)), "resources.d: unrecognized key \"outputs\"");
    let other = DAEMON.replace(r#""id":"d""#, r#""id":"e""#);
    assert_eq!(
        problem(of(&format!(r#""config":{other},"lifecycle":"live""#))),
        "resources.d.config.id: is \"e\", but the stack holds it as \"d\""
    );
}

#[test]
fn every_problem_of_every_resource_is_in_the_one_error() {
    let broken = DAEMON.replace(r#""code""#, r#""commandsEnabled":0,"links":[{"type":"kv","id":"k"}],"code""#);
    let report = of(&format!(r#""config":{broken},"lifecycle":"frozen""#)).unwrap_err();
    assert_eq!(report.issues.len(), 3, "{report}");
    assert_eq!(report.context["stackId"], "s");
}

#[test]
fn a_value_of_the_environment_is_never_told() {
    let leaking =
        DAEMON.replace(r#""code""#, r#""environment":{"1":"hush","A":"hu\u0000sh","B":{"hush":"hush"}},"code""#);
    let report = of(&format!(r#""config":{leaking},"lifecycle":"live""#)).unwrap_err();
    assert_eq!(report.issues.len(), 3, "{report}");
    assert!(!serde_json::to_string(&report).unwrap().contains("hu"), "{report}");
}

#[test]
fn a_resource_twice_in_the_text_is_one_too_many() {
    let entry = format!(r#""d":{{"config":{DAEMON},"lifecycle":"live"}}"#);
    let result = Stack::from_text(&format!(r#"{{"id":"s","resources":{{{entry},{entry}}}}}"#));
    assert_eq!(problem(result), "resources.d: the stack holds it twice");
}

/// Documents made of the contract's own words, so that they get past the first rule.
fn documents() -> impl proptest::strategy::Strategy<Value = Raw> {
    use proptest::prelude::*;
    const WORDS: [&str; 30] = [
        "id",
        "type",
        "resources",
        "config",
        "lifecycle",
        "dependencies",
        "permissions",
        "profiles",
        "management",
        "extend",
        "supportedPlatforms",
        "local",
        "daemon",
        "kv",
        "d",
        "p",
        "live",
        "code",
        "image",
        "source",
        "src",
        "toolchain",
        "docker",
        "environment",
        "links",
        "cpu",
        "memory",
        "min",
        "desired",
        "*",
    ];
    let word = || proptest::sample::select(&WORDS[..]).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Raw::Undefined),
        Just(Raw::Null),
        any::<bool>().prop_map(Raw::Bool),
        (-1e12..1e12f64).prop_map(Raw::Number),
        word().prop_map(Raw::String),
        "\\PC{0,12}".prop_map(Raw::String),
        Just(Raw::Other("bigint".to_owned())),
    ];
    leaf.prop_recursive(6, 96, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Raw::Array),
            proptest::collection::vec((word(), inner), 0..8).prop_map(Raw::Object),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn no_document_makes_a_rule_panic(raw in documents(), field in 0..4usize) {
        let valid = Raw::from_text(&format!(
            r#"{{"id":"s","permissions":{{"profiles":{{"p":{{}}}}}},"resources":{{"d":{{"config":{DAEMON},"lifecycle":"live"}}}},"supportedPlatforms":["local"]}}"#
        )).unwrap();
        let Raw::Object(mut fields) = valid else { unreachable!() };
        fields[field].1 = raw.clone();
        for raw in [raw, Raw::Object(fields)] {
            match Stack::from_raw(&raw) {
                Ok(stack) => {
                    let text = serde_json::to_string(&stack).unwrap();
                    proptest::prop_assert_eq!(Stack::from_text(&text).unwrap(), stack);
                }
                Err(report) => proptest::prop_assert!(report.message.len() <= 16_384 && !report.issues.is_empty()),
            }
            let _ = Stack::build(&raw);
            let _ = Resource::build(ResourceType::Daemon, &raw);
            let _ = Resource::build(ResourceType::Storage, &raw);
        }
    }

    #[test]
    fn no_quantity_makes_the_reader_panic(text in "[0-9.]{0,30}[a-zA-Z0-9+-]{0,5}") {
        if let Ok(quantity) = Quantity::parse(&text) {
            proptest::prop_assert!(quantity.millis() >= quantity.bytes());
        }
    }
}
