//! Which of an image's platforms this machine can run.
//!
//! Names are Go's (`GOOS`, `GOARCH`), as the OCI image index specification asks; the order of preference among
//! variants is containerd's: the machine's own, then older ones it can still run.

use super::manifest::{Descriptor, PlatformFields};
use std::fmt;

/// An operating system, an architecture and, on ARM, its variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`: the sandbox that runs the image is Linux's.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, `riscv64`, …
    pub architecture: String,
    /// `v8`, `v7`, …; empty where the architecture has none.
    pub variant: String,
}

impl Platform {
    /// This machine's.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// Where `offered` stands in this machine's order of preference, 0 being best; `None` when it cannot run.
    pub(super) fn rank(&self, offered: &PlatformFields) -> Option<u32> {
        if offered.os != self.os || offered.architecture != self.architecture {
            return None;
        }
        let offered = offered.variant.as_deref().unwrap_or("");
        let number = |variant: &str| variant.strip_prefix('v').and_then(|v| v.parse::<u32>().ok());
        match (number(&self.variant), number(offered)) {
            _ if offered == self.variant => Some(0),
            (_, None) if offered.is_empty() => Some(1),
            // amd64/v2 and later need instructions that not every machine has; nothing here asks the processor.
            (None, Some(1)) => Some(0),
            (Some(own), Some(other)) if other < own => Some(1 + own - other),
            _ => None,
        }
    }

    /// The best manifest of an index, the first among equals.
    pub(super) fn choose<'a>(&self, manifests: &'a [Descriptor]) -> Option<&'a Descriptor> {
        let ranked = manifests.iter().filter_map(|m| Some((self.rank(m.platform.as_ref()?)?, m)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, manifest)| manifest)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(own: (&str, &str), offered: (&str, &str)) -> Option<u32> {
        let own = Platform { os: "linux".into(), architecture: own.0.into(), variant: own.1.into() };
        let variant = (!offered.1.is_empty()).then(|| offered.1.to_owned());
        own.rank(&PlatformFields { os: "linux".into(), architecture: offered.0.into(), variant })
    }

    #[test]
    fn the_nearest_variant_that_can_run_wins() {
        assert_eq!(rank(("amd64", ""), ("amd64", "")), Some(0));
        assert_eq!(rank(("amd64", ""), ("amd64", "v1")), Some(0));
        assert_eq!(rank(("amd64", ""), ("amd64", "v3")), None);
        assert_eq!(rank(("amd64", ""), ("arm64", "")), None);
        assert_eq!(rank(("arm64", "v8"), ("arm64", "")), Some(1));
        assert_eq!(rank(("arm", "v7"), ("arm", "v7")), Some(0));
        assert_eq!(rank(("arm", "v7"), ("arm", "v6")), Some(2));
        assert_eq!(rank(("arm", "v7"), ("arm", "v8")), None);
    }
}
