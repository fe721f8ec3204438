//! From a version of a daemon to the container that the engine is asked for.

use super::engine::{Engine, Kind};
use super::names::Names;
use crate::error::Report;
use crate::local::layout::{make_dir, unusable};
use crate::sandbox::Mount as Wanted;
use crate::sandbox::secrets::Secrets;
use crate::supervisor::spec::Spec;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
    VolumeCreateRequest,
};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What stays of root's rights, as for daemons that are processes of ours (`sandbox::exec`).
const CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What the engine is asked for. The environment is in it, and so are secrets: it is sent, and never shown.
///
/// # Errors
/// `ENTRYPOINT_MISSING` where neither image nor daemon name a program.
pub fn body(names: &Names<'_>, run: &Spec, image: &str, kind: Kind) -> Result<ContainerCreateBody, Report> {
    let Some((program, arguments)) = run.program.argv.split_first() else {
        let message = format!("neither the image nor daemon {:?} names a program to run", names.id);
        return Err(Report::new("ENTRYPOINT_MISSING", message).hint("give the daemon a command"));
    };
    let limits = &run.limits;
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let memory = limits.memory_bytes.map(signed);
    let log = match kind {
        Kind::Docker => {
            ("json-file", vec![("max-size", run.log.max_bytes), ("max-file", u64::from(run.log.max_files))])
        }
        // It keeps one file, and begins it anew when it is full.
        Kind::Podman => ("k8s-file", vec![("max-size", run.log.max_bytes * u64::from(run.log.max_files))]),
    };
    let host = HostConfig {
        // As the processes of ours have it.
        network_mode: Some("host".to_owned()),
        init: Some(true),
        privileged: Some(false),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), "rw,nosuid,nodev,exec,mode=1777".to_owned())])),
        cpu_shares: limits.cpu_millis.map(|millis| signed((millis * 1024 / 1000).clamp(2, 262_144))),
        memory,
        // None of it in swap.
        memory_swap: memory,
        mounts: Some(run.sandbox.mounts.iter().map(|wanted| mount(names, wanted)).collect()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some(log.0.to_owned()),
            config: Some(log.1.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect()),
        }),
        ..HostConfig::default()
    };
    Ok(ContainerCreateBody {
        image: Some(image.to_owned()),
        hostname: Some(run.sandbox.hostname.clone()),
        // An empty entry point means the image's to Podman.
        entrypoint: Some(vec![program.clone()]),
        cmd: Some(arguments.to_vec()),
        env: Some(run.program.env.clone()),
        working_dir: Some(run.program.cwd.display().to_string()),
        user: Some(run.program.user.clone()),
        labels: Some(names.labels(&run.version)),
        stop_signal: Some(run.stop_signal.to_string()),
        stop_timeout: Some(signed(run.stop_grace_ms.div_ceil(1000))),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

fn mount(names: &Names<'_>, wanted: &Wanted) -> Mount {
    let volume = wanted.filled_from_image;
    Mount {
        typ: Some(if volume { MountType::VOLUME } else { MountType::BIND }),
        source: Some(if volume { names.volume(&wanted.target) } else { wanted.source.display().to_string() }),
        target: Some(wanted.target.display().to_string()),
        read_only: Some(wanted.read_only),
        ..Mount::default()
    }
}

/// Makes what will be mounted.
///
/// An image's volume is one of the engine's over a folder of ours: so the engine fills it from the image, and the data lie
/// where those of other daemons do.
pub async fn prepare(engine: &Engine, names: &Names<'_>, run: &Spec) -> Result<(), Report> {
    let has_secrets = run.sandbox.mounts.iter().any(|wanted| wanted.secrets);
    // Who else there is, only the engine could tell; and its root may not be the one here.
    let is_shared = has_secrets && (!is_root(&run.program.user) || engine.traits().await?.own_ids);
    for wanted in &run.sandbox.mounts {
        if wanted.secrets {
            let open = || {
                let secrets = Secrets::open(&wanted.source)?;
                if is_shared { secrets.share() } else { Ok(()) }
            };
            open().map_err(|error| unusable(&wanted.source, &error))?;
        } else if !wanted.source.exists() {
            make_open(&wanted.source)?;
        }
        if !wanted.filled_from_image {
            continue;
        }
        let name = names.volume(&wanted.target);
        let options = [("type", "none"), ("o", "bind"), ("device", &wanted.source.display().to_string())];
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            driver: Some("local".to_owned()),
            driver_opts: Some(options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            labels: Some(names.labels("")),
            ..VolumeCreateRequest::default()
        };
        engine.ask(&format!("make the volume {name}"), engine.docker.create_volume(request)).await?;
    }
    Ok(())
}

/// Whether an image's `USER` says that its program runs as root.
fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}

/// A folder for whatever user the program runs as; outside, the state directory keeps others out.
fn make_open(dir: &Path) -> Result<(), Report> {
    make_dir(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).map_err(|error| unusable(dir, &error))
}
