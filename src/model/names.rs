//! Names that are made from ids.

use sha2::{Digest, Sha256};

/// The longest DNS-1123 label, and the longest value of a Kubernetes label.
const LABEL_MAX: usize = 63;
/// Hex digits of the hash: 32 bits, for the few ids of one stack.
const HASH_LEN: usize = 8;

/// The variable that a linked resource arrives in: `ALIEN_<ID>_BINDING`, upper case, `-` as `_`.
pub fn binding_variable(id: &str) -> String {
    format!("ALIEN_{}_BINDING", id.to_ascii_uppercase().replace('-', "_"))
}

/// What a daemon is called in a cluster, as a DNS-1123 label: `<deployment>-<id>`, or with two hyphens between where
/// one of them has a hyphen of its own, so that `a` + `b-c` and `a-b` + `c` stay apart in one namespace.
///
/// When anything had to be changed or cut, eight hex digits of the SHA-256 of `<deployment>/<id>` stand at the end
/// instead, so that `a_b` and `a-b`, or two long ids with one beginning, stay apart. The same ids give the same name
/// for ever.
pub fn kubernetes_name(deployment: &str, id: &str) -> String {
    let hyphens = deployment.contains('-') || id.contains('-');
    let plain = format!("{deployment}{}{id}", if hyphens { "--" } else { "-" });
    let parts_are_clear = [deployment, id]
        .iter()
        .all(|part| !part.contains("--") && !part.starts_with('-') && !part.ends_with('-') && is_lower(part));
    let hash_like = id.rsplit('-').next().is_some_and(looks_like_hash);
    if parts_are_clear && plain.len() <= LABEL_MAX && !hash_like {
        return plain;
    }
    hashed(&plain.to_ascii_lowercase(), &format!("{deployment}/{id}"))
}

/// An id as the value of a Kubernetes label: itself where that is legal, else with a hash as above.
///
/// Legal (Kubernetes documentation, "Labels and Selectors"): at most 63 letters, digits, `-`, `_` and `.`, a letter or
/// digit at either end.
pub fn label(id: &str) -> String {
    let ends = |id: &str| id.starts_with(char::is_alphanumeric) && id.ends_with(char::is_alphanumeric);
    let cut_like = id.rsplit_once('-').is_some_and(|(_, end)| looks_like_hash(end));
    if id.len() <= LABEL_MAX && ends(id) && !cut_like {
        return id.to_owned();
    }
    hashed(id, id)
}

fn is_lower(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The first digits of the SHA-256 in hex: tells things apart that nobody chose to be alike.
pub fn fingerprint(bytes: impl AsRef<[u8]>, digits: usize) -> String {
    let mut hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

/// Whether it could be the hash of something else.
fn looks_like_hash(text: &str) -> bool {
    text.len() == HASH_LEN && text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

/// As much of `text` as there is room for, and the hash of `whole`.
fn hashed(text: &str, whole: &str) -> String {
    let made: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let hash = fingerprint(whole, HASH_LEN);
    let made = made.trim_matches('-');
    let kept = made[..made.len().min(LABEL_MAX - HASH_LEN - 1)].trim_end_matches('-');
    let separator = if kept.is_empty() { "" } else { "-" };
    format!("{kept}{separator}{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_name_that_fits_is_kept() {
        assert_eq!(kubernetes_name("edge", "connector"), "edge-connector");
        assert_eq!(kubernetes_name("my-edge", "log-shipper"), "my-edge--log-shipper");
        let id = "a".repeat(LABEL_MAX - 2);
        assert_eq!(kubernetes_name("s", &id), format!("s-{id}"));
    }

    #[test]
    fn every_other_name_is_a_label_of_its_own() {
        let long = "x".repeat(200);
        let mut seen = HashSet::new();
        for id in
            ["a_b", "a-b", "a--b", "A-b", "a-b-", "-", "_", "deadbeef", "a-b-deadbeef", &long, &format!("{long}y")]
        {
            let name = kubernetes_name("s", id);
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.len() <= LABEL_MAX && name.chars().all(legal), "{name}");
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
            assert!(seen.insert(name.clone()), "{id} became {name}, which is taken");
        }
        assert_eq!(kubernetes_name("-", "_").len(), HASH_LEN);
    }

    #[test]
    fn no_two_deployments_share_a_name() {
        let parts = ["a", "b", "c", "a-b", "b-c", "a--b", "b--c", "a-b-c", "a_b", "A", "-a", "a-", "12345678"];
        let mut seen = HashSet::new();
        for deployment in parts {
            for id in parts {
                let name = kubernetes_name(deployment, id);
                assert!(seen.insert(name.clone()), "{deployment} + {id} became {name}, which is taken");
            }
        }
    }

    #[test]
    fn every_id_is_a_label_value_of_its_own() {
        let long = "x".repeat(128);
        let mut seen = HashSet::new();
        for id in ["a", "A", "a_b", "a-b", "_a", "-a", "a_", "-", "_", "a-12345678", &long, &format!("{long}y")] {
            let value = label(id);
            assert!(value.len() <= LABEL_MAX && value.starts_with(char::is_alphanumeric), "{value}");
            assert!(value.ends_with(char::is_alphanumeric) && seen.insert(value.clone()), "{id} became {value}");
        }
        assert_eq!(label("my_Id-1"), "my_Id-1");
    }

    #[test]
    fn binding_variables_are_upper_case_words() {
        assert_eq!(binding_variable("my-bucket_1"), "ALIEN_MY_BUCKET_1_BINDING");
    }
}
