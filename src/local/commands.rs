//! Commands on this machine: one manager for all deployments of a state directory, kept alive as daemons are.
//!
//! ```text
//! <state>/manager/data/             the manager's own: database, signing key, the administrator's token
//! <state>/manager/receivers/D/ID/   what daemon ID of deployment D sees of it: its token
//! <state>/manager/client.json       for callers: {url, tokens: {D: token}, external}; see `elsewhere` for the last
//! ```
//!
//! It runs while some daemon takes commands, and what it keeps outlives it.

use super::control;
use super::daemon::DaemonDir;
use super::deployment;
use super::helper::Helper;
use super::layout::{Layout, make_dir, unusable};
use super::version::{Declared, Document, stamped};
use crate::engine::event::Events;
use crate::engine::manager::{Administrator, External, Grant};
use crate::engine::plan::{Action, Fields};
use crate::error::Report;
use crate::sandbox::cgroup::Limits;
use crate::sandbox::ids::Ids;
use crate::sandbox::{Mount, Program, Sandbox};
use crate::supervisor::protocol::Phase;
use crate::supervisor::spec::{self, EndNotice, LogLimits, Spec};
use crate::sys::file::put;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Whose daemon it is: no user's deployment can be called so.
pub const DEPLOYMENT: &str = "@manager";
const ID: &str = "manager";
/// Where a daemon sees its token.
pub const TOKEN_DIR: &str = "/run/alien-commands";
/// Beside its token.
pub const CA: &str = "ca.crt";
/// Below the ports that systems give out by themselves; which one follows from the state directory's path.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// The means to run and to ask the manager.
pub struct Commands<'a> {
    pub layout: &'a Layout,
    pub helper: &'a Helper,
    /// The package's `alien-manager`.
    pub packaged: &'a Path,
    pub ids: &'a Ids,
    pub overlay: bool,
}

/// What a daemon that takes commands is given.
#[derive(Debug, Clone)]
pub struct Access {
    pub url: String,
    /// What the deployment is called there.
    pub deployment: String,
    pub token: String,
    /// The folder with the token's file, outside.
    pub dir: PathBuf,
    /// Whether the certificates that the manager's own is signed with are there too, as [`CA`].
    pub ca: bool,
}

impl Access {
    /// How a manager on this machine hears that the daemon's program has ended. One elsewhere waits for its leases to run out.
    pub fn end_notice(&self, id: &str) -> Option<EndNotice> {
        let address = self.url.strip_prefix("http://")?.parse().ok().filter(|at: &SocketAddr| at.ip().is_loopback())?;
        // Names of deployments and daemons need no escapes in a path.
        let path = format!("/v1/deployments/{}/resources/{id}/ended", self.deployment);
        Some(EndNotice { address, path, token_file: self.dir.join("token") })
    }
}

/// What callers of this account read.
#[derive(Default, Serialize, Deserialize)]
pub struct Callers {
    /// Of the manager here, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// By deployment.
    #[serde(default)]
    pub tokens: BTreeMap<String, String>,
    /// By deployment whose manager runs elsewhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external: BTreeMap<String, Elsewhere>,
}

/// How callers get at a manager that runs elsewhere.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Elsewhere {
    pub url: String,
    pub deployment_id: String,
    pub token: String,
    /// The certificates that its own is to be signed with, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    pub identity: String,
}

/// Where the manager is, or will be once somebody needs it.
pub fn url(layout: &Layout) -> String {
    let port = running_port(layout).unwrap_or_else(|| free_port(layout));
    format!("http://{}:{port}", Ipv4Addr::LOCALHOST)
}

/// The port that the manager was started with.
fn running_port(layout: &Layout) -> Option<u16> {
    let document: Document = spec::read(&layout.daemon(DEPLOYMENT, ID).join(spec::CURRENT)).ok()?;
    let listen = document.run.program.argv.iter().skip_while(|word| *word != "--listen").nth(1)?;
    listen.rsplit_once(':')?.1.parse().ok()
}

fn free_port(layout: &Layout) -> u16 {
    let path = layout.root().as_os_str().as_encoded_bytes();
    let sum = path.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    let start = (sum % u32::from(PORTS)) as u16;
    let ports = (0..PORTS).map(|step| FIRST_PORT + (start + step) % PORTS);
    ports.into_iter().find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap_or(FIRST_PORT)
}

impl Commands<'_> {
    fn dir(&self) -> DaemonDir<'_> {
        DaemonDir { layout: self.layout, helper: self.helper, deployment: DEPLOYMENT, id: ID }
    }

    fn data(&self) -> PathBuf {
        self.layout.manager().join("data")
    }

    fn receiver(&self, deployment: &str, id: &str) -> PathBuf {
        self.layout.manager().join("receivers").join(deployment).join(id)
    }

    /// Sees to it that the manager runs, in this package's version, and that callers of the deployment can use it.
    ///
    /// # Errors
    /// `MANAGER_MISSING`; `DAEMON_NOT_UP` with its last lines.
    pub async fn ensure(&self, deployment: &str, events: &Events) -> Result<(), Report> {
        let _lock = deployment::lock(self.layout, DEPLOYMENT, events).await?;
        make_dir(&self.layout.daemons(DEPLOYMENT))?;
        make_dir(&self.data())?;
        if !self.data().join("commands.db").exists() {
            // Tokens of a manager that has forgotten them open nothing.
            let _ = fs::remove_dir_all(self.layout.manager().join("receivers"));
            let _ = fs::remove_file(self.callers_file());
        }
        self.administrator()?;
        let dir = self.dir();
        let is_up = match control::status(&dir.path()).await {
            Ok(status) => status.state == Phase::Running,
            Err(_) => false,
        };
        // One that does not come up may have lost its port to another program.
        let port = running_port(self.layout).filter(|_| is_up).unwrap_or_else(|| free_port(self.layout));
        let document = self.document(port)?;
        if !is_up || dir.document().is_none_or(|there| there.run.version != document.run.version) {
            dir.put(&document, Action::Create, &Events::ignored()).await?;
        }
        let mut callers = self.callers();
        callers.url = Some(format!("http://{}:{port}", Ipv4Addr::LOCALHOST));
        callers.external.remove(deployment);
        if !callers.tokens.contains_key(deployment) {
            let token = self.grant(deployment, Grant::Invoke).await?;
            callers.tokens.insert(deployment.to_owned(), token);
        }
        self.write_callers(&callers)
    }

    /// What a daemon is given so that it can take its commands.
    pub async fn access(&self, deployment: &str, id: &str) -> Result<Access, Report> {
        let dir = self.receiver(deployment, id);
        let file = dir.join("token");
        let token = match fs::read_to_string(&file) {
            Ok(token) if !token.is_empty() => token,
            _ => {
                let token = self.grant(deployment, Grant::Receive(id)).await?;
                let write = || {
                    fs::create_dir_all(&dir)?;
                    // Whatever user the program runs as; outside, the state directory keeps others out.
                    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
                    fs::write(&file, &token)?;
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))
                };
                write().map_err(|error| unusable(&file, &error))?;
                token
            }
        };
        Ok(Access { url: url(self.layout), deployment: deployment.to_owned(), token, dir, ca: false })
    }

    /// A daemon takes no commands any more. The last one ends the manager.
    pub async fn forget(&self, deployment: &str, id: &str, events: &Events) -> Result<(), Report> {
        let dir = self.receiver(deployment, id);
        if !dir.exists() {
            return Ok(());
        }
        self.revoke(deployment, Grant::Receive(id)).await;
        fs::remove_dir_all(&dir).map_err(|error| unusable(&dir, &error))?;
        let _ = dir.parent().map(fs::remove_dir);
        self.end_if_unused(events).await
    }

    /// A deployment is gone: nobody calls into it any more. With `data`, and nobody left, what was kept goes too.
    pub async fn forget_deployment(
        &self,
        deployment: &str,
        external: Option<&External>,
        data: bool,
        events: &Events,
    ) -> Result<(), Report> {
        let mut callers = self.callers();
        if callers.tokens.remove(deployment).is_some() {
            self.revoke(deployment, Grant::Invoke).await;
            self.write_callers(&callers)?;
        }
        self.dismiss_elsewhere(&mut callers, deployment, external).await?;
        self.end_if_unused(events).await?;
        if data && !self.is_used() && !self.is_used_elsewhere() && self.layout.manager().exists() {
            let manager = self.layout.manager();
            self.helper.remove(&manager, self.ids)?;
        }
        Ok(())
    }

    fn is_used(&self) -> bool {
        !deployment::entry_names(&self.layout.manager().join("receivers")).is_empty()
    }

    async fn end_if_unused(&self, events: &Events) -> Result<(), Report> {
        if self.is_used() || !self.layout.deployment(DEPLOYMENT).exists() {
            return Ok(());
        }
        let _lock = deployment::lock(self.layout, DEPLOYMENT, events).await?;
        // Another deployment may have come meanwhile.
        if !self.is_used() {
            self.dir().remove(&Events::ignored()).await?;
            let _ = fs::remove_dir(self.layout.daemons(DEPLOYMENT));
            let _ = fs::remove_dir(self.layout.manager().join("receivers"));
        }
        Ok(())
    }

    fn callers_file(&self) -> PathBuf {
        self.layout.manager().join("client.json")
    }

    /// For callers of this account; where there is nobody left to call, there is no file.
    pub fn write_callers(&self, callers: &Callers) -> Result<(), Report> {
        let file = self.callers_file();
        let written = match callers.tokens.is_empty() && callers.external.is_empty() {
            true => fs::remove_file(&file),
            false => spec::write(&file, callers),
        };
        match written {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(&file, &error)),
            _ => Ok(()),
        }
    }

    pub fn callers(&self) -> Callers {
        spec::read(&self.callers_file()).unwrap_or_default()
    }

    /// The administrator's token, made with the manager's folder.
    fn administrator(&self) -> Result<String, Report> {
        let file = self.data().join("admin.token");
        if let Ok(token) = fs::read_to_string(&file)
            && !token.is_empty()
        {
            return Ok(token);
        }
        let random = || crate::sys::process::random_name();
        let make = || {
            let token = format!("alien_admin_{}{}", random()?, random()?);
            put(&file, 0o600, |file| file.write_all(token.as_bytes()))?;
            Ok(token)
        };
        make().map_err(|error| unusable(&file, &error))
    }

    /// The manager here, with the right to everything in it.
    fn manager(&self) -> Result<Administrator, Report> {
        let url = url(self.layout);
        Administrator::new(&url, &url, &self.administrator()?, None)
    }

    async fn grant(&self, deployment: &str, grant: Grant<'_>) -> Result<String, Report> {
        let granted = self.manager()?.grant(deployment, grant).await;
        granted
            .map_err(|error| error.hint("its log is deployments/@manager/daemons/manager/log in the state directory"))
    }

    /// Best effort: where it does not answer, the token goes with its file, and nobody has it any more.
    async fn revoke(&self, deployment: &str, grant: Grant<'_>) {
        if let Ok(manager) = self.manager() {
            let _ = manager.revoke(deployment, grant).await;
        }
    }

    /// The manager as a daemon: our program is all of its image.
    fn document(&self, port: u16) -> Result<Document, Report> {
        let (root, digest) = self.helper.install_beside(self.packaged, ID)?;
        let listen = format!("{}:{port}", Ipv4Addr::LOCALHOST);
        let words = [
            "/alien-manager",
            "serve",
            "--data",
            "/data",
            "--listen",
            &listen,
            "--admin-token-file",
            "/data/admin.token",
        ];
        let run = Spec {
            version: String::new(),
            image: "alien-manager".to_owned(),
            digest: digest.clone(),
            sandbox: Sandbox {
                layers: vec![root],
                top: self.dir().path().join("tops").join(digest),
                overlay: self.overlay,
                ids: self.ids.clone(),
                hostname: ID.to_owned(),
                mounts: vec![Mount {
                    source: self.data(),
                    target: PathBuf::from("/data"),
                    read_only: false,
                    filled_from_image: false,
                    secrets: false,
                }],
            },
            program: Program {
                argv: words.map(str::to_owned).to_vec(),
                env: Vec::new(),
                cwd: PathBuf::from("/"),
                user: String::new(),
            },
            limits: Limits::default(),
            stop_signal: libc::SIGTERM,
            stop_grace_ms: 15_000,
            settle_ms: 1000,
            log: LogLimits::default(),
            ended: None,
        };
        Ok(Document { declared: Declared { lifecycle: "live".to_owned(), fields: Fields::new() }, run: stamped(run) })
    }
}
