//! Which manager a deployment's daemons take their commands from, whatever they run under: one here, or one elsewhere.

use super::commands::{Access, Commands};
use super::helper::Helper;
use super::{Local, deployment};
use crate::engine::event::Events;
use crate::error::Report;
use crate::model::{Daemon, Stack};

impl Local {
    /// The means of commands: of a manager here, which is a process of ours in any case, or just of one elsewhere.
    async fn means_of_commands(&self) -> Result<(Helper, bool), Report> {
        match self.machine().await {
            Ok(machine) => Ok((machine.helper.clone(), machine.overlay)),
            Err(_) if self.options.manager.is_some() => Ok((self.helper()?, false)),
            Err(error) => Err(error),
        }
    }

    fn commands_with<'a>(&'a self, (helper, overlay): &'a (Helper, bool)) -> Commands<'a> {
        let (layout, packaged, ids) = (&self.layout, self.options.program.as_path(), &self.ids);
        Commands { layout, helper, packaged, ids, overlay: *overlay }
    }

    /// Records the deployment, with the engine that it has, and sees to it that its daemons can take commands.
    pub(super) async fn begin_under(
        &self,
        engine: Option<&str>,
        deployment: &str,
        stack: &Stack,
    ) -> Result<(), Report> {
        let takers = stack.daemons().filter(|daemon| daemon.commands_enabled);
        let takers: Vec<&str> = takers.map(|daemon| daemon.id.as_str()).collect();
        if takers.is_empty() {
            return deployment::begin(&self.layout, deployment, stack, engine);
        }
        let means = self.means_of_commands().await?;
        let commands = self.commands_with(&means);
        let manager = self.options.manager.as_ref();
        if let Some(manager) = manager {
            commands.ensure_elsewhere(manager, deployment, &takers, &Events::ignored()).await?;
        }
        deployment::begin(&self.layout, deployment, stack, engine)?;
        if manager.is_none() {
            commands.ensure(deployment, &Events::ignored()).await?;
        }
        Ok(())
    }

    /// What a daemon is given so that it can take its commands, if it does.
    pub(super) async fn access(&self, deployment: &str, daemon: &Daemon) -> Result<Option<Access>, Report> {
        if !daemon.commands_enabled {
            return Ok(None);
        }
        let means = self.means_of_commands().await?;
        let commands = self.commands_with(&means);
        Ok(Some(match &self.options.manager {
            Some(manager) => commands.access_elsewhere(manager, deployment, &daemon.id)?,
            None => commands.access(deployment, &daemon.id).await?,
        }))
    }

    /// What a daemon took its commands from before, it takes none from any more.
    pub(super) async fn leave_managers(
        &self,
        deployment: &str,
        id: &str,
        stays: bool,
        events: &Events,
    ) -> Result<(), Report> {
        if !self.layout.manager().exists() {
            return Ok(());
        }
        let external = self.options.manager.as_ref();
        let means = self.means_of_leaving().await?;
        let commands = self.commands_with(&means);
        commands.forget_elsewhere(deployment, id, external, stays).await?;
        if stays && external.is_none() {
            return Ok(());
        }
        commands.forget(deployment, id, events).await
    }

    /// A deployment is gone: nobody calls into it any more.
    pub(super) async fn forget_callers(&self, deployment: &str, data: bool) -> Result<(), Report> {
        if !self.layout.manager().exists() {
            return Ok(());
        }
        let means = self.means_of_leaving().await?;
        let external = self.options.manager.as_ref();
        self.commands_with(&means).forget_deployment(deployment, external, data, &Events::ignored()).await
    }

    /// The means of commands, of which only files are taken away where this machine makes no sandboxes any more.
    async fn means_of_leaving(&self) -> Result<(Helper, bool), Report> {
        match self.means_of_commands().await {
            Err(_) => Ok((self.helper()?, false)),
            means => means,
        }
    }
}
