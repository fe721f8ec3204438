//! The one error that leaves the library: what was wrong, where, and what to do about it.
//!
//! Each floor has its own error enum; at the edge of the floor it becomes a [`Report`], whose JSON is what
//! `js/errors.js` rebuilds as a JavaScript `AlienError` (or `ValidationError`, when it carries issues).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// An error for a person: code and message, with context, a hint and a cause where there is one.
///
/// JSON: `{code, message, context?, hint?, httpStatusCode, internal, issues?, retryable, source?}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Upper snake case, at most 128 characters; what programs compare.
    pub code: String,
    /// What was wrong and where, at most 16,384 characters. Never holds a secret.
    pub message: String,
    /// The facts of the message for programs: path, id, image, exit code.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The HTTP status a server should answer with when it passes this error on; 500 by default.
    pub http_status_code: u16,
    /// Whether the message is only for the operator of the service, not for its callers.
    pub internal: bool,
    /// Every problem found in a document; present exactly for validation errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<Issue>,
    /// Whether the same call may succeed later without a change by the user.
    pub retryable: bool,
    /// What caused this error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Box<Report>>,
}

/// One problem in a document: where, of what kind, and what would have been right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// Keys and indexes from the document's root.
    pub path: Vec<PathSegment>,
    /// zod's vocabulary where a word of it fits: `invalid_type`, `invalid_value`, `invalid_union`,
    /// `too_small`, `too_big`, `unrecognized_keys`, else `custom`.
    pub code: String,
    /// What was expected and what was found.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A step in an [`Issue`]'s path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathSegment {
    /// An index into an array.
    Index(usize),
    /// A key of an object.
    Key(String),
}

impl From<&str> for PathSegment {
    fn from(key: &str) -> Self {
        PathSegment::Key(key.to_owned())
    }
}

impl From<String> for PathSegment {
    fn from(key: String) -> Self {
        PathSegment::Key(key)
    }
}

impl From<usize> for PathSegment {
    fn from(index: usize) -> Self {
        PathSegment::Index(index)
    }
}

impl Issue {
    /// An issue at `path`, with a code of zod's vocabulary.
    pub fn new(path: Vec<PathSegment>, code: &str, message: impl Into<String>) -> Self {
        Issue { path, code: code.to_owned(), message: message.into(), hint: None }
    }

    /// The same issue with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Report {
    /// An error that the user can do something about; not retryable, status 500.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Report {
            code: code.to_owned(),
            message: message.into(),
            context: Map::new(),
            hint: None,
            http_status_code: 500,
            internal: false,
            issues: Vec::new(),
            retryable: false,
            source: None,
        }
    }

    /// The same error with a fact of its message, for programs.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.context.insert(key.to_owned(), value.into());
        self
    }

    /// The same error with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with the HTTP status a server should pass on.
    pub fn status(mut self, status: u16) -> Self {
        self.http_status_code = status;
        self
    }

    /// The same error, marked as one that may go away by itself.
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The same error with its cause.
    pub fn caused_by(mut self, source: Report) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        if let Some(source) = &self.source {
            write!(f, "; caused by {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
