//! Does anything run this stack on this platform, and is it meant to.

use super::{Rule, Status, Subject};
use crate::error::Issue;
use crate::model::Platform;

pub(super) const SUPPORTED: Rule = Rule {
    id: "platform-supported",
    description: "The platform can run what the stack holds",
    on_issue: Status::Failed,
    run: supported,
};

pub(super) const LISTED: Rule = Rule {
    id: "platform-listed",
    description: "The stack lists the platform, or lists none",
    on_issue: Status::Failed,
    run: listed,
};

fn supported(subject: &Subject) -> Option<Vec<Issue>> {
    let platform = subject.platform;
    let daemons: Vec<&str> = subject.stack.daemons().map(|daemon| daemon.id.as_str()).collect();
    let message = match platform {
        Platform::Local | Platform::Kubernetes => return Some(Vec::new()),
        Platform::Test => {
            "The test platform runs nothing: a stack can be built and checked for it, not deployed".to_owned()
        }
        // The documented words.
        _ if !daemons.is_empty() => format!(
            "Daemon resources are only supported on Local and Kubernetes. Unsupported daemon resources for {platform}: {}",
            daemons.join(", ")
        ),
        _ => format!("Stacks are deployed to Local and Kubernetes only, not to {platform}"),
    };
    let hint = match platform {
        Platform::Test => "deploy to local: it needs no container engine, and destroy leaves nothing behind",
        _ => "deploy to local or kubernetes",
    };
    Some(vec![Issue::new(vec!["resources".into()], "custom", message).hint(hint)])
}

fn listed(subject: &Subject) -> Option<Vec<Issue>> {
    let (stack, platform) = (subject.stack, subject.platform);
    if stack.supports(platform) {
        return Some(Vec::new());
    }
    let listed: Vec<&str> = stack.supported_platforms.iter().flatten().map(|platform| platform.as_str()).collect();
    let message = format!("The stack does not list {platform}, only {}", listed.join(", "));
    let hint = format!("add \"{platform}\" to .platforms([…])");
    Some(vec![Issue::new(vec!["supportedPlatforms".into()], "custom", message).hint(hint)])
}
