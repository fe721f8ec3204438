//! Is there an order in which the resources can come up.

use super::{Rule, Status, Subject};
use crate::error::Issue;
use crate::model::{Entry, Stack};
use std::collections::HashMap;

pub(super) const NO_CYCLES: Rule = Rule {
    id: "no-cycles",
    description: "No resource needs itself, over links and dependencies",
    on_issue: Status::Failed,
    run: no_cycles,
};

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    /// On the way that is being walked.
    Open,
    /// Everything behind it is known.
    Done,
}

fn needs(entry: &Entry) -> impl Iterator<Item = &str> {
    let links = entry.config.as_daemon().into_iter().flat_map(|daemon| &daemon.links);
    links.chain(&entry.dependencies).map(|reference| reference.id.as_str())
}

/// Depth first with a stack of its own: a chain of ten thousand resources must not end in a stack overflow.
fn no_cycles(subject: &Subject) -> Option<Vec<Issue>> {
    let stack: &Stack = subject.stack;
    let mut marks: HashMap<&str, Mark> = HashMap::new();
    let mut issues = Vec::new();
    for (start, entry) in stack.resources.iter() {
        if marks.contains_key(start) {
            continue;
        }
        marks.insert(start, Mark::Open);
        let mut way = vec![(start, needs(entry))];
        while let Some((id, rest)) = way.last_mut() {
            let id = *id;
            let Some(next) = rest.next() else {
                marks.insert(id, Mark::Done);
                way.pop();
                continue;
            };
            let Some((next, entry)) = stack.resources.get(next).map(|entry| (entry.config.id(), entry)) else {
                continue;
            };
            match marks.get(next) {
                Some(Mark::Done) => {}
                Some(Mark::Open) => {
                    let from = way.iter().position(|(id, _)| *id == next).unwrap_or_default();
                    let mut ids: Vec<&str> = way[from..].iter().map(|(id, _)| *id).collect();
                    ids.push(next);
                    let message = format!("{next} needs itself: {}", ids.join(" → "));
                    let path = vec!["resources".into(), next.into()];
                    issues
                        .push(Issue::new(path, "custom", message).hint("take out one of these links or dependencies"));
                }
                None => {
                    marks.insert(next, Mark::Open);
                    way.push((next, needs(entry)));
                }
            }
        }
    }
    Some(issues)
}
