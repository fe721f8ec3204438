//! Each check with the smallest stack that trips it.

use super::*;
use crate::model::names::kubernetes_name;

fn stack(daemons: &str, rest: &str) -> Stack {
    Stack::from_text(&format!(r#"{{"id":"s","resources":{{{daemons}}}{rest}}}"#))
        .unwrap_or_else(|report| panic!("{report}"))
}

/// A daemon's entry, with more fields of its own.
fn daemon(id: &str, more: &str) -> String {
    format!(
        r#""{id}":{{"lifecycle":"live","config":{{"id":"{id}","type":"daemon","code":{{"type":"image","image":"i"}},"permissions":"p"{more}}}}}"#
    )
}

fn resource(id: &str, kind: &str) -> String {
    format!(r#""{id}":{{"lifecycle":"frozen","config":{{"id":"{id}","type":"{kind}"}}}}"#)
}

/// Status and messages of one check.
fn outcome(report: &Report, id: &str) -> (Status, Vec<String>) {
    let check = report.checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no check {id}"));
    (check.status, check.issues.iter().map(|issue| issue.message.clone()).collect())
}

fn failed(message: &str) -> (Status, Vec<String>) {
    (Status::Failed, vec![message.to_owned()])
}

/// Bindings as `preflight` and `deploy` take them.
fn given(json: &str) -> Given {
    let options = crate::model::Raw::from_text(&format!(r#"{{"platform":"local","bindings":{json}}}"#)).unwrap();
    Options::check(&options).unwrap_or_else(|report| panic!("{report}")).given
}

const PASSED: (Status, Vec<String>) = (Status::Passed, Vec::new());
const SKIPPED: (Status, Vec<String>) = (Status::Skipped, Vec::new());

#[test]
fn clouds_are_refused_in_the_documented_words() {
    let stack = stack(&[daemon("a", ""), daemon("b", "")].join(","), "");
    for platform in [Platform::Aws, Platform::Gcp, Platform::Azure] {
        let report = run(&stack, platform);
        assert!(!report.ok);
        let message = format!(
            "Daemon resources are only supported on Local and Kubernetes. Unsupported daemon resources for {platform}: a, b"
        );
        assert_eq!(outcome(&report, "platform-supported"), failed(&message));
        assert_eq!(outcome(&report, "links-can-be-bound"), SKIPPED);
    }
    assert!(run(&stack, Platform::Local).ok && run(&stack, Platform::Kubernetes).ok);
    let message = "The test platform runs nothing: a stack can be built and checked for it, not deployed";
    assert_eq!(outcome(&run(&stack, Platform::Test), "platform-supported"), failed(message));
}

#[test]
fn a_cloud_without_daemons_is_refused_too() {
    let report = run(&stack("", ""), Platform::Aws);
    let message = "Stacks are deployed to Local and Kubernetes only, not to aws";
    assert_eq!(outcome(&report, "platform-supported"), failed(message));
}

#[test]
fn a_platform_that_is_not_listed_fails() {
    let stack = stack("", r#","supportedPlatforms":["local","test"]"#);
    let message = "The stack does not list kubernetes, only local, test";
    assert_eq!(outcome(&run(&stack, Platform::Kubernetes), "platform-listed"), failed(message));
    assert_eq!(outcome(&run(&stack, Platform::Local), "platform-listed"), PASSED);
}

#[test]
fn source_fails_with_the_path_of_the_code() {
    let entry = daemon("a", "").replace(
        r#"{"type":"image","image":"i"}"#,
        r#"{"type":"source","src":".","toolchain":{"type":"rust","binaryName":"b"}}"#,
    );
    let report = run(&stack(&entry, ""), Platform::Local);
    let message = "Local and Kubernetes run images; source is not built yet";
    assert_eq!(outcome(&report, "code-is-image"), failed(message));
    let path = &report.checks[2].issues[0].path;
    assert_eq!(serde_json::to_string(path).unwrap(), r#"["resources","a","config","code","type"]"#);
}

#[test]
fn images_that_the_platform_cannot_read_fail_with_the_command_that_helps() {
    let with = |image: &str| stack(&daemon("a", "").replace(r#""image":"i""#, &format!(r#""image":"{image}""#)), "");
    let check = |image: &str, platform| {
        let report = run(&with(image), platform);
        let issue = report.checks.into_iter().find(|check| check.id == "image-transport").unwrap().issues.pop();
        issue.map(|issue| (issue.message, issue.hint.unwrap()))
    };
    let pair = |message: &str, hint: &str| Some((message.to_owned(), hint.to_owned()));
    assert_eq!(
        check("oci:./img", Platform::Kubernetes),
        pair(
            "oci:./img is on this machine only, where no cluster can pull it from",
            "push it, and use that name: skopeo copy oci:./img docker://REGISTRY/NAME:TAG"
        )
    );
    for image in ["docker-archive:a.tar:b:1", "docker-daemon:nginx:1", "oci-archive:a.tar"] {
        assert_eq!(check(image, Platform::Local), None);
        assert!(check(image, Platform::Kubernetes).is_some_and(|(message, _)| message.contains("this machine only")));
    }
    assert_eq!(check("oci:./img", Platform::Local), None);
    assert_eq!(check("ghcr.io/a/b:1", Platform::Kubernetes), None);
}

#[test]
fn cycles_are_named_from_end_to_end() {
    let link = |id: &str| format!(r#","links":[{{"type":"daemon","id":"{id}"}}]"#);
    let looped = stack(&[daemon("a", &link("b")), daemon("b", &link("c")), daemon("c", &link("a"))].join(","), "");
    assert_eq!(outcome(&run(&looped, Platform::Local), "no-cycles"), failed("a needs itself: a → b → c → a"));
    let chain = stack(&[daemon("a", &link("b")), daemon("b", "")].join(","), "");
    assert_eq!(outcome(&run(&chain, Platform::Local), "no-cycles"), PASSED);
}

#[test]
fn a_chain_of_ten_thousand_does_not_overflow_the_stack() {
    let link = |n: usize| format!(r#","links":[{{"type":"daemon","id":"d{n}"}}]"#);
    let mut daemons: Vec<String> = (0..10_000).map(|n| daemon(&format!("d{n}"), &link(n + 1))).collect();
    daemons.push(daemon("d10000", ""));
    assert_eq!(outcome(&run(&stack(&daemons.join(","), ""), Platform::Local), "no-cycles"), PASSED);
}

#[test]
fn what_cannot_be_bound_fails_by_name() {
    let link = |kind: &str, id: &str| format!(r#","links":[{{"type":"{kind}","id":"{id}"}}]"#);
    let bucket = stack(&[daemon("d", &link("storage", "b")), resource("b", "storage")].join(","), "");
    let message = "the storage \"b\" has no binding: Kubernetes has none of its own";
    assert_eq!(outcome(&run(&bucket, Platform::Kubernetes), "links-can-be-bound"), failed(message));
    assert_eq!(outcome(&run(&bucket, Platform::Local), "links-can-be-bound"), PASSED);
    let given = given(r#"{"b":{"type":"storage","service":"s3","bucketName":"n"}}"#);
    assert_eq!(outcome(&run_with(&bucket, Platform::Kubernetes, &given), "links-can-be-bound"), PASSED);

    let vault = stack(&[daemon("d", &link("vault", "v")), resource("v", "vault")].join(","), "");
    assert_eq!(outcome(&run(&vault, Platform::Kubernetes), "links-can-be-bound"), PASSED);

    let peer = stack(&[daemon("d", &link("daemon", "e")), daemon("e", "")].join(","), "");
    let message = "\"e\" is a daemon, and a daemon has nothing to bind: it has no address";
    assert_eq!(outcome(&run(&peer, Platform::Local), "links-can-be-bound"), failed(message));
}

#[test]
fn a_binding_that_nothing_takes_fails() {
    let bucket = stack(&[daemon("d", ""), resource("bucket", "storage")].join(","), "");
    let with = |id: &str| given(&format!(r#"{{"{id}":{{"type":"storage","service":"gcs","bucketName":"n"}}}}"#));
    let check = |id, platform| outcome(&run_with(&bucket, platform, &with(id)), "bindings-are-used");
    let kubernetes = Platform::Kubernetes;
    assert_eq!(check("bukcet", kubernetes), failed("no resource \"bukcet\" is in the stack; did you mean \"bucket\"?"));
    assert_eq!(check("d", kubernetes), failed("\"d\" is a daemon, which takes no binding"));
    assert_eq!(check("bucket", kubernetes), PASSED);
    let message = "\"bucket\" is bound by Local itself, which takes no external bindings";
    assert_eq!(check("bucket", Platform::Local), failed(message));
    assert_eq!(outcome(&run(&bucket, kubernetes), "bindings-are-used"), SKIPPED);
    let queue = given(r#"{"bucket":{"type":"queue","service":"sqs","queueUrl":"u"}}"#);
    let message = "\"bucket\" is a storage, and its binding says queue (sqs)";
    assert_eq!(outcome(&run_with(&bucket, kubernetes, &queue), "bindings-are-used"), failed(message));
}

#[test]
fn two_links_in_one_variable_fail() {
    let links = r#","links":[{"type":"kv","id":"a-b"},{"type":"kv","id":"a_b"}]"#;
    let entries = [daemon("d", links), resource("a-b", "kv"), resource("a_b", "kv")].join(",");
    let message = "\"a-b\" and \"a_b\" would both arrive in ALIEN_A_B_BINDING";
    assert_eq!(outcome(&run(&stack(&entries, ""), Platform::Local), "binding-variables-distinct"), failed(message));
}

#[test]
fn two_ids_of_one_kubernetes_name_fail() {
    // Two long ids with one beginning, and one hash of 32 bits: among so many there are some (birthday problem).
    let mut seen = std::collections::HashMap::new();
    let ids = (0..400_000).map(|number| format!("{}{number}", "x".repeat(56)));
    let (name, first, second) = ids
        .into_iter()
        .find_map(|id| {
            let name = kubernetes_name("s", &id);
            seen.insert(name.clone(), id.clone()).map(|first| (name, first, id))
        })
        .expect("a collision");
    let stack = stack(&[daemon(&first, ""), daemon(&second, "")].join(","), "");
    let message = format!("\"{first}\" and \"{second}\" would both be called {name} in the cluster");
    assert_eq!(outcome(&run(&stack, Platform::Kubernetes), "kubernetes-names-distinct"), failed(&message));
    assert_eq!(outcome(&run(&stack, Platform::Local), "kubernetes-names-distinct"), SKIPPED);
}

#[test]
fn the_report_is_the_contract() {
    let report = run(&stack("", ""), Platform::Local);
    let json = serde_json::to_string(&report).unwrap();
    let start = r#"{"platform":"local","ok":true,"checks":[{"id":"platform-supported","description":"The platform can run what the stack holds","status":"passed","issues":[]},"#;
    assert!(json.starts_with(start), "{json}");
}
