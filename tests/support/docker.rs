//! A real Docker engine for one test: its own data, its own socket, no network, and nothing of it left.

#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// An engine, gone when dropped.
pub struct Dockerd {
    child: Child,
    dir: PathBuf,
}

/// Why no engine can be started here, if that is so.
pub fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("a Docker engine needs root");
    }
    // Under a tmpfs of its own /run it finds no containerd of the machine, and starts one of its own.
    let able = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    (!able).then_some("mounting is not allowed here")
}

impl Dockerd {
    /// Starts one that keeps everything in the new folder `dir`.
    pub fn start(dir: &Path) -> Dockerd {
        std::fs::create_dir_all(dir).expect("a folder");
        let path = |name: &str| dir.join(name).display().to_string();
        std::fs::write(path("daemon.json"), "{}").expect("writes");
        let log = std::fs::File::create(path("log")).expect("a log");
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$@\"", "sh"])
            .args(["dockerd", "--config-file", &path("daemon.json"), "--data-root", &path("data")])
            .args([
                "--exec-root",
                &path("exec"),
                "--pidfile",
                &path("pid"),
                "--host",
                &format!("unix://{}", path("sock")),
            ])
            .args(["--storage-driver=vfs", "--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("unshare starts");
        let engine = Dockerd { child, dir: dir.to_owned() };
        let started = Instant::now();
        while !engine.docker(&["version"]).status.success() {
            let log = std::fs::read_to_string(path("log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(60), "dockerd does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        engine
    }

    /// As `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.join("sock").display())
    }

    /// Runs docker's command.
    pub fn docker(&self, args: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", &self.dir).stdin(Stdio::null());
        command.output().expect("docker runs")
    }

    /// The same; it must succeed. Gives what it printed.
    pub fn done(&self, args: &[&str]) -> String {
        let output = self.docker(args);
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // It ends its containerd too, where it is asked to and not killed.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
