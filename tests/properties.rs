//! What must hold for any text that users, images and the environment can hand to a parser.

use alien_core::model::{ImageReference, Quantity, RegistryReference, Stack};
use alien_core::sys::{signal, time};
use proptest::prelude::*;
use std::time::Duration;

proptest! {
    /// Whatever is accepted is written so that it means the same again.
    #[test]
    fn an_image_reference_survives_being_written(text in r"([a-z0-9.:-]{1,12}/)?[a-z0-9_./-]{1,20}(:[A-Za-z0-9_.-]{0,10})?") {
        if let Ok(reference) = ImageReference::parse(&text) {
            prop_assert_eq!(ImageReference::parse(&reference.to_string()), Ok(reference));
        }
    }

    /// No text makes the parser panic, and none that it takes holds a character that would break a URL or a path.
    #[test]
    fn any_text_is_taken_or_refused_as_an_image(text in any::<String>()) {
        if let Ok(ImageReference::Registry(RegistryReference { registry, repository, tag, digest })) = ImageReference::parse(&text) {
            let parts = format!("{registry}{repository}{}{}", tag.unwrap_or_default(), digest.unwrap_or_default());
            prop_assert!(parts.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:/".contains(&b)), "{}", parts);
            prop_assert!(!repository.split('/').any(|part| part.is_empty() || part == "." || part == ".."));
        }
    }

    #[test]
    fn a_signal_survives_its_name(number in 1..=64) {
        // 32 and 33 are the C library's own and have no name.
        prop_assume!(!(32..=33).contains(&number));
        prop_assert_eq!(signal::parse(&signal::name(number)), Some(number));
    }

    #[test]
    fn any_text_is_a_signal_or_none(text in any::<String>()) {
        if let Some(number) = signal::parse(&text) {
            prop_assert!((1..=64).contains(&number));
        }
    }

    #[test]
    fn times_sort_as_text(a in 0u64..=4_000_000_000_000_000_000, b in 0u64..=4_000_000_000_000_000_000) {
        let [ta, tb] = [a, b].map(|nanos| time::rfc3339(Duration::from_nanos(nanos)));
        prop_assert_eq!(ta.len(), 30);
        prop_assert_eq!(a.cmp(&b), ta.cmp(&tb));
    }

    #[test]
    fn any_text_is_a_quantity_or_is_told_why_not(text in any::<String>()) {
        if let Ok(quantity) = Quantity::parse(&text) {
            prop_assert_eq!(quantity.as_str(), text.as_str());
        }
    }

    /// A document from elsewhere is a stack or a list of problems, never a panic.
    #[test]
    fn any_document_is_a_stack_or_is_told_why_not(id in ".{0,5}", key in ".{0,8}", value in ".{0,8}", deep in 0usize..80) {
        let nested = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        let text = format!(
            r#"{{"id":{id:?},"resources":{{{key:?}:{{"config":{{"id":{value:?},"type":"daemon","code":{nested}}},"lifecycle":"live"}}}}}}"#
        );
        if let Err(report) = Stack::from_text(&text) {
            prop_assert!(!report.message.is_empty());
        }
    }
}
