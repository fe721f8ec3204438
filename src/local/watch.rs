//! A deployment's status as it changes, told by those who know: the daemons' supervisors.

use super::control::Conversation;
use super::layout::Layout;
use super::{deployment, observe};
use crate::engine::platform::StatusWatch;
use crate::engine::status::DeploymentStatus;
use crate::error::Report;
use crate::supervisor::protocol::{CONTROL, Op};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Between two looks for daemons that come and go, of which no supervisor tells.
const LOOK: Duration = Duration::from_millis(250);

/// One deployment, watched.
pub struct Watch {
    layout: Layout,
    deployment: String,
    last: Option<DeploymentStatus>,
    listening: BTreeMap<String, JoinHandle<()>>,
    changed: Arc<Notify>,
}

impl Watch {
    /// Nothing is asked yet.
    pub fn new(layout: Layout, deployment: &str) -> Self {
        let changed = Arc::new(Notify::new());
        Watch { layout, deployment: deployment.to_owned(), last: None, listening: BTreeMap::new(), changed }
    }

    /// Sees to it that every daemon's supervisor is listened to.
    fn listen(&mut self) {
        self.listening.retain(|_, listener| !listener.is_finished());
        for id in deployment::entry_names(&self.layout.daemons(&self.deployment)) {
            let dir = self.layout.daemon(&self.deployment, &id);
            let changed = Arc::clone(&self.changed);
            self.listening.entry(id).or_insert_with(|| tokio::spawn(listen(dir, changed)));
        }
    }
}

async fn listen(dir: PathBuf, changed: Arc<Notify>) {
    // Where nobody answers, the next look tries again.
    let Ok(mut conversation) = Conversation::begin(&dir, CONTROL, Op::Watch).await else { return };
    while conversation.next().await.is_ok() {
        changed.notify_one();
    }
    changed.notify_one();
}

#[async_trait]
impl StatusWatch for Watch {
    async fn next(&mut self) -> Result<Option<DeploymentStatus>, Report> {
        loop {
            self.listen();
            match observe::status(&self.layout, &self.deployment).await {
                Err(error) if error.code == "DEPLOYMENT_NOT_FOUND" && self.last.is_some() => return Ok(None),
                Err(error) => return Err(error),
                Ok(status) if self.last.as_ref() != Some(&status) => {
                    self.last = Some(status.clone());
                    return Ok(Some(status));
                }
                Ok(_) => {}
            }
            let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.listening.values().for_each(JoinHandle::abort);
    }
}
