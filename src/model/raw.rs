//! A value as a user gave it, before anything is known about it.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A JavaScript value with its kind kept, so that a message can say "expected string, received undefined".
///
/// As text it is JSON, in which a value that JSON has no word for is an object with the single key
/// U+0000 and the kind as value: `{"\u0000":"undefined"}`. A real key that begins with U+0000 is written with
/// one more of them. `js/raw.js` is the writer. Objects keep the order of their keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    Undefined,
    Null,
    Bool(bool),
    /// Always finite: NaN and the infinities are [`Raw::Other`].
    Number(f64),
    String(String),
    Array(Vec<Raw>),
    Object(Vec<(String, Raw)>),
    /// What no document can hold, by name: `function`, `symbol`, `bigint`, `NaN`, `Date`, `unbuilt Daemon`.
    Other(String),
}

const MARK: char = '\0';

impl Raw {
    /// Reads the text of a value.
    ///
    /// # Errors
    /// When the text is not JSON, in serde_json's words with line and column.
    pub fn from_text(text: &str) -> Result<Raw, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What a message calls this kind of value.
    pub fn kind(&self) -> &str {
        match self {
            Raw::Undefined => "undefined",
            Raw::Null => "null",
            Raw::Bool(_) => "boolean",
            Raw::Number(_) => "number",
            Raw::String(_) => "string",
            Raw::Array(_) => "array",
            Raw::Object(_) => "object",
            Raw::Other(kind) => kind,
        }
    }

    /// The value of a key, when this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Raw> {
        match self {
            Raw::Object(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, when this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Raw::String(text) => Some(text),
            _ => None,
        }
    }

    /// The same value as JSON; what JSON cannot hold becomes null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Raw::Undefined | Raw::Null | Raw::Other(_) => Value::Null,
            Raw::Bool(value) => Value::Bool(*value),
            // A whole number is written without ".0", as JavaScript writes it.
            Raw::Number(value) if value.fract() == 0.0 && value.abs() < 9e15 => Value::from(*value as i64),
            Raw::Number(value) => Value::from(*value),
            Raw::String(text) => Value::String(text.clone()),
            Raw::Array(items) => Value::Array(items.iter().map(Raw::to_json).collect()),
            Raw::Object(fields) => {
                Value::Object(fields.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
        }
    }
}

impl From<&serde_json::Value> for Raw {
    fn from(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Raw::Null,
            Value::Bool(value) => Raw::Bool(*value),
            Value::Number(value) => Raw::Number(value.as_f64().unwrap_or_default()),
            Value::String(text) => Raw::String(text.clone()),
            Value::Array(items) => Raw::Array(items.iter().map(Raw::from).collect()),
            Value::Object(fields) => {
                Raw::Object(fields.iter().map(|(key, value)| (key.clone(), Raw::from(value))).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Number(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut fields = Vec::new();
        while let Some((mut key, value)) = map.next_entry::<String, Raw>()? {
            if key.starts_with(MARK) {
                if let (1, Raw::String(kind)) = (key.len(), &value) {
                    let undefined = kind == "undefined";
                    return Ok(if undefined { Raw::Undefined } else { Raw::Other(kind.clone()) });
                }
                key.remove(0);
            }
            fields.push((key, value));
        }
        Ok(Raw::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_json_lacks_survive_the_text() {
        let raw = Raw::from_text(r#"{"a":{"\u0000":"undefined"},"b":{"\u0000":"bigint"},"\u0000\u0000c":1}"#).unwrap();
        assert_eq!(raw.get("a"), Some(&Raw::Undefined));
        assert_eq!(raw.get("b").unwrap().kind(), "bigint");
        assert_eq!(raw.get("\0c"), Some(&Raw::Number(1.0)));
    }

    #[test]
    fn key_order_is_kept() {
        let Raw::Object(fields) = Raw::from_text(r#"{"z":1,"a":2}"#).unwrap() else { panic!() };
        assert_eq!(fields.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["z", "a"]);
    }
}
