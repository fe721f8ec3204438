//! Tries to get out of where it runs, and prints what it reached: one line for each attempt, `NAME: refused` or
//! `NAME: reached`. Nothing that it tries would change anything if it went through.

use std::ffi::{CString, c_int, c_long};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn fork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
}

/// Not allowed, or not there: EPERM, ENOENT, EACCES, ETXTBSY (a program that runs), EROFS, ENOSYS.
const REFUSALS: [i32; 6] = [1, 2, 13, 26, 30, 38];

/// Nobody waits for what may come.
const NONBLOCK: i32 = 0o4000;

fn say(name: &str, reached: bool) {
    println!("{name}: {}", if reached { "reached" } else { "refused" });
}

fn reached<T>(result: io::Result<T>) -> bool {
    result.map_or_else(|error| !REFUSALS.contains(&error.raw_os_error().unwrap_or(0)), |_| true)
}

/// A system call with these arguments, in a process of its own: what goes through must not change what comes after.
fn call(name: &str, number: c_long, arguments: [c_long; 6]) {
    let [a, b, c, d, e, f] = arguments;
    let mut status = 0;
    // SAFETY: the child only makes the call and ends.
    unsafe {
        let pid = fork();
        if pid == 0 {
            let result = syscall(number, a, b, c, d, e, f);
            let refused = result < 0 && REFUSALS.contains(&io::Error::last_os_error().raw_os_error().unwrap_or(0));
            _exit(i32::from(refused))
        }
        waitpid(pid, &raw mut status, 0);
    }
    // A call that ends the process is refused too.
    say(name, status == 0);
}

fn text(text: &str) -> c_long {
    // It has to outlive the call, and the program is short.
    CString::new(text).expect("no NUL").into_raw() as c_long
}

/// Whether there is anything to read: an empty file in its place says nothing.
fn tells(path: &str) {
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path);
    let read = file.and_then(|mut file| io::Read::read(&mut file, &mut [0; 16]));
    say(&format!("read {path}"), read.is_ok_and(|read| read > 0));
}

fn opens_for_writing(path: &str) {
    say(&format!("write {path}"), reached(OpenOptions::new().write(true).open(path)));
}

fn main() {
    for path in ["kcore", "keys", "kmsg", "latency_stats", "sched_debug", "timer_list", "timer_stats", "scsi/scsi", "acpi/wakeup"] {
        tells(&format!("/proc/{path}"));
    }
    for path in ["sysrq-trigger", "sys/kernel/core_pattern", "sys/kernel/modprobe", "sys/vm/drop_caches", "sys/kernel/hostname", "sys/net/ipv4/ip_forward", "irq/0/smp_affinity"] {
        opens_for_writing(&format!("/proc/{path}"));
    }
    for path in ["/sys/kernel/uevent_helper", "/sys/power/state", "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs", "/sys/devices/system/cpu/cpu1/online"] {
        opens_for_writing(path);
    }
    for folder in ["/sys/firmware", "/sys/kernel/security", "/sys/kernel/debug", "/sys/kernel/tracing"] {
        say(&format!("list {folder}"), fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()));
    }
    for path in ["/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/kvm", "/dev/fuse", "/dev/loop-control", "/proc/1/mem", "/proc/1/environ"] {
        tells(path);
    }
    opens_for_writing("/proc/self/exe");
    opens_for_writing("/proc/1/oom_score_adj");
    say("see processes of others", fs::read_dir("/proc").is_ok_and(|entries| {
        let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers.max().unwrap_or(0) > 500
    }));
    say("be without no_new_privs", !status("NoNewPrivs").starts_with('1'));
    say("be without a system call filter", !status("Seccomp").starts_with('2'));
    let capabilities = u64::from_str_radix(&status("CapEff"), 16).unwrap_or(u64::MAX);
    for (bit, name) in CAPABILITIES {
        say(&format!("capability {name}"), capabilities & (1 << bit) != 0);
    }
    let [none, tmpfs, tmp] = [text("none"), text("tmpfs"), text("/tmp")];
    call("mount tmpfs", 165, [none, tmp, tmpfs, 0, 0, 0]);
    call("remount the root", 165, [none, text("/"), none, 0x20 | 0x1000, 0, 0]);
    call("bind the root", 165, [text("/"), tmp, none, 0x1000, 0, 0]);
    call("umount /proc", 166, [text("/proc"), 2, 0, 0, 0, 0]);
    call("umount /sys", 166, [text("/sys"), 2, 0, 0, 0, 0]);
    call("fsopen", 430, [tmpfs, 0, 0, 0, 0, 0]);
    call("open_tree", 428, [-100, text("/"), 1, 0, 0, 0]);
    call("pivot_root", 155, [tmp, tmp, 0, 0, 0, 0]);
    for (name, flag) in [("user", 0x1000_0000), ("mount", 0x2_0000), ("pid", 0x2000_0000), ("net", 0x4000_0000), ("cgroup", 0x0200_0000)] {
        call(&format!("unshare {name}"), 272, [flag, 0, 0, 0, 0, 0]);
    }
    call("clone into a user namespace", 56, [0x1000_0000 | 17, 0, 0, 0, 0, 0]);
    call("enter the namespace of process 1", 308, [open("/proc/1/ns/mnt"), 0, 0, 0, 0, 0]);
    call("open_by_handle_at", 304, [-100, 0, 0, 0, 0, 0]);
    call("make a block device", 259, [-100, text("/tmp/block"), 0o060_600, 0xfe00, 0, 0]);
    call("make a character device", 259, [-100, text("/tmp/mem"), 0o020_600, 0x101, 0, 0]);
    // PTRACE_SEIZE, which does not stop it.
    call("trace process 1", 101, [0x4206, 1, 0, 0, 0, 0]);
    let buffer = Box::into_raw(Box::new([0u8; 8])) as c_long;
    let piece = |address: c_long| Box::into_raw(Box::new([address, 8])) as c_long;
    call("read the memory of process 1", 310, [1, piece(buffer), 1, piece(0x40_0000), 1, 0]);
    call("bpf", 321, [0, 0, 0, 0, 0, 0]);
    call("perf_event_open", 298, [0, 0, -1, -1, 0, 0]);
    call("load a module", 175, [0, 0, text(""), 0, 0, 0]);
    call("load a module's file", 313, [-1, text(""), 0, 0, 0, 0]);
    call("kexec_load", 246, [0, 0, 0, 0, 0, 0]);
    call("reboot", 169, [0, 0, 0, 0, 0, 0]);
    call("set the clock", 227, [99, 0, 0, 0, 0, 0]);
    call("swapoff", 168, [text("/no"), 0, 0, 0, 0, 0]);
    call("acct", 163, [text("/no"), 0, 0, 0, 0, 0]);
    call("iopl", 172, [3, 0, 0, 0, 0, 0]);
    call("ioperm", 173, [0x80, 1, 1, 0, 0, 0]);
    call("add_key", 248, [text("user"), text("k"), text("v"), 1, -4, 0]);
    call("keyctl", 250, [0, -3, 0, 0, 0, 0]);
    call("userfaultfd", 323, [0, 0, 0, 0, 0, 0]);
    call("io_uring_setup", 425, [0, 0, 0, 0, 0, 0]);
    call("syslog", 103, [3, 0, 0, 0, 0, 0]);
    call("quotactl", 179, [0, 0, 0, 0, 0, 0]);
    call("personality", 135, [0x004_0000, 0, 0, 0, 0, 0]);
    call("raise priority", 141, [0, 0, -5, 0, 0, 0]);
    call("packet socket", 41, [17, 3, 0, 0, 0, 0]);
    call("raw socket", 41, [2, 3, 1, 0, 0, 0]);
    call("vsock", 41, [40, 1, 0, 0, 0, 0]);
    call("netlink audit", 41, [16, 3, 9, 0, 0, 0]);
    call("change the root", 161, [tmp, 0, 0, 0, 0, 0]);
    call("set the host name", 170, [text("host"), 4, 0, 0, 0, 0]);
    say("make a program setuid for others", reached(File::create("/tmp/s").and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o6755)))));
}

fn open(path: &str) -> c_long {
    let Ok(file) = File::open(path) else { return -1 };
    std::os::fd::IntoRawFd::into_raw_fd(file).into()
}

/// A field of this process's status (proc_pid_status(5)).
fn status(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// capabilities(7), by number.
const CAPABILITIES: [(u32, &str); 41] = [
    (0, "CHOWN"), (1, "DAC_OVERRIDE"), (2, "DAC_READ_SEARCH"), (3, "FOWNER"), (4, "FSETID"), (5, "KILL"), (6, "SETGID"),
    (7, "SETUID"), (8, "SETPCAP"), (9, "LINUX_IMMUTABLE"), (10, "NET_BIND_SERVICE"), (11, "NET_BROADCAST"),
    (12, "NET_ADMIN"), (13, "NET_RAW"), (14, "IPC_LOCK"), (15, "IPC_OWNER"), (16, "SYS_MODULE"), (17, "SYS_RAWIO"),
    (18, "SYS_CHROOT"), (19, "SYS_PTRACE"), (20, "SYS_PACCT"), (21, "SYS_ADMIN"), (22, "SYS_BOOT"), (23, "SYS_NICE"),
    (24, "SYS_RESOURCE"), (25, "SYS_TIME"), (26, "SYS_TTY_CONFIG"), (27, "MKNOD"), (28, "LEASE"), (29, "AUDIT_WRITE"),
    (30, "AUDIT_CONTROL"), (31, "SETFCAP"), (32, "MAC_OVERRIDE"), (33, "MAC_ADMIN"), (34, "SYSLOG"),
    (35, "WAKE_ALARM"), (36, "BLOCK_SUSPEND"), (37, "AUDIT_READ"), (38, "PERFMON"), (39, "BPF"),
    (40, "CHECKPOINT_RESTORE"),
];
