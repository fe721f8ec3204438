//! Can the platform get at each daemon's program.

use super::{Rule, Status, Subject, at_daemon};
use crate::error::Issue;
use crate::model::{Code, Daemon, ImageReference, Platform};

pub(super) const IS_IMAGE: Rule = Rule {
    id: "code-is-image",
    description: "Every daemon's code is an image",
    on_issue: Status::Failed,
    run: is_image,
};

pub(super) const TRANSPORT: Rule = Rule {
    id: "image-transport",
    description: "Every image can be read from the platform",
    on_issue: Status::Failed,
    run: transport,
};

fn is_image(subject: &Subject) -> Option<Vec<Issue>> {
    let source = |daemon: &&Daemon| matches!(daemon.code, Code::Source { .. });
    let issue = |daemon: &Daemon| {
        at_daemon(daemon, &["code".into(), "type".into()], "Local and Kubernetes run images; source is not built yet")
            .hint("build an image and give it as { type: \"image\", image }")
    };
    subject.can_run().then(|| subject.stack.daemons().filter(source).map(issue).collect())
}

fn transport(subject: &Subject) -> Option<Vec<Issue>> {
    let issue = |daemon: &Daemon| {
        let Code::Image { image } = &daemon.code else { return None };
        let (message, hint) = for_cluster(&ImageReference::parse(image).ok()?)?;
        Some(at_daemon(daemon, &["code".into(), "image".into()], message).hint(hint))
    };
    match subject.platform {
        Platform::Kubernetes => Some(subject.stack.daemons().filter_map(issue).collect()),
        // This machine reads every transport there is.
        Platform::Local => Some(Vec::new()),
        _ => None,
    }
}

fn for_cluster(image: &ImageReference) -> Option<(String, String)> {
    image.is_local_only().then(|| {
        (
            format!("{image} is on this machine only, where no cluster can pull it from"),
            format!("push it, and use that name: skopeo copy {image} docker://REGISTRY/NAME:TAG"),
        )
    })
}
