//! Makes a filter of the policy: a program of the kernel's packet filter (seccomp(2)), by the build script, so that a start
//! only hands it over.
//!
//! A call's number is found by halving, not one after the other: the kernel tries each number once when it takes the
//! filter, and a start waits for that.

use super::policy::Condition;

/// One instruction, as `struct sock_filter`: operation, jumps where true and where false, operand.
pub type Instruction = (u16, u8, u8, u32);

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Where `struct seccomp_data` has them. Of the argument the lower half, which is all that these calls look at.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
const EPERM: u32 = 0x0005_0001; // SECCOMP_RET_ERRNO | EPERM
const ENOSYS: u32 = 0x0005_0026; // SECCOMP_RET_ERRNO | ENOSYS

pub const X86_64: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
pub const I386: u32 = 0x4000_0003; // AUDIT_ARCH_I386

/// What becomes of a call.
#[derive(Clone, Copy)]
pub enum Action {
    Allow,
    Refuse,
    /// As if this kernel had no such call.
    Missing,
    If(Condition),
}

/// The calls of an architecture that are not just refused, by their numbers.
pub struct Table {
    pub architecture: u32,
    pub calls: Vec<(u32, Action)>,
}

/// The whole filter. Whatever is of no architecture here is missing.
pub fn filter(tables: &[Table]) -> Vec<Instruction> {
    let mut program = vec![(LOAD, 0, 0, ARCHITECTURE)];
    for table in tables {
        let body = numbers(&table.calls);
        program.push((EQUAL, 1, 0, table.architecture));
        program.push((JUMP, 0, 0, body.len() as u32));
        program.extend(body);
    }
    program.push((RETURN, 0, 0, ENOSYS));
    program
}

/// From a number to what becomes of it. Numbers above those that are known are of newer kernels: programs that are ready
/// for an older one go on without them, as they would not if they were forbidden.
fn numbers(calls: &[(u32, Action)]) -> Vec<Instruction> {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|(number, _)| *number);
    let mut ranges: Vec<(u32, Action)> = vec![(0, Action::Refuse)];
    let mut begin = |number: u32, action: Action| match ranges.last_mut() {
        Some((_, Action::Allow)) if matches!(action, Action::Allow) => {}
        Some(last) if last.0 == number => last.1 = action,
        _ => ranges.push((number, action)),
    };
    for (at, (number, action)) in calls.iter().enumerate() {
        begin(*number, *action);
        match calls.get(at + 1) {
            Some((next, _)) if *next == number + 1 => {}
            Some(_) => begin(number + 1, Action::Refuse),
            None => begin(number + 1, Action::Missing),
        }
    }
    let mut program = vec![(LOAD, 0, 0, NUMBER)];
    program.extend(halve(&ranges));
    program
}

fn halve(ranges: &[(u32, Action)]) -> Vec<Instruction> {
    if let [(_, action)] = ranges {
        return settle(*action);
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let (from, lower, upper) = (upper[0].0, halve(lower), halve(upper));
    let mut program = match u8::try_from(lower.len()) {
        Ok(over) => vec![(AT_LEAST, over, 0, from)],
        // Further than a condition can jump.
        Err(_) => vec![(AT_LEAST, 0, 1, from), (JUMP, 0, 0, lower.len() as u32)],
    };
    program.extend(lower);
    program.extend(upper);
    program
}

fn settle(action: Action) -> Vec<Instruction> {
    let end = |answer: u32| (RETURN, 0, 0, answer);
    let load = (LOAD, 0, 0, FIRST_ARGUMENT);
    match action {
        Action::Allow => vec![end(ALLOW)],
        Action::Refuse => vec![end(EPERM)],
        Action::Missing => vec![end(ENOSYS)],
        Action::If(Condition::NoneOf(bits)) => vec![load, (ANY_BIT, 0, 1, bits), end(EPERM), end(ALLOW)],
        Action::If(Condition::Not(value)) => vec![load, (EQUAL, 0, 1, value), end(EPERM), end(ALLOW)],
        Action::If(Condition::OneOf(values)) => {
            let mut program = vec![load];
            for value in values {
                program.extend([(EQUAL, 0, 1, *value), end(ALLOW)]);
            }
            program.push(end(EPERM));
            program
        }
    }
}
