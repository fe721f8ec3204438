//! What a daemon runs: an image, or source that is to become one.

use super::check::{At, Issues, field, quote};
use super::image_reference::ImageReference;
use super::raw::Raw;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// A daemon's program.
///
/// JSON: `{"image","type":"image"}` or `{"src","toolchain":{…,"type"},"type":"source"}`.
#[derive(Debug, Clone, PartialEq)]
pub enum Code {
    /// A container image; the text is kept as it was written, and parses as an [`ImageReference`].
    Image { image: String },
    /// A folder and what builds it. Reserved: Local and Kubernetes run images, and preflight says so.
    Source { src: String, toolchain: Toolchain },
}

/// What would build a daemon's source. Fields that were not given are left out of the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Toolchain {
    Rust {
        binary_name: String,
    },
    Typescript {
        #[serde(skip_serializing_if = "Option::is_none")]
        binary_name: Option<String>,
    },
    Docker {
        #[serde(skip_serializing_if = "Option::is_none")]
        build_args: Option<BTreeMap<String, String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dockerfile: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            Code::Image { image } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("image", image)?;
                map.serialize_entry("type", "image")?;
                map.end()
            }
            Code::Source { src, toolchain } => {
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry("src", src)?;
                map.serialize_entry("toolchain", toolchain)?;
                map.serialize_entry("type", "source")?;
                map.end()
            }
        }
    }
}

impl Code {
    pub(super) fn check(raw: &Raw, at: &At, issues: &mut Issues) -> Option<Code> {
        let fields = issues.object(at, raw)?;
        let kind = discriminator(fields, at, issues, &["image", "source"])?;
        if kind == "image" {
            issues.known_keys(at, fields, &["type", "image"]);
            let image = issues.required_text(fields, "image", at)?;
            if let Err(why) = ImageReference::parse(image) {
                issues.add(
                    &at.key("image"),
                    "invalid_value",
                    format!("{} is not an image reference: {why}", quote(image)),
                );
                return None;
            }
            return Some(Code::Image { image: image.to_owned() });
        }
        issues.known_keys(at, fields, &["type", "src", "toolchain"]);
        let src = issues.required_text(fields, "src", at).map(str::to_owned);
        let at = at.key("toolchain");
        let toolchain = match field(fields, "toolchain") {
            Some(raw) => Toolchain::check(raw, &at, issues),
            None => {
                issues.missing(&at);
                None
            }
        };
        Some(Code::Source { src: src?, toolchain: toolchain? })
    }
}

impl Toolchain {
    fn check(raw: &Raw, at: &At, issues: &mut Issues) -> Option<Toolchain> {
        let fields = issues.object(at, raw)?;
        let kind = discriminator(fields, at, issues, &["rust", "typescript", "docker"])?;
        let before = issues.0.len();
        let optional = |key: &'static str, issues: &mut Issues| {
            field(fields, key).and_then(|raw| issues.text(&at.key(key), raw)).map(str::to_owned)
        };
        let toolchain = match kind {
            "rust" => {
                issues.known_keys(at, fields, &["type", "binaryName"]);
                let name = issues.required_text(fields, "binaryName", at);
                Toolchain::Rust { binary_name: name.unwrap_or_default().to_owned() }
            }
            "typescript" => {
                issues.known_keys(at, fields, &["type", "binaryName"]);
                Toolchain::Typescript { binary_name: optional("binaryName", issues) }
            }
            _ => {
                issues.known_keys(at, fields, &["type", "dockerfile", "target", "buildArgs"]);
                let build_args =
                    field(fields, "buildArgs").and_then(|raw| build_args(raw, &at.key("buildArgs"), issues));
                let (dockerfile, target) = (optional("dockerfile", issues), optional("target", issues));
                Toolchain::Docker { build_args, dockerfile, target }
            }
        };
        (issues.0.len() == before).then_some(toolchain)
    }
}

fn build_args(raw: &Raw, at: &At, issues: &mut Issues) -> Option<BTreeMap<String, String>> {
    let mut args = BTreeMap::new();
    for (name, value) in issues.object(at, raw)? {
        if let Some(value) = issues.string(&at.key(name), value) {
            args.insert(name.clone(), value.to_owned());
        }
    }
    Some(args)
}

/// The value of `type`, when it is one of the `allowed`.
fn discriminator<'r>(fields: &'r [(String, Raw)], at: &At, issues: &mut Issues, allowed: &[&str]) -> Option<&'r str> {
    let at = at.key("type");
    match field(fields, "type") {
        Some(Raw::String(kind)) if allowed.contains(&kind.as_str()) => return Some(kind),
        Some(Raw::String(kind)) => issues.not_one_of(&at, allowed, kind),
        found => {
            let found = found.unwrap_or(&Raw::Undefined);
            issues.wrong_type(&at, &super::check::any_of(allowed), found)
        }
    };
    None
}
