//! The tools that rules are written with: where one is, what was expected, what was found.
//!
//! Whoever takes options from a user checks them with these too: find every problem, then [`Issues::finish`].

use super::raw::Raw;
use super::suggest::did_you_mean;
use crate::error::{Issue, PathSegment, Report};
use std::fmt::Write;

/// Where a rule looks. A chain through the callers' frames, so that a valid document costs no allocation.
#[derive(Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub const ROOT: At<'static> = At { parent: None, segment: Segment::Root };

    pub fn key(&'a self, key: &'a str) -> At<'a> {
        At { parent: Some(self), segment: Segment::Key(key) }
    }

    pub fn index(&'a self, index: usize) -> At<'a> {
        At { parent: Some(self), segment: Segment::Index(index) }
    }

    fn path(&self) -> Vec<PathSegment> {
        let mut path = self.parent.map_or_else(Vec::new, At::path);
        match self.segment {
            Segment::Root => {}
            Segment::Key(key) => path.push(key.into()),
            Segment::Index(index) => path.push(index.into()),
        }
        path
    }
}

/// Every problem found so far.
#[derive(Default)]
pub struct Issues(pub Vec<Issue>);

impl Issues {
    /// Notes a problem; the returned issue may be given a hint.
    pub fn add(&mut self, at: &At, code: &str, message: impl Into<String>) -> &mut Issue {
        self.0.push(Issue::new(at.path(), code, message));
        self.0.last_mut().expect("just pushed")
    }

    /// Something that must be given was not.
    pub fn missing(&mut self, at: &At) -> &mut Issue {
        self.add(at, "invalid_type", "required, but not given")
    }

    /// A value of another kind than `expected`.
    pub fn wrong_type(&mut self, at: &At, expected: &str, found: &Raw) -> &mut Issue {
        self.add(at, "invalid_type", format!("expected {expected}, received {}", found.kind()))
    }

    /// A word that is none of the `allowed`.
    pub fn not_one_of(&mut self, at: &At, allowed: &[&str], found: &str) -> &mut Issue {
        let message = format!(
            "expected {}, received {}{}",
            any_of(allowed),
            quote(found),
            suggestion(found, allowed.iter().copied())
        );
        self.add(at, "invalid_value", message)
    }

    /// The fields of an object; anything else is an issue.
    pub fn object<'r>(&mut self, at: &At, raw: &'r Raw) -> Option<&'r [(String, Raw)]> {
        match raw {
            Raw::Object(fields) => Some(fields),
            other => {
                self.wrong_type(at, "object", other);
                None
            }
        }
    }

    /// The fields of an object that may have only the `known` keys.
    pub fn object_of<'r>(&mut self, at: &At, raw: &'r Raw, known: &[&str]) -> Option<&'r [(String, Raw)]> {
        let fields = self.object(at, raw)?;
        self.known_keys(at, fields, known);
        Some(fields)
    }

    /// An issue for every key that is not known. A key whose value is undefined is as good as absent.
    pub fn known_keys(&mut self, at: &At, fields: &[(String, Raw)], known: &[&str]) {
        for (key, value) in fields {
            if !known.contains(&key.as_str()) && *value != Raw::Undefined {
                let message = format!("unrecognized key {}{}", quote(key), suggestion(key, known.iter().copied()));
                self.add(at, "unrecognized_keys", message);
            }
        }
    }

    /// The items of an array; anything else is an issue.
    pub fn array<'r>(&mut self, at: &At, raw: &'r Raw) -> Option<&'r [Raw]> {
        match raw {
            Raw::Array(items) => Some(items),
            other => {
                self.wrong_type(at, "array", other);
                None
            }
        }
    }

    pub fn boolean(&mut self, at: &At, raw: &Raw) -> Option<bool> {
        match raw {
            Raw::Bool(value) => Some(*value),
            other => {
                self.wrong_type(at, "boolean", other);
                None
            }
        }
    }

    /// A string without NUL bytes, which no path, argument or variable of an operating system can hold.
    pub fn string<'r>(&mut self, at: &At, raw: &'r Raw) -> Option<&'r str> {
        match raw {
            Raw::String(text) if text.contains('\0') => {
                self.add(at, "invalid_value", "contains a NUL byte");
                None
            }
            Raw::String(text) => Some(text),
            other => {
                self.wrong_type(at, "string", other);
                None
            }
        }
    }

    /// A string that is not empty.
    pub fn text<'r>(&mut self, at: &At, raw: &'r Raw) -> Option<&'r str> {
        let text = self.string(at, raw)?;
        if text.is_empty() {
            self.add(at, "too_small", "expected at least 1 character, received an empty string");
            return None;
        }
        Some(text)
    }

    /// The text of a key that must be there.
    pub fn required_text<'r>(&mut self, fields: &'r [(String, Raw)], key: &str, at: &At) -> Option<&'r str> {
        let at = at.key(key);
        match field(fields, key) {
            Some(raw) => self.text(&at, raw),
            None => {
                self.missing(&at);
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub fn integer(&mut self, at: &At, raw: &Raw, least: u32, most: u32) -> Option<u32> {
        let Raw::Number(number) = raw else {
            self.wrong_type(at, "number", raw);
            return None;
        };
        let expected = format!("expected a whole number from {least} to {most}, received {number}");
        let code = match *number {
            n if n < f64::from(least) => "too_small",
            n if n > f64::from(most) => "too_big",
            n if n.fract() != 0.0 => "invalid_value",
            n => return Some(n as u32),
        };
        self.add(at, code, expected);
        None
    }

    /// An id: 1 to `most` of `A-Z a-z 0-9 _ -`.
    pub fn id<'r>(&mut self, at: &At, raw: Option<&'r Raw>, most: usize) -> Option<&'r str> {
        let Some(raw) = raw.filter(|raw| **raw != Raw::Undefined) else {
            self.missing(at);
            return None;
        };
        let id = self.text(at, raw)?;
        if !id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
            let message = format!("expected only letters, digits, _ and -, received {}", quote(id));
            self.add(at, "invalid_value", message);
            return None;
        }
        if id.len() > most {
            self.add(at, "too_big", format!("expected at most {most} characters, received {}", id.len()));
            return None;
        }
        Some(id)
    }

    /// The one error for everything found, or the value when nothing was.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`, status 400, with every issue and a message that lists them.
    pub fn finish<T>(self, value: Option<T>, kind: &str, id: Option<&str>) -> Result<T, Report> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(report(self.0, kind, id)),
        }
    }
}

/// The fields' value of `key`; undefined counts as absent.
pub fn field<'r>(fields: &'r [(String, Raw)], key: &str) -> Option<&'r Raw> {
    fields.iter().find(|(name, _)| name == key).map(|(_, value)| value).filter(|value| **value != Raw::Undefined)
}

/// `; did you mean "x"?`, or nothing.
pub fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    did_you_mean(word, candidates).map_or_else(String::new, |near| format!("; did you mean {}?", quote(near)))
}

/// `"a", "b" or "c"`.
pub fn any_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// A user's word in quotes, cut where it is too long for a message.
pub fn quote(word: &str) -> String {
    const MOST: usize = 80;
    match word.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{:?}…", &word[..cut]),
        None => format!("{word:?}"),
    }
}

/// `VALIDATION_ERROR` for a document with the given issues; `kind` is `Daemon`, `Stack` …
pub fn report(issues: Vec<Issue>, kind: &str, id: Option<&str>) -> Report {
    // The contract allows 16,384 characters; what does not fit is counted, and every issue is in `issues`.
    const MOST: usize = 15_000;
    let name = id.map_or_else(String::new, |id| format!(" {}", quote(id)));
    let count = issues.len();
    let mut message = format!("{kind}{name} is invalid ({count} problem{}):", if count == 1 { "" } else { "s" });
    for (shown, issue) in issues.iter().enumerate() {
        let mut line = format!("\n  {}{}", path_text(&issue.path), issue.message);
        if let Some(hint) = &issue.hint {
            let _ = write!(line, " ({hint})");
        }
        if message.len() + line.len() > MOST {
            let _ = write!(message, "\n  … and {} more", count - shown);
            break;
        }
        message.push_str(&line);
    }
    let mut report = Report::new("VALIDATION_ERROR", message).status(400);
    if let Some(id) = id {
        report = match kind {
            "Stack" => report.with("stackId", id),
            _ => report.with("resourceId", id).with("resourceType", kind.to_lowercase()),
        };
    }
    report.issues = issues;
    report
}

/// What a message calls the options of a call.
pub const OPTIONS: &str = "The options object";

/// `resources.api.links[0]: `; a key that a dot would not suit is written in brackets.
fn path_text(path: &[PathSegment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            PathSegment::Index(index) => {
                let _ = write!(text, "[{index}]");
            }
            PathSegment::Key(key)
                if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-*$".contains(&b)) =>
            {
                let _ = write!(text, "{}{key}", if text.is_empty() { "" } else { "." });
            }
            PathSegment::Key(key) => {
                let _ = write!(text, "[{}]", quote(key));
            }
        }
    }
    if !text.is_empty() {
        text.push_str(": ");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_lists_every_problem_with_its_path() {
        let mut issues = Issues::default();
        let links = At::ROOT.key("links");
        issues.wrong_type(&links.index(0), "object", &Raw::Null);
        issues.missing(&At::ROOT.key("a b")).hint = Some("give it".to_owned());
        let report = issues.finish::<()>(None, "Daemon", Some("d")).unwrap_err();
        assert_eq!(
            report.message,
            "Daemon \"d\" is invalid (2 problems):\n  links[0]: expected object, received null\n  [\"a b\"]: required, but not given (give it)"
        );
        assert_eq!((report.code.as_str(), report.http_status_code), ("VALIDATION_ERROR", 400));
        assert_eq!(report.context["resourceId"], "d");
    }

    #[test]
    fn a_message_stays_within_the_contract_and_no_issue_is_lost() {
        let mut issues = Issues::default();
        for n in 0..5_000 {
            issues.missing(&At::ROOT.index(n));
        }
        let report = issues.finish::<()>(None, "Stack", None).unwrap_err();
        assert!(report.message.len() < 16_384);
        assert!(report.message.ends_with(" more"), "{}", report.message);
        assert_eq!(report.issues.len(), 5_000);
    }
}
