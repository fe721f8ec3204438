//! Who deploys, and which ids they may hand to a sandbox.

use crate::sandbox::ids::{Ids, Range};
use std::fs;
use std::path::Path;

/// The ids that a sandbox of the calling user gets.
pub fn ids() -> Ids {
    // SAFETY: these calls cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    if uid == 0 {
        return Ids::Identity;
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let name = name_of(uid, &read("/etc/passwd"));
    let range = |file: &str| subordinate(&read(file), uid, name.as_deref());
    let helpers = ["newuidmap", "newgidmap"].iter().all(|helper| installed(helper));
    match (helpers, range("/etc/subuid"), range("/etc/subgid")) {
        (true, Some(uids), Some(gids)) => Ids::Subordinate { uid, gid, uids, gids },
        _ => Ids::Single { uid, gid },
    }
}

fn installed(program: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

/// The name of the calling user, as the machine's name service has it; the number where that has none.
pub fn current() -> String {
    let (uid, mut buffer) = (unsafe { libc::geteuid() }, vec![0; 64 * 1024]);
    let (mut entry, mut found) = (unsafe { std::mem::zeroed::<libc::passwd>() }, std::ptr::null_mut());
    // SAFETY: all of it outlives the call, and the buffer is as long as is said.
    unsafe { libc::getpwuid_r(uid, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
    if found.is_null() {
        return uid.to_string();
    }
    // SAFETY: the name is a terminated string in the buffer.
    unsafe { std::ffi::CStr::from_ptr(entry.pw_name) }.to_string_lossy().into_owned()
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    entry.into_iter().find(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(uid))).map(|f| f[0].to_owned())
}

/// The largest range of `owner:start:count` lines (subuid(5)) that belongs to this account.
fn subordinate(file: &str, uid: u32, name: Option<&str>) -> Option<Range> {
    file.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let range = Range { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
            (owner.parse() == Ok(uid) || Some(owner) == name).then_some(range)
        })
        .max_by_key(|range| range.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_are_found_by_name_or_number() {
        let file = "other:1:5\nann:100000:65536\n1000:200000:10\nbad line\nann:5:6\n";
        assert_eq!(subordinate(file, 1000, Some("ann")), Some(Range { start: 100_000, count: 65_536 }));
        assert_eq!(subordinate(file, 1000, None), Some(Range { start: 200_000, count: 10 }));
        assert_eq!(subordinate(file, 7, Some("bob")), None);
        assert_eq!(name_of(1000, "root:x:0:0::/:\nann:x:1000:1000::/:\n").as_deref(), Some("ann"));
    }
}
