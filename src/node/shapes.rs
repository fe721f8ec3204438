//! The shapes that are written down for TypeScript, held against what is really answered.

use super::{daemon, deployment, preflight, resources, stack};
use crate::engine::event::{Event, ImagePhase};
use crate::engine::logs::Line;
use crate::engine::plan::{Action, Desired, Field, Fields, Observed, Plan};
use crate::engine::status::{Condition, DeploymentStatus, ExitStatus, Limits, Notice, ResourceStatus, State, Usage};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Reads an answer as a shape that allows no other keys.
fn has_shape<T: DeserializeOwned>(answer: &str) -> serde_json::Value {
    let ok =
        answer.strip_prefix(r#"{"ok":"#).and_then(|rest| rest.strip_suffix('}')).unwrap_or_else(|| panic!("{answer}"));
    serde_json::from_str::<T>(ok).unwrap_or_else(|error| panic!("{error}: {ok}"));
    serde_json::from_str(ok).unwrap()
}

fn as_shape<T: DeserializeOwned>(value: &serde_json::Value) {
    serde_json::from_value::<T>(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
}

const FULL: &str = r#"{"id":"d","code":{"type":"image","image":"i"},"command":["a"],"commandsEnabled":true,"cpu":1,
    "environment":{"A":"b"},"links":[{"type":"kv","id":"k"}],"memory":"1Gi","permissions":"p","stopGracePeriodSeconds":5}"#;

#[test]
fn resources_have_the_shapes_that_are_declared() {
    let config = has_shape::<daemon::DaemonConfig>(&daemon::build_daemon(FULL.to_owned()));
    as_shape::<daemon::ImageCode>(&config["code"]);
    let storage = r#"{"id":"s","lifecycleRules":[{"days":1,"prefix":"p"}],"publicRead":true,"versioning":true}"#;
    has_shape::<resources::StorageConfig>(&resources::build_storage(storage.to_owned()));
    has_shape::<resources::KvConfig>(&resources::build_kv(r#"{"id":"a"}"#.to_owned()));
    has_shape::<resources::QueueConfig>(&resources::build_queue(r#"{"id":"a"}"#.to_owned()));
    has_shape::<resources::VaultConfig>(&resources::build_vault(r#"{"id":"a"}"#.to_owned()));
    for (toolchain, check) in [
        (r#"{"type":"rust","binaryName":"b"}"#, as_shape::<daemon::RustToolchain> as fn(&serde_json::Value)),
        (r#"{"type":"typescript","binaryName":"b"}"#, as_shape::<daemon::TypescriptToolchain>),
        (
            r#"{"type":"docker","dockerfile":"f","target":"t","buildArgs":{"a":"b"}}"#,
            as_shape::<daemon::DockerToolchain>,
        ),
    ] {
        let code =
            format!(r#"{{"id":"d","permissions":"p","code":{{"type":"source","src":".","toolchain":{toolchain}}}}}"#);
        let config = has_shape::<daemon::DaemonConfig>(&daemon::build_daemon(code));
        as_shape::<daemon::SourceCode>(&config["code"]);
        check(&config["code"]["toolchain"]);
    }
}

#[test]
fn stacks_and_reports_have_the_shapes_that_are_declared() {
    let inline = r#"{"id":"x","description":"y","platforms":{"aws":{}}}"#;
    let draft = format!(
        r#"{{"id":"s","permissions":{{"management":"auto","profiles":{{"p":{{"*":[{inline}]}}}}}},"supportedPlatforms":["local"],
            "add":[{{"resource":{{"config":{{"type":"kv","id":"k"}}}},"lifecycle":"frozen","options":{{"remoteAccess":true}}}}]}}"#
    );
    let built = has_shape::<stack::StackConfig>(&stack::build_stack(draft));
    as_shape::<stack::InlinePermissionSet>(&built["permissions"]["profiles"]["p"]["*"][0]);
    let request = format!(r#"{{"stack":{built},"options":{{"platform":"aws"}}}}"#);
    has_shape::<preflight::PreflightReport>(&preflight::preflight(request));
}

fn full_plan() -> Plan {
    let fields = |value: &str| Fields::from([("digest".to_owned(), Field::shown(value))]);
    let desired = Desired { id: "d".to_owned(), kind: "daemon", fields: fields("new") };
    let observed = Observed { id: "d".to_owned(), kind: "daemon".to_owned(), fields: fields("old"), unhealthy: None };
    Plan::new(&[desired], &[observed])
}

#[test]
fn plans_status_and_lines_have_the_shapes_that_are_declared() {
    as_shape::<deployment::Plan>(&json!(full_plan()));
    let text = || Some("t".to_owned());
    let resource = ResourceStatus {
        id: "d".to_owned(),
        kind: "daemon".to_owned(),
        lifecycle: "live".to_owned(),
        state: State::CrashLooping,
        image: text(),
        digest: text(),
        pid: Some(1),
        pod: text(),
        node: text(),
        started_at: text(),
        restarts: 2,
        last_exit: Some(ExitStatus { code: Some(1), signal: text(), oom: false, at: "t".to_owned() }),
        next_start_at: text(),
        limits: Limits::new(Some(500), Some(1024)),
        usage: Some(Usage { cpu_cores: 0.5, cpu_seconds: 1.0, memory_bytes: 1024 }),
        conditions: vec![Condition::new("Ready", false, "CrashLooping", "m").since("t")],
        events: vec![Notice { reason: "BackOff".to_owned(), message: "m".to_owned(), count: 3, at: "t".to_owned() }],
    };
    let status = DeploymentStatus {
        name: "n".to_owned(),
        platform: "local",
        stack_id: "s".to_owned(),
        resources: vec![resource],
    };
    as_shape::<deployment::DeploymentStatus>(&json!(status));
    let line = Line { time: "t".to_owned(), stream: "stdout".to_owned(), line: "l".to_owned(), partial: true };
    as_shape::<deployment::LogLine>(&json!(line));
}

#[test]
fn events_have_the_shapes_that_are_declared() {
    let (id, text) = (|| "d".to_owned(), || Some("t".to_owned()));
    let report = serde_json::from_str::<serde_json::Value>(&preflight::preflight(
        r#"{"stack":{"id":"s","resources":{}},"options":{"platform":"local"}}"#.to_owned(),
    ))
    .unwrap();
    as_shape::<preflight::PreflightReport>(&report["ok"]);
    as_shape::<deployment::PreflightEvent>(&json!({"type": "preflight", "report": report["ok"]}));
    as_shape::<deployment::WaitingEvent>(&json!(Event::Waiting { message: id() }));
    as_shape::<deployment::PlanEvent>(&json!(Event::Plan { plan: full_plan() }));
    let phase = ImagePhase::Downloading;
    let image = Event::Image {
        id: id(),
        image: id(),
        phase,
        digest: text(),
        bytes: Some(1),
        total_bytes: Some(2),
        message: text(),
    };
    as_shape::<deployment::ImageEvent>(&json!(image));
    let resource = Event::Resource { id: id(), action: Action::Create, state: "running", message: text() };
    as_shape::<deployment::ResourceEvent>(&json!(resource));
}
