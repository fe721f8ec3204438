use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::str::FromStr;

#[path = "src/sandbox/seccomp"]
mod seccomp {
    pub mod compile;
    pub mod policy;
}

use seccomp::compile::{Action, I386, Table, X86_64, filter};
use seccomp::policy::{ALLOWED, CONDITIONAL, MISSING};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/sandbox/seccomp");
    let of_x86_64 = |name: &str| syscalls::x86_64::Sysno::from_str(name).ok().map(|number| number.id() as u32);
    let of_i386 = |name: &str| syscalls::x86::Sysno::from_str(name).ok().map(|number| number.id() as u32);
    for name in ALLOWED.split_whitespace() {
        assert!(of_x86_64(name).or(of_i386(name)).is_some(), "there is no system call {name}");
    }
    let tables = [table(X86_64, of_x86_64), table(I386, of_i386)];
    let program = filter(&tables);
    let mut text = format!("static FILTER: [libc::sock_filter; {}] = [\n", program.len());
    for (code, jt, jf, k) in program {
        let _ = writeln!(text, "libc::sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},");
    }
    text.push_str("];\n");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("seccomp.rs"), text).expect("the build folder can be written");
    // Only the addon talks to Node; the helper is an ordinary program.
    if std::env::var_os("CARGO_FEATURE_ADDON").is_some() {
        napi_build::setup();
    }
}

fn table(architecture: u32, number: impl Fn(&str) -> Option<u32>) -> Table {
    let allowed = ALLOWED.split_whitespace().map(|name| (name, Action::Allow));
    let conditional = CONDITIONAL.iter().map(|(name, condition)| (*name, Action::If(*condition)));
    let missing = MISSING.iter().map(|name| (*name, Action::Missing));
    let all = allowed.chain(conditional).chain(missing);
    let calls: BTreeMap<u32, Action> = all.filter_map(|(name, action)| Some((number(name)?, action))).collect();
    Table { architecture, calls: calls.into_iter().collect() }
}
