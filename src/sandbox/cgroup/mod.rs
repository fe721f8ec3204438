//! Limits: a control group of the daemon's own in each hierarchy that has one of its controllers (cgroups(7)).
//!
//! The supervisor stays outside, so that a daemon that takes too much is killed alone. Its group is made before its
//! first start and kept over restarts; a start puts the new process into it before that enters the sandbox.

mod hierarchy;

use super::Failure;
use crate::sys::process::{self, Pid};
use crate::sys::{Context, mount};
use hierarchy::{Controller, Hierarchy, Version};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where programs look for their limits.
const SHOWN_AT: &str = "/sys/fs/cgroup";

/// What a daemon may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Its share of the processor beside others, in thousandths of a core, as Kubernetes requests it: 1000 is what a
    /// process without any share has. Never a cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Bytes, swap included. Who needs more is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl Limits {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    fn controllers(&self) -> impl Iterator<Item = Controller> {
        let cpu = self.cpu_millis.map(|_| Controller::Cpu);
        cpu.into_iter().chain(self.memory_bytes.map(|_| Controller::Memory))
    }
}

/// A group, as one folder in each hierarchy that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    v1: Vec<(Controller, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Group {
    /// Makes the group `name` below this process's own, or finds it there, and gives it these limits.
    ///
    /// # Errors
    /// `LIMITS_NOT_ENFORCED`: which limit, why, and what helps.
    pub fn make(name: &str, limits: &Limits) -> Result<Group, Failure> {
        Group::make_for(std::process::id() as Pid, name, limits)
    }

    /// The same below another process's group.
    pub fn make_for(process: Pid, name: &str, limits: &Limits) -> Result<Group, Failure> {
        let mut group = Group { v1: Vec::new(), v2: None };
        match group.found(process, name, limits).and_then(|()| group.limit(limits)) {
            Ok(()) => Ok(group),
            Err(failure) => {
                group.remove(None);
                Err(failure)
            }
        }
    }

    fn found(&mut self, process: Pid, name: &str, limits: &Limits) -> Result<(), Failure> {
        let mut unified: Option<(Hierarchy, Vec<Controller>)> = None;
        for controller in limits.controllers() {
            let what = controller.name();
            let Some(found) = hierarchy::of(controller, process) else {
                let message = format!("{what} cannot be limited: no control group hierarchy with it is mounted here");
                return Err(refused(message));
            };
            match found.version {
                Version::V1 => {
                    let dir = make_dir(&found.own.join(name)).map_err(|error| unmade(what, &error))?;
                    self.v1.push((controller, dir));
                }
                Version::V2 => unified.get_or_insert((found, Vec::new())).1.push(controller),
            }
        }
        if let Some((Hierarchy { own, mount, .. }, controllers)) = unified {
            let what = controllers.iter().map(|controller| controller.name()).collect::<Vec<_>>().join(" and ");
            self.v2 = Some(make_below(&own, &mount, name, &controllers).map_err(|error| unmade(&what, &error))?);
        }
        Ok(())
    }

    fn limit(&self, limits: &Limits) -> Result<(), Failure> {
        let shares = limits.cpu_millis.map_or(1024, |millis| (millis * 1024 / 1000).clamp(2, 262_144));
        let weight = limits.cpu_millis.map_or(100, |millis| (millis / 10).clamp(1, 10_000));
        let most = |none: &str| limits.memory_bytes.map_or_else(|| none.to_owned(), |bytes| bytes.to_string());
        let mut wanted: Vec<(PathBuf, String, bool)> = Vec::new();
        for (_, dir) in &self.v1 {
            // Memory with swap may never be less than memory: out of the way first.
            wanted.push((dir.join("memory.memsw.limit_in_bytes"), "-1".to_owned(), false));
            wanted.push((dir.join("memory.limit_in_bytes"), most("-1"), true));
            // A kernel without swap, or that does not count it, has none of these.
            wanted.push((dir.join("memory.memsw.limit_in_bytes"), most("-1"), false));
            wanted.push((dir.join("cpu.shares"), shares.to_string(), true));
        }
        if let Some(dir) = &self.v2 {
            wanted.push((dir.join("memory.max"), most("max"), true));
            let swap = if limits.memory_bytes.is_some() { "0" } else { "max" };
            wanted.push((dir.join("memory.swap.max"), swap.to_owned(), false));
            // One process is killed, not all of them, as by the first version and by engines: what a program is to make of the
            // loss of a child it knows itself, and one that `exec` has put beside it is not to take it along.
            wanted.push((dir.join("memory.oom.group"), "0".to_owned(), false));
            wanted.push((dir.join("cpu.weight"), weight.to_string(), true));
        }
        for (file, value, must) in wanted.iter().filter(|(file, ..)| file.exists()) {
            match fs::write(file, value) {
                Err(error) if *must => return Err(refused(format!("{} cannot be set: {error}", file.display()))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves this process, which has one thread, into the group's version 1 folders. By `tasks`, not `cgroup.procs`: a
    /// thread that moves itself alone needs no lock that all of the machine's forks wait for.
    pub fn join(&self) -> io::Result<()> {
        let join = |dir: &Path| fs::write(dir.join("tasks"), "0").context(|| format!("join {}", dir.display()));
        self.v1.iter().try_for_each(|(_, dir)| join(dir))
    }

    /// Moves this process, which has one thread, into all of the group.
    pub fn enter(&self) -> io::Result<()> {
        self.join()?;
        let enter =
            |dir: &PathBuf| fs::write(dir.join("cgroup.procs"), "0").context(|| format!("join {}", dir.display()));
        self.v2.iter().try_for_each(enter)
    }

    /// Forks a child that begins its life in the group's version 2 folder, if it has one.
    pub fn fork(&self) -> io::Result<process::Fork> {
        match &self.v2 {
            None => process::fork(),
            Some(dir) => process::fork_into(&OwnedFd::from(fs::File::open(dir)?)),
        }
    }

    /// How many of its processes were killed for want of memory, ever.
    pub fn oom_kills(&self) -> u64 {
        let v1 = self.v1.iter().map(|(_, dir)| dir.join("memory.oom_control"));
        let counts = v1.chain(self.v2.iter().map(|dir| dir.join("memory.events"))).filter_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok())
        });
        counts.sum()
    }

    /// Bytes that count towards its memory limit and cannot be had back at once: without the file cache that nobody has
    /// touched of late, as `kubectl top` and `docker stats` count it. `None` where it has no such limit.
    pub fn memory_in_use(&self) -> Option<u64> {
        let v1 = self.v1.iter().map(|(_, dir)| (dir, "memory.usage_in_bytes", "total_inactive_file "));
        let limited =
            |dir: &&PathBuf| fs::read_to_string(dir.join("memory.max")).is_ok_and(|most| most.trim() != "max");
        let v2 = self.v2.iter().filter(limited).map(|dir| (dir, "memory.current", "inactive_file "));
        v1.chain(v2).find_map(|(dir, total, cache)| {
            let total = fs::read_to_string(dir.join(total)).ok()?.trim().parse::<u64>().ok()?;
            let text = fs::read_to_string(dir.join("memory.stat")).ok()?;
            let cached = text.lines().find_map(|line| line.strip_prefix(cache)?.parse::<u64>().ok());
            Some(total.saturating_sub(cached.unwrap_or_default()))
        })
    }

    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        self.v1.iter().map(|(_, dir)| dir).chain(&self.v2)
    }

    /// Removes it, where no process is left in it or the last ones are just ending; but not the folders that it shares with
    /// another one.
    pub fn remove(&self, but: Option<&Group>) {
        for dir in self.dirs().filter(|dir| !but.is_some_and(|other| other.dirs().any(|its| its == *dir))) {
            if let Err(error) = remove_dir(dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                eprintln!("the control group {} cannot be removed: {error}", dir.display());
            }
        }
    }

    /// Mounts it, from within, where programs look for their limits.
    fn show(&self, at: &Path) -> io::Result<()> {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        if self.v2.is_some() && self.v1.is_empty() {
            return mount::mount("cgroup2", at, flags | libc::MS_RDONLY, "");
        }
        mount::mount("tmpfs", at, flags, "mode=755,size=64k")?;
        for (controller, _) in &self.v1 {
            let all = hierarchy::mounted_as(*controller).unwrap_or_else(|| controller.name().to_owned());
            let target = at.join(&all);
            if target.exists() {
                continue;
            }
            fs::create_dir(&target)?;
            mount::mount("cgroup", &target, flags | libc::MS_RDONLY, &all)?;
            // Several share one hierarchy: each is found by its own name too.
            for name in all.split(',').filter(|name| **name != all) {
                std::os::unix::fs::symlink(&all, at.join(name))?;
            }
        }
        if self.v2.is_some() {
            let target = at.join("unified");
            fs::create_dir_all(&target)?;
            mount::mount("cgroup2", &target, flags | libc::MS_RDONLY, "")?;
        }
        mount::set_attributes(at, libc::MOUNT_ATTR_RDONLY, false)
    }
}

/// Makes this process, and what it starts, see its own group as the topmost one. To be called by each init.
pub fn renew(group: Option<&Group>) -> io::Result<()> {
    match process::unshare(libc::CLONE_NEWCGROUP) {
        // A kernel without control groups.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
        other => other.context(|| "make a cgroup namespace".to_owned())?,
    }
    let at = Path::new(SHOWN_AT);
    match group {
        Some(group) if at.is_dir() => group.show(at).context(|| format!("mount {SHOWN_AT}")),
        _ => Ok(()),
    }
}

fn refused(message: String) -> Failure {
    Failure::new("LIMITS_NOT_ENFORCED", message).hint(
        "deploy as root, or from a control group that is delegated to this account with the controllers cpu and memory \
         (systemd: a user service with Delegate=yes)",
    )
}

/// A folder that is there, or is made.
fn make_dir(dir: &Path) -> io::Result<PathBuf> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).context(|| format!("make {}", dir.display()))
        }
        _ => Ok(dir.to_owned()),
    }
}

/// Removes a group's folder. The parent of a program that was beside the daemon's ends after it has told how that ended.
fn remove_dir(dir: &Path) -> io::Result<()> {
    const ENDING: Duration = Duration::from_secs(1);
    let begun = Instant::now();
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && begun.elapsed() < ENDING => {
                thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn unmade(what: &str, error: &io::Error) -> Failure {
    refused(format!("{what} cannot be limited: no control group can be made: {error}"))
}

/// A group below this process's own, or below the nearest one above that may have groups with all of these controllers.
fn make_below(own: &Path, mount: &Path, name: &str, controllers: &[Controller]) -> io::Result<PathBuf> {
    let mut first = None;
    for parent in own.ancestors().take_while(|parent| parent.starts_with(mount)) {
        let ready = may_hand_on(parent)
            .and_then(|()| controllers.iter().try_for_each(|controller| hand_on(parent, *controller)));
        match ready.and_then(|()| make_dir(&parent.join(name))) {
            Ok(dir) => return Ok(dir),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

/// Whether a group may hand controllers on: one with processes in it may not ("no internal processes", cgroups(7)), but for
/// the machine's topmost, which alone has no type. Of some controllers, cpu among them, the kernel only says so once a
/// process is to join the group below.
fn may_hand_on(group: &Path) -> io::Result<()> {
    let processes = group.join("cgroup.procs");
    let context = || format!("hand controllers on in {}", group.display());
    if group.join("cgroup.type").exists() && !fs::read(&processes).context(context)?.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY)).context(context);
    }
    Ok(())
}

/// Sees to it that the groups below one have a controller.
fn hand_on(group: &Path, controller: Controller) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    let there = fs::read_to_string(&file).context(|| format!("read {}", file.display()))?;
    if there.split_whitespace().any(|name| name == controller.name()) {
        return Ok(());
    }
    fs::write(&file, format!("+{}", controller.name())).context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder like a group's, with what its files say.
    fn group(dir: &Path, processes: &str, handed_on: &str) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        for (name, text) in
            [("cgroup.type", "domain\n"), ("cgroup.procs", processes), ("cgroup.subtree_control", handed_on)]
        {
            fs::write(dir.join(name), text).unwrap();
        }
        dir.to_owned()
    }

    #[test]
    fn a_group_is_made_where_all_its_controllers_are_handed_on_and_no_process_is() {
        let top = std::env::temp_dir().join(format!("alien-test-groups-{}", std::process::id()));
        let slice = group(&top.join("slice"), "", "memory\n");
        let unit = group(&slice.join("unit"), "", "");
        let own = group(&unit.join("supervisor"), "7\n", "cpu memory\n");
        let both = [Controller::Cpu, Controller::Memory];
        // Handed on before or not, one with processes has none below it.
        assert_eq!(make_below(&own, &top, "cpu", &both[..1]).unwrap(), unit.join("cpu"));
        // What one of them cannot be had in, the other is not made in.
        fs::remove_file(unit.join("cgroup.subtree_control")).unwrap();
        assert_eq!(make_below(&own, &top, "both", &both).unwrap(), slice.join("both"));
        assert!(!unit.join("both").exists());
        group(&slice, "8\n", "cpu memory\n");
        let error = make_below(&own, &slice, "none", &both).unwrap_err();
        assert!(error.to_string().contains(&format!("hand controllers on in {}", own.display())), "{error}");
        fs::remove_dir_all(top).unwrap();
    }
}
