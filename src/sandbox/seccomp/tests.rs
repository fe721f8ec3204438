//! The filter that was built, asked as the kernel asks it.

use super::FILTER;
use super::compile::{Action, I386, Instruction, Table, X86_64, filter};
use super::policy::{ALLOWED, CONDITIONAL, Condition, MISSING};
use proptest::prelude::*;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// What a filter says of a call. Every instruction of it must be a known one, and every jump must stay inside.
fn ask(program: &[Instruction], architecture: u32, number: u32, argument: u32) -> u32 {
    let (mut at, mut loaded) = (0, 0);
    loop {
        let (code, yes, no, operand) = program[at];
        at += 1;
        let over = |is_so: bool| usize::from(if is_so { yes } else { no });
        match code {
            0x20 => loaded = [number, architecture, 0, 0, argument][operand as usize / 4],
            0x05 => at += operand as usize,
            0x15 => at += over(loaded == operand),
            0x35 => at += over(loaded >= operand),
            0x45 => at += over(loaded & operand != 0),
            0x06 => return operand,
            other => panic!("no such operation: {other:#x}"),
        }
    }
}

fn built(number: libc::c_long, argument: u32) -> u32 {
    let program: Vec<Instruction> = FILTER.iter().map(|one| (one.code, one.jt, one.jf, one.k)).collect();
    ask(&program, X86_64, number as u32, argument)
}

#[test]
fn ordinary_calls_are_allowed_and_those_that_reach_the_kernels_own_things_are_not() {
    for number in
        [libc::SYS_read, libc::SYS_openat, libc::SYS_execve, libc::SYS_rseq, libc::SYS_faccessat2, libc::SYS_chroot]
    {
        assert_eq!(built(number, 0), ALLOW, "{number}");
    }
    for number in [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_userfaultfd,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_open_by_handle_at,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_syslog,
        libc::SYS_iopl,
        libc::SYS_settimeofday,
        libc::SYS_io_uring_setup,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_mount_setattr,
        libc::SYS_pidfd_getfd,
    ] {
        assert_eq!(built(number, 0), EPERM, "{number}");
    }
    assert_eq!(built(libc::SYS_clone3, 0), ENOSYS);
    assert_eq!(built(5000, 0), ENOSYS, "one of a kernel that is yet to come");
    assert_eq!(built(0x4000_0000, 0), ENOSYS, "x32");
}

#[test]
fn a_call_is_in_one_list_only() {
    let others = CONDITIONAL.iter().map(|(name, _)| *name).chain(MISSING);
    let mut all: Vec<&str> = ALLOWED.split_whitespace().chain(others).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn some_calls_are_allowed_with_some_arguments() {
    assert_eq!(built(libc::SYS_clone, libc::CLONE_VM as u32 | libc::CLONE_THREAD as u32), ALLOW);
    for namespace in
        [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWPID, libc::CLONE_NEWNET, libc::CLONE_NEWCGROUP]
    {
        assert_eq!(built(libc::SYS_clone, (namespace | libc::SIGCHLD) as u32), EPERM);
    }
    assert_eq!(built(libc::SYS_socket, libc::AF_UNIX as u32), ALLOW);
    assert_eq!(built(libc::SYS_socket, libc::AF_VSOCK as u32), EPERM);
    assert_eq!(built(libc::SYS_personality, 0xffff_ffff), ALLOW);
    assert_eq!(built(libc::SYS_personality, 0x40_0000), EPERM);
}

#[test]
fn programs_of_32_bits_are_held_to_the_same_and_others_have_no_calls_at_all() {
    let program: Vec<Instruction> = FILTER.iter().map(|one| (one.code, one.jt, one.jf, one.k)).collect();
    // read, mount, clone3 of i386; read of ARM.
    assert_eq!(ask(&program, I386, 3, 0), ALLOW);
    assert_eq!(ask(&program, I386, 21, 0), EPERM);
    assert_eq!(ask(&program, I386, 435, 0), ENOSYS);
    assert_eq!(ask(&program, 0x4000_0028, 3, 0), ENOSYS);
    assert!(program.len() < 4096, "the most that a kernel takes (BPF_MAXINSNS)");
}

/// What is to become of a call, by the policy read in the plainest way.
fn plainly(calls: &[(u32, Action)], number: u32, argument: u32) -> u32 {
    let last = calls.iter().map(|(number, _)| *number).max();
    match calls.iter().find(|(its, _)| *its == number).map(|(_, action)| *action) {
        Some(Action::Allow) => ALLOW,
        Some(Action::Missing) => ENOSYS,
        Some(Action::Refuse) => EPERM,
        Some(Action::If(condition)) => {
            let fits = match condition {
                Condition::NoneOf(bits) => argument & bits == 0,
                Condition::OneOf(values) => values.contains(&argument),
                Condition::Not(value) => argument != value,
            };
            if fits { ALLOW } else { EPERM }
        }
        None if Some(number) > last => ENOSYS,
        None => EPERM,
    }
}

proptest! {
    #[test]
    fn a_filter_says_what_its_policy_says(
        chosen in prop::collection::btree_map(1u32..700, 0usize..6, 1..400),
        asked in prop::collection::vec((0u32..800, prop_oneof![Just(40u32), Just(8), any::<u32>()]), 1..200),
    ) {
        let action = |kind: usize| match kind {
            3..6 => Action::If(CONDITIONAL[kind - 3].1),
            2 => Action::Missing,
            _ => Action::Allow,
        };
        let calls: Vec<(u32, Action)> = chosen.iter().map(|(number, kind)| (*number, action(*kind))).collect();
        let empty = Table { architecture: 1, calls: vec![(9, Action::Allow)] };
        let program = filter(&[empty, Table { architecture: X86_64, calls: calls.clone() }]);
        for (number, argument) in asked {
            prop_assert_eq!(ask(&program, X86_64, number, argument), plainly(&calls, number, argument));
        }
        prop_assert_eq!(ask(&program, 1, 9, 0), ALLOW);
    }
}
