//! A program for tests: it does what its arguments say, one after the other, and then sleeps until it is ended.
//!
//! Built by plain `rustc`, statically, so that an image needs nothing but this one file (tools/lib/test-image.mjs).
//!
//! Tells:     `print=TEXT` `err=TEXT` `env` `cwd` `ids` `hostname` `argv` `mounts` `procs` `list=DIR` `read=FILE`
//! Writes:    `write=FILE:TEXT` `append=FILE:TEXT` `count` (adds to /runs, tells the sum)
//! Prints:    `long=BYTES` `bytes` (no UTF-8) `flood=LINES` `tick=MS` (for ever) `unended=TEXT` (without a line's end)
//! Ends:      `exit=CODE` `crash=SIGNAL` `upto=RUNS:CODE` (exits while it has run at most so often)
//! Reads:     `cat` (tells standard input, to its end) `tty` (whether it has a terminal, and how large, once that is known)
//! Asks:      `call=NUMBER[:ARGUMENT]` (a system call, with zeros behind; tells its errno, 0 where it was done)
//! Takes:     `eat=BYTES` (memory, all of it really) `spin` (a processor, for ever)
//! Signals:   `ignore=SIGNAL` `catch` (tells which signal came, exits with 0) `catch=MS` (takes so long over it)
//! Processes: `orphan=TEXT` (a grandchild that sleeps, in a session of its own) `zombies=COUNT` (orphans that end)
//! Time:      `wait=MS` `until=FILE` (it is there) `ready` (sd_notify(3)) `sleep`
//! Itself:    `fork-ready` (READY=1 from a child)

use std::ffi::{c_int, c_long};
use std::fs::{self, File};
use std::io::{Write, stdout};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

unsafe extern "C" {
    fn fork() -> c_int;
    fn setsid() -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn getpid() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
    fn pause() -> c_int;
    fn ioctl(fd: c_int, request: std::ffi::c_ulong, ...) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

const SIGNALS: &[(&str, c_int)] = &[
    ("SIGHUP", 1), ("SIGINT", 2), ("SIGQUIT", 3), ("SIGABRT", 6), ("SIGKILL", 9), ("SIGUSR1", 10), ("SIGSEGV", 11),
    ("SIGUSR2", 12), ("SIGTERM", 15),
];

/// One write for one line, so that lines of several processes do not mix.
fn say(text: impl AsRef<[u8]>) {
    let mut line = text.as_ref().to_vec();
    line.push(b'\n');
    let mut out = stdout();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        exit(99);
    }
}

fn millis(text: &str) -> Duration {
    Duration::from_millis(text.parse().expect("milliseconds"))
}

fn number(name: &str) -> c_int {
    SIGNALS.iter().find(|(known, _)| *known == name).expect("a signal's name").1
}

fn forever() -> ! {
    loop {
        unsafe { pause() };
    }
}

static mut LINGER: Duration = Duration::ZERO;

extern "C" fn caught(number: c_int) {
    let name = SIGNALS.iter().find(|(_, known)| *known == number).map_or("?", |(name, _)| name);
    // Not async-signal-safe, and good enough here: the main thread sleeps.
    say(format!("got {name}"));
    sleep(unsafe { LINGER });
    say("done");
    exit(0)
}

fn catch(linger: Duration) {
    unsafe { LINGER = linger };
    for (name, number) in SIGNALS {
        if !matches!(*name, "SIGKILL" | "SIGSEGV" | "SIGABRT") {
            unsafe { signal(*number, caught as *const () as usize) };
        }
    }
}

/// A child, forgotten by its parent: it belongs to pid 1 from then on.
fn orphan(work: impl FnOnce()) {
    match unsafe { fork() } {
        0 => {
            if unsafe { fork() } == 0 {
                unsafe { setsid() };
                work();
            }
            exit(0)
        }
        child => unsafe { waitpid(child, std::ptr::null_mut(), 0) },
    };
}

fn ready() {
    let Ok(name) = std::env::var("NOTIFY_SOCKET") else { return say("no NOTIFY_SOCKET") };
    let address = SocketAddr::from_abstract_name(name.trim_start_matches('@')).expect("an abstract name");
    let socket = UnixDatagram::unbound().expect("a socket");
    if let Err(error) = socket.connect_addr(&address).and_then(|()| socket.send(b"STATUS=up\nREADY=1\n")) {
        say(format!("ready: {error}"));
    }
}

fn list(dir: &str) {
    match fs::read_dir(dir) {
        Ok(entries) => {
            let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            say(format!("list {dir}: {}", names.join(" ")));
        }
        Err(error) => say(format!("list {dir}: {:?}", error.kind())),
    }
}

fn put(file: &str, text: &str, append: bool) {
    let mut options = File::options();
    let open = if append { options.append(true) } else { options.write(true).truncate(true) };
    match open.create(true).open(file).and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => say(format!("wrote {file}")),
        Err(error) => say(format!("write {file}: {:?}", error.kind())),
    }
}

/// How often this program has run in this root.
fn runs(add: u32) -> u32 {
    let runs = fs::read_to_string("/runs").ok().and_then(|text| text.parse().ok()).unwrap_or(0) + add;
    fs::write("/runs", runs.to_string()).expect("write /runs");
    runs
}

fn status_field(pid: &str, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or("?").split_whitespace().collect::<Vec<_>>().join(",")
}

fn pids() -> Vec<u32> {
    let mut pids: Vec<u32> =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

fn procs() {
    let states: Vec<String> =
        pids().iter().map(|pid| format!("{pid}:{}", &status_field(&pid.to_string(), "State")[..1])).collect();
    say(format!("procs {}", states.join(" ")));
}

fn main() {
    let argv: Vec<String> = std::env::args().collect();
    for step in &argv[1..] {
        let (what, with) = step.split_once('=').unwrap_or((step, ""));
        match what {
            "print" => say(with),
            "err" => eprintln!("{with}"),
            "env" => {
                let mut all: Vec<(String, String)> = std::env::vars().collect();
                all.sort();
                all.iter().for_each(|(name, value)| say(format!("env {name}={value}")));
                say("env end");
            }
            "cwd" => say(format!("cwd {}", std::env::current_dir().unwrap().display())),
            "ids" => {
                let of = |field| status_field("self", field);
                say(format!("ids uid={} gid={} groups={} caps={} nnp={}", of("Uid"), of("Gid"), of("Groups"), of("CapEff"), of("NoNewPrivs")));
            }
            "hostname" => say(format!("hostname {}", fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim())),
            "argv" => say(format!("argv {argv:?}")),
            "pid" => say(format!("pid {}", unsafe { getpid() })),
            "mounts" => {
                let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
                mounts.lines().for_each(|line| say(format!("mount {line}")));
                say("mount end");
            }
            "procs" => procs(),
            "list" => list(with),
            "read" => match fs::read(with) {
                Ok(bytes) => say([format!("read {with}: ").as_bytes(), &bytes].concat()),
                Err(error) => say(format!("read {with}: {:?}", error.kind())),
            },
            "write" | "append" => {
                let (file, text) = with.split_once(':').expect("FILE:TEXT");
                put(file, text, what == "append");
            }
            "count" => say(format!("run {}", runs(1))),
            "long" => say("x".repeat(with.parse().expect("a number of bytes"))),
            "bytes" => say(b"\xff\xfe \x00 \xc3\x28 end"),
            "unended" => {
                let _ = stdout().write_all(with.as_bytes());
                let _ = stdout().flush();
            }
            "flood" => {
                let lines: u64 = with.parse().expect("a number of lines");
                let mut out = std::io::BufWriter::with_capacity(64 * 1024, stdout());
                (1..=lines).for_each(|n| writeln!(out, "flood {n} of {lines} {}", "-".repeat(60)).unwrap());
                out.flush().unwrap();
            }
            "tick" => {
                for number in 1u64.. {
                    say(format!("tick {number}"));
                    sleep(millis(with));
                }
            }
            "spin" => loop {
                std::hint::spin_loop();
            },
            "exit" => exit(with.parse().expect("an exit code")),
            "upto" => {
                let (most, code) = with.split_once(':').expect("RUNS:CODE");
                if runs(1) <= most.parse().unwrap() {
                    exit(code.parse().unwrap());
                }
            }
            // Process 1 of a container cannot be ended by a signal that it sends itself, only by a fault of its own.
            "crash" if with == "SIGSEGV" => unsafe {
                signal(number(with), 0);
                std::ptr::without_provenance_mut::<u8>(8).write_volatile(1);
            },
            "crash" => unsafe {
                signal(number(with), 0);
                kill(getpid(), number(with));
            },
            "cat" => {
                let _ = std::io::copy(&mut std::io::stdin(), &mut stdout());
            }
            "tty" => {
                let mut size = [0u16; 4];
                let mut known = unsafe { ioctl(0, 0x5413, &raw mut size) } == 0;
                // Its size may come a little later than it does.
                for _ in 0..1000 {
                    if !known || size[0] > 0 {
                        break;
                    }
                    sleep(Duration::from_millis(10));
                    known = unsafe { ioctl(0, 0x5413, &raw mut size) } == 0;
                }
                say(if known { format!("tty {}x{}", size[1], size[0]) } else { "tty none".to_owned() });
            }
            "call" => {
                let mut numbers = with.split(':').map(|part| part.parse().expect("a number"));
                let (number, argument) = (numbers.next().expect("a call's number"), numbers.next().unwrap_or(0));
                let result = unsafe { syscall(number, argument, 0 as c_long, 0 as c_long, 0 as c_long, 0 as c_long, 0 as c_long) };
                let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
                say(format!("call {with}: {}", if result < 0 { error } else { 0 }));
            }
            "eat" => {
                let bytes = vec![1u8; with.parse().expect("a number of bytes")];
                std::mem::forget(std::hint::black_box(bytes));
            }
            "ignore" => unsafe {
                signal(number(with), 1);
            },
            "catch" => catch(if with.is_empty() { Duration::ZERO } else { millis(with) }),
            "orphan" => orphan(|| {
                say(format!("orphan {with}"));
                unsafe { signal(number("SIGTERM"), 1) };
                forever()
            }),
            "zombies" => {
                let before = pids();
                (0..with.parse().expect("a number")).for_each(|_| orphan(|| ()));
                // Pid 1 reaps them when it gets to it.
                for _ in 0..500 {
                    if pids().iter().all(|pid| before.contains(pid)) {
                        break;
                    }
                    sleep(Duration::from_millis(10));
                }
            }
            "wait" => sleep(millis(with)),
            "until" => {
                while fs::symlink_metadata(with).is_err() {
                    sleep(Duration::from_millis(20));
                }
            }
            "ready" => ready(),
            "fork-ready" => orphan(|| {
                ready();
                forever()
            }),
            "sleep" => forever(),
            other => {
                eprintln!("no such step: {other}");
                exit(98)
            }
        }
    }
    forever()
}
