//! Names that are made from ids.

use sha2::{Digest, Sha256};

/// The longest DNS-1123 label.
const LABEL_MAX: usize = 63;
/// Hex digits of the hash: 32 bits, for the few ids of one stack.
const HASH_LEN: usize = 8;

/// The variable that a linked resource arrives in: `ALIEN_<ID>_BINDING`, upper case, `-` as `_`.
pub fn binding_variable(id: &str) -> String {
    format!("ALIEN_{}_BINDING", id.to_ascii_uppercase().replace('-', "_"))
}

/// What a resource is called in a cluster: `<stack>-<id>`, made a DNS-1123 label.
///
/// When anything had to be changed or cut, eight hex digits of the SHA-256 of `<stack>/<id>` stand at the end, so that
/// `a_b` and `a-b`, or two long ids with one beginning, stay apart. The same ids give the same name for ever.
pub fn kubernetes_name(stack: &str, id: &str) -> String {
    let plain = format!("{stack}-{id}");
    let made: String = plain
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect::<String>()
        .trim_matches('-')
        .to_owned();
    if made == plain && made.len() <= LABEL_MAX {
        return made;
    }
    let hash: String = Sha256::digest(format!("{stack}/{id}")).iter().map(|byte| format!("{byte:02x}")).collect();
    let room = LABEL_MAX - HASH_LEN - 1;
    let kept = made[..made.len().min(room)].trim_end_matches('-');
    let separator = if kept.is_empty() { "" } else { "-" };
    format!("{kept}{separator}{}", &hash[..HASH_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_is_kept() {
        assert_eq!(kubernetes_name("edge", "connector"), "edge-connector");
        let id = "a".repeat(LABEL_MAX - 2);
        assert_eq!(kubernetes_name("s", &id), format!("s-{id}"));
    }

    #[test]
    fn every_other_name_is_a_label_of_its_own() {
        let long = "x".repeat(200);
        let mut seen = std::collections::HashSet::new();
        for id in ["a_b", "a-b", "A-b", "a-b-", "-", "_", &long, &format!("{long}y")] {
            let name = kubernetes_name("s", id);
            let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.len() <= LABEL_MAX && name.chars().all(label), "{name}");
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
            assert!(seen.insert(name.clone()), "{id} became {name}, which is taken");
        }
        assert_eq!(kubernetes_name("-", "_").len(), HASH_LEN);
    }

    #[test]
    fn binding_variables_are_upper_case_words() {
        assert_eq!(binding_variable("my-bucket_1"), "ALIEN_MY_BUCKET_1_BINDING");
    }
}
