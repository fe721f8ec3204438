//! The names that Kubernetes takes (Kubernetes documentation, "Object Names and IDs").

/// The longest DNS-1123 label.
const LABEL_MAX: usize = 63;
/// The longest DNS-1123 subdomain.
const SUBDOMAIN_MAX: usize = 253;

/// What a message calls a legal label.
pub const LABEL: &str = "at most 63 lower-case letters, digits and -, a letter or digit at either end";
/// What a message calls a legal subdomain.
pub const SUBDOMAIN: &str = "at most 253 lower-case letters, digits, - and ., a letter or digit at either end";

/// Whether it is a DNS-1123 label: the name of a namespace.
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=LABEL_MAX).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether it is a DNS-1123 subdomain: the name of a Secret.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_MAX && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_what_is_none() {
        for name in ["a", "0", "kube-system", &"a".repeat(LABEL_MAX)] {
            assert!(is_label(name) && is_subdomain(name), "{name}");
        }
        for text in ["", "-a", "a-", "A", "a_b", "ä", " a", &"a".repeat(LABEL_MAX + 1)] {
            assert!(!is_label(text) && !is_subdomain(text), "{text}");
        }
        assert!(is_subdomain("a.b-c.d") && !is_label("a.b") && !is_subdomain("a..b") && !is_subdomain("a."));
    }
}
