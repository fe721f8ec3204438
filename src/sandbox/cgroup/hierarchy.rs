//! Where this machine's controllers are.
//!
//! Version 1 has a hierarchy of groups for each controller, version 2 one for all; on a hybrid machine some controllers
//! are here and some there (cgroups(7)).

use crate::sys::process::Pid;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    Cpu,
    Memory,
}

impl Controller {
    /// As the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
        }
    }
}

/// Which interface a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// A hierarchy that is mounted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    pub version: Version,
    /// Where it is mounted: the topmost group that is seen from here.
    pub mount: PathBuf,
    /// The process's own group, as a folder; the topmost one where its own is not seen from here.
    pub own: PathBuf,
}

/// The hierarchy that a controller is in, and a process's place in it; `None` where this machine has none, or none mounted.
pub fn of(controller: Controller, process: Pid) -> Option<Hierarchy> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut found = find(controller, &read("/proc/self/mountinfo"), &read(&format!("/proc/{process}/cgroup")))?;
    if !found.own.is_dir() {
        found.own.clone_from(&found.mount);
    }
    let controllers = || std::fs::read_to_string(found.mount.join("cgroup.controllers")).unwrap_or_default();
    let has = found.version == Version::V1 || controllers().split_whitespace().any(|name| name == controller.name());
    has.then_some(found)
}

/// The controllers that share this one's version 1 hierarchy, itself among them, as they are mounted: `cpu,cpuacct`.
pub fn mounted_as(controller: Controller) -> Option<String> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut lists = own.lines().filter_map(|line| line.split(':').nth(1));
    lists.find(|list| list.split(',').any(|name| name == controller.name())).map(str::to_owned)
}

/// The same from `/proc/self/mountinfo` (proc(5)) and `/proc/self/cgroup`. A version 1 hierarchy is the controller's own;
/// where there is none it can only be in that of version 2.
fn find(controller: Controller, mounts: &str, own: &str) -> Option<Hierarchy> {
    let mounted = |version| mounts.lines().find_map(|line| mount_of(line, version, controller));
    let (version, (root, mount)) = match (mounted(Version::V1), mounted(Version::V2)) {
        (Some(found), _) => (Version::V1, found),
        (None, Some(found)) => (Version::V2, found),
        (None, None) => return None,
    };
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let its = match version {
            Version::V1 => controllers.split(',').any(|name| name == controller.name()),
            Version::V2 => controllers.is_empty(),
        };
        its.then_some(path)
    });
    // What is above the mounted root cannot be reached, and shows as `/..`.
    let below = path.and_then(|path| Path::new(path).strip_prefix(root).ok());
    let below = below.filter(|below| below.components().all(|part| matches!(part, std::path::Component::Normal(_))));
    let mount = PathBuf::from(mount);
    let own =
        below.filter(|below| !below.as_os_str().is_empty()).map_or_else(|| mount.clone(), |below| mount.join(below));
    Some(Hierarchy { version, own, mount })
}

/// Root and mount point, where a line of mountinfo is of such a hierarchy.
fn mount_of(line: &str, version: Version, controller: Controller) -> Option<(&str, &str)> {
    let (here, there) = line.split_once(" - ")?;
    let mut here = here.split(' ').skip(3);
    let (root, mount) = (here.next()?, here.next()?);
    let mut there = there.split(' ');
    let (kind, options) = (there.next()?, there.nth(1)?);
    let its = match version {
        Version::V1 => kind == "cgroup" && options.split(',').any(|option| option == controller.name()),
        Version::V2 => kind == "cgroup2",
    };
    its.then_some((root, mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        34 31 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn own(controller: Controller, mounts: &str, own: &str) -> Option<(Version, String)> {
        find(controller, mounts, own).map(|found| (found.version, found.own.display().to_string()))
    }

    #[test]
    fn one_hierarchy_has_all_in_version_2() {
        let session = "0::/user.slice/user-0.slice/session-1.scope\n";
        let expected = (Version::V2, "/sys/fs/cgroup/user.slice/user-0.slice/session-1.scope".to_owned());
        assert_eq!(own(Controller::Memory, V2, session), Some(expected.clone()));
        assert_eq!(own(Controller::Cpu, V2, session), Some(expected));
    }

    #[test]
    fn a_controller_of_a_hybrid_machine_is_in_its_own_hierarchy_or_else_in_the_unified_one() {
        let groups = "3:cpu,cpuacct:/ci\n0::/job\n";
        let cpu = (Version::V1, "/sys/fs/cgroup/cpu,cpuacct/ci".to_owned());
        assert_eq!(own(Controller::Cpu, HYBRID, groups), Some(cpu));
        let memory = (Version::V2, "/sys/fs/cgroup/unified/job".to_owned());
        assert_eq!(own(Controller::Memory, HYBRID, groups), Some(memory));
        assert_eq!(own(Controller::Memory, "", groups), None);
    }

    #[test]
    fn a_group_that_is_not_seen_from_here_is_the_topmost_one() {
        let inside = "32 31 0:29 /docker/4f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let top = Some((Version::V1, "/sys/fs/cgroup/memory".to_owned()));
        assert_eq!(own(Controller::Memory, inside, "4:memory:/docker/4f\n"), top);
        assert_eq!(own(Controller::Memory, inside, "4:memory:/elsewhere\n"), top);
        assert_eq!(own(Controller::Memory, V2, "0::/../sibling\n"), Some((Version::V2, "/sys/fs/cgroup".to_owned())));
    }
}
