//! What a daemon may do with what it is linked to.

use super::stack::Stack;

/// Rights on the data of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grants {
    pub read: bool,
    pub write: bool,
}

impl Grants {
    pub const NONE: Grants = Grants { read: false, write: false };
    pub const ALL: Grants = Grants { read: true, write: true };

    /// Whether anything is granted at all: without, there is no mount and no variable.
    pub fn any(self) -> bool {
        self.read || self.write
    }
}

impl Stack {
    /// What the daemon `daemon_id` may do with the data of `resource_id`.
    ///
    /// Without a link: nothing. Linked, in a stack without permissions: everything. Else what the daemon's profile
    /// says for the resource's id and for `*`: `<type>/data-read` reads, `<type>/data-write` writes. An inline set
    /// speaks of clouds, and grants nothing here.
    pub fn grants(&self, daemon_id: &str, resource_id: &str) -> Grants {
        let Some(daemon) = self.daemon(daemon_id) else { return Grants::NONE };
        let Some(link) = daemon.links.iter().find(|link| link.id == resource_id) else { return Grants::NONE };
        let Some(permissions) = &self.permissions else { return Grants::ALL };
        let Some(profile) = permissions.profiles.get(&daemon.permissions) else { return Grants::NONE };
        let mut grants = Grants::NONE;
        let sets = ["*", resource_id].into_iter().filter_map(|key| profile.get(key)).flatten();
        for action in sets.filter_map(|set| set.id()?.strip_prefix(link.kind.as_str())?.strip_prefix('/')) {
            grants.read |= action == "data-read";
            grants.write |= action == "data-write";
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(permissions: &str) -> Stack {
        Stack::from_text(&format!(
            r#"{{"id":"s",{permissions}"resources":{{
                "d":{{"config":{{"id":"d","type":"daemon","code":{{"type":"image","image":"i"}},"permissions":"p",
                     "links":[{{"type":"storage","id":"linked"}}]}},"lifecycle":"live"}},
                "linked":{{"config":{{"id":"linked","type":"storage"}},"lifecycle":"frozen"}},
                "other":{{"config":{{"id":"other","type":"storage"}},"lifecycle":"frozen"}}}}}}"#
        ))
        .unwrap_or_else(|report| panic!("{report}"))
    }

    fn grants(profile: &str) -> Grants {
        stack(&format!(r#""permissions":{{"profiles":{{"p":{profile}}}}},"#)).grants("d", "linked")
    }

    #[test]
    fn without_permissions_linked_means_everything() {
        let stack = stack("");
        assert_eq!(stack.grants("d", "linked"), Grants::ALL);
        assert_eq!(stack.grants("d", "other"), Grants::NONE);
        assert_eq!(stack.grants("linked", "other"), Grants::NONE);
    }

    #[test]
    fn a_profile_grants_what_it_says_and_no_more() {
        let read = Grants { read: true, write: false };
        let write = Grants { read: false, write: true };
        assert_eq!(grants("{}"), Grants::NONE);
        assert_eq!(grants(r#"{"linked":["storage/data-read"]}"#), read);
        assert_eq!(grants(r#"{"*":["storage/data-write","kv/data-read"]}"#), write);
        assert_eq!(grants(r#"{"*":["storage/data-read"],"linked":["storage/data-write"]}"#), Grants::ALL);
        assert_eq!(grants(r#"{"other":["storage/data-read"]}"#), Grants::NONE);
        assert_eq!(grants(r#"{"linked":["storage/heartbeat"]}"#), Grants::NONE);
    }
}
