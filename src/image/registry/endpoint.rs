//! Which URL stands for a registry, and what may be sent there.

use crate::image::RegistryOptions;
use crate::image::error::{Error, Result};
use reqwest::Url;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where requests for a registry go.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Scheme, host and prefix, without a slash at the end.
    pub(super) base: String,
    pub(super) url: Url,
    /// The mirror's URL as it was given, where there is one.
    pub(super) mirror: Option<String>,
    /// The name under which credentials for this host are kept: the registry's, or the mirror's own.
    pub(super) credentials_for: String,
    /// A file of certificates to trust besides the system's.
    pub(super) ca_file: Option<PathBuf>,
}

impl Endpoint {
    /// The endpoint for `registry`: its own, or that of a mirror.
    pub(super) fn of(
        registry: &str,
        mirror: Option<&str>,
        all: &BTreeMap<String, RegistryOptions>,
    ) -> Result<Endpoint> {
        let own = all.get(registry);
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let Some(mirror) = mirror else {
            let insecure = own.is_some_and(|options| options.insecure);
            let ca_file = own.and_then(|options| options.ca_file.clone());
            let plain = insecure || (is_loopback_authority(host) && ca_file.is_none());
            let base = format!("{}://{host}", if plain { "http" } else { "https" });
            let url = Url::parse(&base).map_err(|why| Error::Options {
                what: format!("the registry {registry} is not a host: {why}"),
                hint: "check the image's name".to_owned(),
            })?;
            return Ok(Endpoint { base, url, mirror: None, credentials_for: registry.to_owned(), ca_file });
        };
        let hint = || format!("give it as URL of the host: {registry}=http://127.0.0.1:5000");
        let refuse = |what: String| Err(Error::Options { what, hint: hint() });
        // Not echoed before it is known to hold no password.
        let url = match Url::parse(mirror) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            _ => return refuse(format!("the mirror for {registry} is not an http or https URL")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Options {
                what: format!("the mirror for {registry} holds a user or a password in its URL"),
                hint: "give credentials under the mirror's own host, or in the credentials file".to_owned(),
            });
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse(format!("the mirror for {registry} has a query or a fragment: {mirror}"));
        }
        let authority = authority(&url);
        let its_own = all.get(&authority);
        let insecure = [own, its_own].iter().flatten().any(|options| options.insecure);
        if url.scheme() == "http" && !insecure && !is_loopback(&url) {
            return Err(Error::Options {
                what: format!("the mirror {mirror} for {registry} would be asked over plain HTTP"),
                hint: "use https, or allow it with insecure for this registry".to_owned(),
            });
        }
        let ca_file = [its_own, own].iter().flatten().find_map(|options| options.ca_file.clone());
        let credentials_for = if authority == host { registry.to_owned() } else { authority };
        let base = url.as_str().trim_end_matches('/').to_owned();
        let mirror = Some(mirror.to_owned());
        Ok(Endpoint { base, url, mirror, credentials_for, ca_file })
    }

    /// Whether a request that began here may go on to `url` in the clear.
    pub(super) fn allows(&self, url: &Url) -> bool {
        url.scheme() == "https" || (url.scheme() == "http" && (self.url.scheme() == "http" || is_loopback(url)))
    }
}

/// `host[:port]`, the port where it is not the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_loopback_authority(authority: &str) -> bool {
    Url::parse(&format!("http://{authority}")).is_ok_and(|url| is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(registry: &str, mirror: Option<&str>, insecure: bool) -> Result<Endpoint> {
        let options = RegistryOptions { insecure, ..RegistryOptions::default() };
        Endpoint::of(registry, mirror, &BTreeMap::from([(registry.to_owned(), options)]))
    }

    #[test]
    fn loopback_is_plain_and_all_else_is_not_unless_asked() {
        for (registry, base) in [
            ("docker.io", "https://registry-1.docker.io"),
            ("ghcr.io", "https://ghcr.io"),
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.2", "http://127.0.0.2"),
            ("127.0.0.1.evil.com", "https://127.0.0.1.evil.com"),
        ] {
            assert_eq!(endpoint(registry, None, false).expect(registry).base, base);
        }
        assert_eq!(endpoint("q.io:80", None, true).expect("allowed").base, "http://q.io:80");
    }

    #[test]
    fn a_mirror_is_another_host_with_credentials_of_its_own() {
        let mirrored = endpoint("ghcr.io", Some("http://127.0.0.1:5000/proxy/"), false).expect("allowed");
        assert_eq!(mirrored.base, "http://127.0.0.1:5000/proxy");
        assert_eq!(mirrored.credentials_for, "127.0.0.1:5000");
        let same = endpoint("docker.io", Some("https://registry-1.docker.io"), false).expect("allowed");
        assert_eq!(same.credentials_for, "docker.io");
    }

    #[test]
    fn a_wrong_mirror_is_refused_without_its_password() {
        for (mirror, part) in [
            ("127.0.0.1:5000", "not an http"),
            ("ftp://a/", "not an http"),
            ("http://q.io/", "plain HTTP"),
            ("https://me:hunter2@q.io/", "a password"),
            ("https://q.io/?a=b", "query"),
        ] {
            let why = endpoint("ghcr.io", Some(mirror), false).expect_err(mirror).to_string();
            assert!(why.contains(part) && !why.contains("hunter2"), "{why}");
        }
    }
}
