//! Manifests as YAML 1.2: block style, keys in order, every string that could be taken for something else quoted.
//!
//! Written here because the bytes have to be the same for ever, whatever a library thinks of line widths next year.

use serde_json::Value;
use std::fmt::Write as _;

/// One document, without the `---` before it.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text
}

fn write(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, member) in members {
                let _ = write!(out, "{:indent$}{}:", "", scalar(key));
                write_below(out, member, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(out, "{:indent$}-", "");
                match item {
                    // The first key stands beside the dash.
                    Value::Object(members) if !members.is_empty() => {
                        let mut below = String::new();
                        write(&mut below, item, indent + 2);
                        let _ = write!(out, " {}", &below[indent + 2..]);
                    }
                    other => write_below(out, other, indent),
                }
            }
        }
        leaf => {
            let _ = writeln!(out, "{}", leaf_text(leaf));
        }
    }
}

/// What stands behind a `:` or a `-`.
fn write_below(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            write(out, value, indent + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            write(out, value, indent + 2);
        }
        leaf => {
            let _ = writeln!(out, " {}", leaf_text(leaf));
        }
    }
}

fn leaf_text(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// A string: plain where nobody could read it as anything else, as JSON otherwise, which is YAML too.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    // YAML 1.1 readers, of which kubectl is one, know more words for true and false; `e` makes a number of `1e3`, but
    // numbers do not begin with a letter.
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];
    if begins && text.chars().all(plain) && !words.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    let json = Value::from(text).to_string();
    // JSON leaves a few characters as they are that YAML does not allow unescaped, or reads as line ends.
    json.chars()
        .map(|c| match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                format!("\\u{:04x}", c as u32)
            }
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_looks_as_people_write_it() {
        let value = json!({ "a": [{ "name": "x", "env": [] }, "on", ["b"]], "empty": {}, "count": 1, "s": "1", "t": true, "u": "a b" });
        let expected = "a:\n  - env: []\n    name: x\n  - \"on\"\n  -\n    - b\ncount: 1\nempty: {}\ns: \"1\"\nt: true\nu: \"a b\"\n";
        assert_eq!(document(&value), expected);
    }

    proptest::proptest! {
        #[test]
        fn another_reader_reads_the_same(texts in proptest::collection::vec("\\PC{0,12}|[a-z0-9:#&*!|>'\"%@`{}\\[\\], \\n\\t-]{0,12}", 0..6)) {
            let value = json!({ "list": texts, "map": texts.iter().map(|text| (text.clone(), json!({ "k": text }))).collect::<serde_json::Map<_, _>>() });
            let read: Value = serde_saphyr::from_str(&document(&value)).expect("YAML");
            proptest::prop_assert_eq!(read, value);
        }
    }
}
