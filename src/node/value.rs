//! The envelope that every answer comes in.

use crate::error::Report;
use serde::Serialize;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Envelope<T> {
    Ok(T),
    Error(Report),
}

/// Runs `work` and answers with its envelope. A panic becomes `INTERNAL_ERROR`: none may cross into Node.
pub fn answer<T: Serialize>(work: impl FnOnce() -> Result<T, Report>) -> String {
    // The closures own or only read what they use, so a panic leaves nothing half-changed behind.
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let message = format!("A bug in @alienplatform/core: {}", text.unwrap_or("a panic without a message"));
        Err(Report::new("INTERNAL_ERROR", message).hint("please report it, with the stack that caused it"))
    });
    envelope(result)
}

/// The envelope of a result.
pub fn envelope<T: Serialize>(result: Result<T, Report>) -> String {
    let envelope = match result {
        Ok(value) => Envelope::Ok(value),
        Err(report) => Envelope::Error(report),
    };
    serde_json::to_string(&envelope).unwrap_or_else(|error| {
        // Only a map with keys that are no strings could fail, and none is made.
        format!(r#"{{"error":{{"code":"INTERNAL_ERROR","message":{:?},"httpStatusCode":500,"internal":false,"retryable":false}}}}"#, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer() {
        let text = answer::<()>(|| panic!("oh {}", "no"));
        assert!(
            text.starts_with(r#"{"error":{"code":"INTERNAL_ERROR","message":"A bug in @alienplatform/core: oh no""#),
            "{text}"
        );
        assert_eq!(answer(|| Ok(1)), r#"{"ok":1}"#);
    }
}
