//! The image's `USER`, looked up in the image's own `/etc/passwd` and `/etc/group` (passwd(5), group(5)).

use super::Failure;
use super::ids::Ids;

/// Who the program runs as.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, without `gid`.
    pub groups: Vec<u32>,
    /// Home folder; `/` where the image names none.
    pub home: String,
}

/// Resolves `user` (`""`, `name`, `uid`, each with an optional `:group` or `:gid`) against the files' contents.
///
/// As in an engine: a number need not be in the files; a name must be. Without a group it is the user's own, or
/// root's; supplementary groups are the user's own, unless a group was named.
pub fn resolve(user: &str, passwd: &str, group: &str, ids: &Ids) -> Result<Identity, Failure> {
    let (name, wanted_group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let entry = entries(passwd)
        .find(|fields| fields[0] == name || number.is_some_and(|n| fields.get(2).is_some_and(|f| f.parse() == Ok(n))));
    let field = |index: usize| entry.as_ref().and_then(|fields| fields.get(index).copied());
    let uid = field(2).and_then(|uid| uid.parse().ok()).or(number).ok_or_else(|| {
        Failure::new("IMAGE_USER_UNKNOWN", format!("the image's user {name:?} is not in its /etc/passwd"))
            .hint("name a user of the image, or a number, in its USER")
    })?;
    let own_gid = field(3).and_then(|gid| gid.parse().ok()).unwrap_or(0);
    let gid = match wanted_group {
        None | Some("") => own_gid,
        Some(wanted) => entries(group)
            .find(|fields| fields[0] == wanted)
            .and_then(|fields| fields.get(2)?.parse().ok())
            .or_else(|| wanted.parse().ok())
            .ok_or_else(|| {
                Failure::new("IMAGE_USER_UNKNOWN", format!("the image's group {wanted:?} is not in its /etc/group"))
                    .hint("name a group of the image, or a number, in its USER")
            })?,
    };
    let login = field(0).filter(|_| wanted_group.is_none());
    let mut groups: Vec<u32> = entries(group)
        .filter(|fields| {
            login.is_some_and(|login| fields.get(3).is_some_and(|members| members.split(',').any(|m| m == login)))
        })
        .filter_map(|fields| fields.get(2)?.parse().ok())
        .filter(|id| *id != gid)
        .collect();
    groups.dedup();
    if !ids.has_user(uid) || !ids.has_group(gid) {
        return Err(Failure::new(
            "IMAGE_USER_UNMAPPED",
            format!("the image runs as user {uid}, group {gid}, which this account cannot become"),
        )
        .hint("install `uidmap` and give this account subordinate ids (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME`), or deploy as root"));
    }
    groups.retain(|id| ids.has_group(*id));
    let home = field(5).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Ok(Identity { uid, gid, groups, home })
}

fn entries(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().filter(|line| !line.starts_with('#') && line.contains(':')).map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nbad\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\naudio:x:29:app,other\nvideo:x:44:other\n";

    fn who(user: &str) -> (u32, u32, Vec<u32>, String) {
        let identity = resolve(user, PASSWD, GROUP, &Ids::Identity).unwrap();
        (identity.uid, identity.gid, identity.groups, identity.home)
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(who(""), (0, 0, vec![], "/root".into()));
        assert_eq!(who("app"), (1000, 1001, vec![29], "/home/app".into()));
        assert_eq!(who("1000"), (1000, 1001, vec![29], "/home/app".into()));
        assert_eq!(who("app:video"), (1000, 44, vec![], "/home/app".into()));
        assert_eq!(who("4242"), (4242, 0, vec![], "/".into()));
        assert_eq!(who("4242:77"), (4242, 77, vec![], "/".into()));
    }

    #[test]
    fn an_unknown_name_says_where_it_was_looked_for() {
        let failure = resolve("nope", PASSWD, GROUP, &Ids::Identity).unwrap_err();
        assert_eq!(failure.message, "the image's user \"nope\" is not in its /etc/passwd");
        let failure = resolve("app:nope", PASSWD, GROUP, &Ids::Identity).unwrap_err();
        assert_eq!(failure.message, "the image's group \"nope\" is not in its /etc/group");
    }

    #[test]
    fn a_user_that_is_not_mapped_names_the_fix() {
        let failure = resolve("app", PASSWD, GROUP, &Ids::Single { uid: 1, gid: 1 }).unwrap_err();
        assert_eq!(failure.code, "IMAGE_USER_UNMAPPED");
        assert!(failure.hint.unwrap().contains("uidmap"));
    }
}
