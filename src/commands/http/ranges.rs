//! Headers about the bytes of a body: which of them are wanted (RFC 9110), and what they are (RFC 9530).

use super::Answer;
use axum::http::HeaderMap;
use axum::http::header::{IF_RANGE, RANGE};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Which bytes of a body are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    All,
    /// From the first to the last, both included.
    Part {
        first: u64,
        last: u64,
    },
    /// It has none of them.
    None,
}

/// Which bytes a request wants of a body with this size and entity tag. What asks for several ranges, or for something else
/// than bytes, gets all.
pub fn wanted(headers: &HeaderMap, size: u64, tag: &str) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(ranges) = text(RANGE).and_then(|range| range.strip_prefix("bytes=")) else { return Wanted::All };
    if text(IF_RANGE).is_some_and(|given| given != tag) || ranges.contains(',') {
        return Wanted::All;
    }
    let Some((first, last)) = ranges.trim().split_once('-') else { return Wanted::All };
    let number = |text: &str| text.parse::<u64>().ok();
    let (first, last) = match (first, last) {
        // So many at the end.
        ("", count) => match number(count) {
            Some(count) => (size.saturating_sub(count), size.saturating_sub(1)),
            None => return Wanted::All,
        },
        (first, "") => match number(first) {
            Some(first) => (first, size.saturating_sub(1)),
            None => return Wanted::All,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.min(size.saturating_sub(1))),
            _ => return Wanted::All,
        },
    };
    if first >= size { Wanted::None } else { Wanted::Part { first, last } }
}

/// The SHA-256 that a request says its body has, in `Repr-Digest` or `Content-Digest`; digests of other kinds are passed over.
///
/// # Errors
/// 400 for one that is none.
pub fn said(headers: &HeaderMap) -> Result<Option<[u8; 32]>, Answer> {
    for name in ["repr-digest", "content-digest"] {
        let all = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        for member in all.flat_map(|value| value.split(',')) {
            let Some((algorithm, value)) = member.trim().split_once('=') else { continue };
            if !algorithm.eq_ignore_ascii_case("sha-256") {
                continue;
            }
            let base64 = value.strip_prefix(':').and_then(|value| value.split_once(':')).map(|(base64, _)| base64);
            let bytes = base64.and_then(|base64| STANDARD.decode(base64).ok());
            let digest = bytes.and_then(|bytes| bytes.try_into().ok());
            let none = || Answer::invalid(format!("{name} is not as RFC 9530 has it: sha-256=:BASE64:"));
            return digest.map(Some).ok_or_else(none);
        }
    }
    Ok(None)
}

/// As `Repr-Digest` has it.
pub fn digest(sha256: &[u8; 32]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha256))
}
