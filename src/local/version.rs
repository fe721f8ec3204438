//! From a declared daemon and its image to what a supervisor is told.

use super::commands::{Access, CA, TOKEN_DIR};
use super::layout::Layout;
use crate::engine::manager::receiver_environment;
use crate::engine::plan::{Field, Fields, sounds_secret};
use crate::error::Report;
use crate::image::Image;
use crate::model::names::{binding_variable, fingerprint};
use crate::model::{Code, Daemon, Grants, ResourceRef, ResourceType, Stack};
use crate::sandbox::cgroup::Limits;
use crate::sandbox::ids::Ids;
use crate::sandbox::{Mount, Program, Sandbox};
use crate::supervisor::spec::{LogLimits, Spec};
use crate::sys::signal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where linked resources are inside: a folder each.
const BINDINGS: &str = "/run/alien";
/// How long a program may take to end when the daemon does not say (Kubernetes' `terminationGracePeriodSeconds`).
const GRACE_SECONDS: u32 = 30;
/// How long a program must live to count as up.
const SETTLE_MS: u64 = 1000;

/// A `spec.json` as deploy writes it: the supervisor reads `run` alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Document {
    /// What was asked for, for the next plan.
    pub declared: Declared,
    pub run: Spec,
}

/// What a resource was made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Declared {
    pub lifecycle: String,
    pub fields: Fields,
}

/// The field that holds the image's manifest digest.
const DIGEST: &str = "digest";
/// The prefix of fields that hold secrets.
pub const SECRETS: &str = "secrets.";

/// The image's manifest digest; empty where there is none.
pub fn digest(fields: &Fields) -> &str {
    fields.get(DIGEST).and_then(|field| field.value.as_str()).unwrap_or_default()
}

/// Where a daemon's commands come from, as far as a change of it matters.
#[derive(Debug, Clone)]
pub struct Source {
    pub url: String,
    /// What the deployment is called there, where that is not its name.
    pub called: Option<String>,
    /// Tells the certificates that it is found by from others; `None` where they are the system's.
    pub authority: Option<String>,
}

/// Everything about a daemon that a change of matters.
pub fn fields(
    stack: &Stack,
    daemon: &Daemon,
    digest: &str,
    secrets: &BTreeMap<String, String>,
    manager: Option<&Source>,
) -> Fields {
    let mut fields = Fields::new();
    let mut set = |path: String, value: Field| drop(fields.insert(path, value));
    if let Code::Image { image } = &daemon.code {
        set("code.image".to_owned(), Field::shown(image.as_str()));
    }
    set(DIGEST.to_owned(), Field::shown(digest));
    if let Some(command) = &daemon.command {
        set("command".to_owned(), Field::shown(json!(command)));
    }
    set("commandsEnabled".to_owned(), Field::shown(daemon.commands_enabled));
    if let Some(Source { url, called, authority }) = manager.filter(|_| daemon.commands_enabled) {
        set("commandsUrl".to_owned(), Field::shown(url.as_str()));
        if let Some(called) = called {
            set("commandsDeploymentId".to_owned(), Field::shown(called.as_str()));
        }
        if let Some(authority) = authority {
            set("commandsAuthority".to_owned(), Field::shown(authority.as_str()));
        }
    }
    for (name, bounds) in [("cpu", &daemon.cpu), ("memory", &daemon.memory)] {
        if let Some(bounds) = bounds {
            set(name.to_owned(), Field::shown(json!(bounds)));
        }
    }
    for (name, value) in &daemon.environment {
        let value = value.as_str();
        set(
            format!("environment.{name}"),
            if sounds_secret(name) { Field::secret(value) } else { Field::shown(value) },
        );
    }
    for link in &daemon.links {
        let access = access(stack.grants(&daemon.id, &link.id));
        set(format!("links.{}", link.id), Field::shown(format!("{} ({access})", link.kind.as_str())));
    }
    set("permissions".to_owned(), Field::shown(daemon.permissions.as_str()));
    if let Some(seconds) = daemon.stop_grace_period_seconds {
        set("stopGracePeriodSeconds".to_owned(), Field::shown(seconds));
    }
    for (name, value) in secrets {
        set(format!("{SECRETS}{name}"), Field::secret(value.as_str()));
    }
    fields
}

fn access(grants: Grants) -> &'static str {
    match grants {
        Grants { write: true, .. } => "read-write",
        Grants { read: true, .. } => "read-only",
        _ => "no access",
    }
}

/// What the version is put together from.
pub struct Parts<'a> {
    pub layout: &'a Layout,
    pub deployment: &'a str,
    pub stack: &'a Stack,
    pub daemon: &'a Daemon,
    /// The daemon's fields; secrets are taken from here.
    pub fields: &'a Fields,
    pub image: &'a Image,
    pub ids: &'a Ids,
    pub overlay: bool,
    /// Where it takes commands from, if it does.
    pub commands: Option<Access>,
}

/// Puts a version together.
///
/// # Errors
/// `IMAGE_STOP_SIGNAL_UNKNOWN` where the image's stop signal is none of this machine's.
pub fn spec(parts: &Parts<'_>) -> Result<Spec, Report> {
    let Parts { layout, deployment, daemon, image, .. } = parts;
    let config = &image.config;
    let stop_signal = match config.stop_signal.as_deref() {
        None | Some("") => libc::SIGTERM,
        Some(name) => signal::parse(name).ok_or_else(|| {
            Report::new("IMAGE_STOP_SIGNAL_UNKNOWN", format!("the image's stop signal {name:?} is not a signal"))
                .with("image", image.reference.as_str())
                .hint("correct the image's STOPSIGNAL: a name such as SIGTERM or a number from 1 to 64")
        })?,
    };
    let argv = match &daemon.command {
        Some(command) => command.clone(),
        None => config.entrypoint.iter().chain(&config.cmd).cloned().collect(),
    };
    let (bindings, mut mounts) = bindings(parts);
    mounts.extend(config.volumes.iter().map(|volume| Mount {
        source: volume_dir(layout, deployment, &daemon.id, volume),
        target: absolute(volume),
        read_only: false,
        filled_from_image: true,
        secrets: false,
    }));
    mounts.extend(parts.commands.iter().map(|access| Mount {
        source: access.dir.clone(),
        target: PathBuf::from(TOKEN_DIR),
        read_only: true,
        filled_from_image: false,
        secrets: false,
    }));
    // Parents before what is mounted in them.
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    let short_digest: String =
        image.digest.chars().filter(char::is_ascii_alphanumeric).skip("sha256".len()).take(16).collect();
    let spec = Spec {
        version: String::new(),
        image: match &daemon.code {
            Code::Image { image } => image.clone(),
            Code::Source { .. } => image.reference.clone(),
        },
        digest: image.digest.clone(),
        sandbox: Sandbox {
            layers: image.layers.clone(),
            top: layout.daemon(deployment, &daemon.id).join("tops").join(short_digest),
            overlay: parts.overlay,
            ids: parts.ids.clone(),
            hostname: daemon.id.clone(),
            mounts,
        },
        program: Program {
            argv,
            env: environment(parts, bindings),
            cwd: absolute(&config.working_dir),
            user: config.user.clone(),
        },
        limits: limits(daemon),
        stop_signal,
        stop_grace_ms: u64::from(daemon.stop_grace_period_seconds.unwrap_or(GRACE_SECONDS)) * 1000,
        settle_ms: SETTLE_MS,
        log: LogLimits::default(),
        ended: parts.commands.as_ref().and_then(|access| access.end_notice(&daemon.id)),
    };
    Ok(stamped(spec))
}

/// What a daemon may use: of a pair, the second. The first is what a cluster is to find it a place by.
pub fn limits(daemon: &Daemon) -> Limits {
    Limits {
        cpu_millis: daemon.cpu.as_ref().map(|cpu| cpu.desired.millis()),
        memory_bytes: daemon.memory.as_ref().map(|memory| memory.desired.bytes()),
    }
}

/// A version with its name, which differs whenever anything else does.
pub fn stamped(mut spec: Spec) -> Spec {
    spec.version = fingerprint(serde_json::to_vec(&spec).unwrap_or_default(), 16);
    spec
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

/// The image's environment with the user's on top, then what every daemon gets.
fn environment(parts: &Parts<'_>, bindings: Vec<(String, String)>) -> Vec<String> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for entry in &parts.image.config.env {
        if let Some((name, value)) = entry.split_once('=') {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    variables.extend(parts.daemon.environment.clone());
    let secret = |(path, field): (&String, &Field)| {
        Some((path.strip_prefix(SECRETS)?.to_owned(), field.value.as_str()?.to_owned()))
    };
    variables.extend(parts.fields.iter().filter_map(secret));
    variables.extend(bindings);
    if let Some(access) = &parts.commands {
        variables.extend(commands(access, parts.daemon));
    }
    variables.insert("ALIEN_DEPLOYMENT_TYPE".to_owned(), "local".to_owned());
    let called = parts.commands.as_ref().map_or(parts.deployment, |access| &access.deployment);
    variables.insert("ALIEN_DEPLOYMENT_ID".to_owned(), called.to_owned());
    variables.entry("HOSTNAME".to_owned()).or_insert_with(|| parts.daemon.id.clone());
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// What a receiver reads.
fn commands(access: &Access, daemon: &Daemon) -> Vec<(String, String)> {
    let mut variables = receiver_environment(&access.url, &format!("{TOKEN_DIR}/token"), daemon);
    variables.push(("ALIEN_COMMANDS_TOKEN".to_owned(), access.token.clone()));
    if access.ca {
        variables.push(("ALIEN_COMMANDS_CA_FILE".to_owned(), format!("{TOKEN_DIR}/{CA}")));
    }
    variables
}

/// What the daemon's links put into its environment and its file system. What is not granted is not there.
fn bindings(parts: &Parts<'_>) -> (Vec<(String, String)>, Vec<Mount>) {
    let granted = |link: &&ResourceRef| parts.stack.grants(&parts.daemon.id, &link.id).any();
    let links = parts.daemon.links.iter().filter(granted);
    links
        .filter_map(|link| {
            let target = format!("{BINDINGS}/{}", link.id);
            let binding = match link.kind {
                ResourceType::Storage => {
                    json!({"service": "local-storage", "storagePath": format!("file://{target}/")})
                }
                ResourceType::Kv => json!({"service": "local-kv", "dataDir": target}),
                ResourceType::Queue => json!({"service": "local-queue", "queuePath": target}),
                ResourceType::Vault => json!({"service": "local-vault", "vaultName": link.id, "dataDir": target}),
                ResourceType::Daemon => return None,
            };
            let mount = Mount {
                source: parts.layout.data(parts.deployment).join(&link.id),
                target: PathBuf::from(target),
                read_only: !parts.stack.grants(&parts.daemon.id, &link.id).write,
                filled_from_image: false,
                secrets: link.kind == ResourceType::Vault,
            };
            Some(((binding_variable(&link.id), binding.to_string()), mount))
        })
        .unzip()
}

/// A volume's folder, named by its path inside in a way that no other path shares.
fn volume_dir(layout: &Layout, deployment: &str, id: &str, volume: &str) -> PathBuf {
    let name: String = volume.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let hash = fingerprint(volume, 8);
    layout.data(deployment).join("volumes").join(id).join(format!("{}-{hash}", name.trim_matches('-')))
}
