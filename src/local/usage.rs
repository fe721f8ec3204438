//! What daemons use at this moment, read from the kernel (proc(5)): nobody keeps count meanwhile.

use super::layout::Layout;
use crate::engine::status::{ResourceStatus, Usage};
use crate::sandbox::cgroup::Group;
use crate::supervisor::spec;
use crate::sys::process::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks at the processor time: what is used in it is what is used now.
const INTERVAL: Duration = Duration::from_millis(100);

/// What is read of one daemon's processes at one time.
#[derive(Default, Clone, Copy)]
struct Sample {
    /// Of the threads that live, in nanoseconds (schedstat).
    running: u64,
    /// Of all processes of this run, also those that have ended, in ticks.
    ticks: u64,
    /// Resident, in pages.
    pages: u64,
}

/// By id, of the daemons that run as processes of this machine. Takes as long as [`INTERVAL`].
pub async fn usage(layout: &Layout, deployment: &str, resources: &[ResourceStatus]) -> BTreeMap<String, Usage> {
    let running = resources.iter().filter_map(|resource| Some((resource.id.clone(), init(resource.pid?)?))).collect();
    let mut used = of(running).await;
    for (id, usage) in &mut used {
        if let Some(bytes) = counted(&layout.daemon(deployment, id)) {
            usage.memory_bytes = bytes;
        }
    }
    used
}

/// The same of any processes, each the first one of a pid namespace.
pub async fn of(running: Vec<(String, Pid)>) -> BTreeMap<String, Usage> {
    if running.is_empty() {
        return BTreeMap::new();
    }
    let sample = |(_, init): &(String, Pid)| sample(*init);
    let (before, began) = (running.iter().map(sample).collect::<Vec<_>>(), Instant::now());
    tokio::time::sleep(INTERVAL).await;
    let elapsed = began.elapsed();
    let used = running.iter().zip(before).map(|(daemon, before)| {
        let now = sample(daemon);
        let usage = Usage {
            cpu_cores: rounded(now.running.saturating_sub(before.running) as f64 / elapsed.as_nanos() as f64),
            cpu_seconds: now.ticks as f64 / system(libc::_SC_CLK_TCK) as f64,
            memory_bytes: now.pages * system(libc::_SC_PAGESIZE),
        };
        (daemon.0.clone(), usage)
    });
    used.collect()
}

/// Thousandths are as fine as it can be told.
fn rounded(cores: f64) -> f64 {
    (cores * 1000.0).round() / 1000.0
}

fn system(name: libc::c_int) -> u64 {
    u64::try_from(unsafe { libc::sysconf(name) }).unwrap_or(1).max(1)
}

/// What counts towards the daemon's memory limit, where it has one.
fn counted(dir: &Path) -> Option<u64> {
    spec::read::<Group>(&dir.join(spec::CGROUP)).ok()?.memory_in_use()
}

/// The init above a daemon's program: pid 1 of its pid namespace.
fn init(program: Pid) -> Option<Pid> {
    let parent = stat(program)?.parent;
    (parent > 1).then_some(parent)
}

/// Every process of a pid namespace descends from its init.
fn sample(init: Pid) -> Sample {
    let mut sum = Sample::default();
    let mut queue = vec![init];
    while let Some(pid) = queue.pop() {
        let Some(stat) = stat(pid) else { continue };
        sum.ticks += stat.ticks;
        // The init is ours, and shared: what the user asks about is the program.
        if pid != init {
            sum.pages += stat.pages;
        }
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten().map(|thread| thread.path()) {
            sum.running += first_number(&thread.join("schedstat")).unwrap_or_default();
            let children = fs::read_to_string(thread.join("children")).unwrap_or_default();
            queue.extend(children.split_whitespace().filter_map(|pid| pid.parse::<Pid>().ok()));
        }
    }
    sum
}

fn first_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.split_whitespace().next()?.parse().ok()
}

/// Fields of `/proc/PID/stat`.
struct Stat {
    parent: Pid,
    /// Its own processor time, and that of children it has waited for.
    ticks: u64,
    pages: u64,
}

fn stat(pid: Pid) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; the state follows the last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = (11..15).filter_map(number).sum();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks, pages: number(21)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_counted_with_its_children_and_their_threads() {
        let us = std::process::id() as Pid;
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let busy = std::thread::spawn(|| (0..20_000_000u64).fold(1u64, |a, b| a.wrapping_mul(b | 1)));
        let spent = busy.join().unwrap();
        let before = sample(us);
        let (again, own) = (sample(us), stat(us).unwrap());
        assert!(before.running > 0 && again.running >= before.running, "{spent}");
        assert_eq!(stat(child.id() as Pid).unwrap().parent, us);
        assert!(again.pages > 0, "the child's alone");
        assert!(own.pages > again.pages);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
