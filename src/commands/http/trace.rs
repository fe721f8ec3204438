//! The caller's trace (W3C Trace Context, Level 1), which is passed on to the handler as it came.

use axum::http::HeaderMap;

/// Members of `tracestate` that must be passed on have this many bytes together (section 3.3.1.5).
const STATE_MAX: usize = 512;

/// `traceparent` and `tracestate`. What is no trace is left out, and without a trace there is no state of one.
pub fn trace(headers: &HeaderMap) -> (Option<String>, Option<String>) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(parent) = text("traceparent").filter(|parent| is_trace(parent)) else { return (None, None) };
    // It may come in several headers, which are one list.
    let parts = headers.get_all("tracestate").iter().map(|value| value.to_str().unwrap_or_default().trim());
    let state = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",");
    let fits = !state.is_empty() && state.len() <= STATE_MAX;
    (Some(parent.to_owned()), fits.then_some(state))
}

/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions may have more behind it.
fn is_trace(text: &str) -> bool {
    let mut fields = text.split('-');
    let mut field = |length: usize| {
        let field = fields.next().unwrap_or_default();
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (field.len() == length && field.bytes().all(hex)).then_some(field)
    };
    let (Some(version), Some(trace), Some(parent), Some(_)) = (field(2), field(32), field(16), field(2)) else {
        return false;
    };
    let not_zero = |field: &str| field.bytes().any(|byte| byte != b'0');
    version != "ff" && not_zero(trace) && not_zero(parent) && (version != "00" || text.len() == 55) && text.len() <= 256
}
