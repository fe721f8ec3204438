//! Where an image comes from: a registry, or one of the local transports the field already uses.
//!
//! Grammar and normalisation are those of the CNCF distribution's `reference` package (`nginx` means
//! `docker.io/library/nginx:latest`); the transports are spelled as in `containers-transports(5)`.

use std::fmt;

/// A parsed image reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageReference {
    /// `registry/repository[:tag][@digest]`
    Registry(RegistryReference),
    /// `oci:DIR[:tag]`: an OCI image layout in a folder.
    OciDir { path: String, tag: Option<String> },
    /// `oci-archive:FILE[:tag]`: a tar file that holds an OCI image layout.
    OciArchive { path: String, tag: Option<String> },
    /// `docker-archive:FILE[:NAME[:TAG]|:@INDEX]`: what `docker save` writes. The reference is as it was given: a name,
    /// or `@` and the image's place in the file, from 0.
    DockerArchive { path: String, reference: Option<String> },
    /// `docker-daemon:NAME[:TAG]|sha256:ID`: an image in a running Docker engine. The name has a tag or a digest,
    /// `latest` where none was given.
    DockerDaemon { name: String },
}

/// An image in a registry, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryReference {
    /// Host with optional port; `docker.io` where the reference names none.
    pub registry: String,
    /// Repository path, lower case; `library/` is added on Docker Hub.
    pub repository: String,
    /// Tag; `latest` where neither tag nor digest is given, `None` with a digest alone.
    pub tag: Option<String>,
    /// `sha256:` and 64 hex digits.
    pub digest: Option<String>,
}

const DOCKER_HUB: &str = "docker.io";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

impl ImageReference {
    /// Parses a reference.
    ///
    /// # Errors
    /// A sentence fragment that says what is wrong, without the reference itself: `the tag is empty`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        if let Some(bad) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("it contains {bad:?}"));
        }
        match text.split_once(':') {
            Some(("oci", rest)) => {
                let (path, tag) = path_and_tag("oci", rest)?;
                Ok(ImageReference::OciDir { path, tag })
            }
            Some(("oci-archive", rest)) => {
                let (path, tag) = path_and_tag("oci-archive", rest)?;
                Ok(ImageReference::OciArchive { path, tag })
            }
            Some(("docker-archive", rest)) => {
                let (path, reference) = path_and_tag("docker-archive", rest)?;
                reference.as_deref().map_or(Ok(()), check_archive_reference)?;
                Ok(ImageReference::DockerArchive { path, reference })
            }
            Some(("docker-daemon", name)) => Ok(ImageReference::DockerDaemon { name: daemon_name(name)? }),
            _ => RegistryReference::parse(text.strip_prefix("docker://").unwrap_or(text)).map(ImageReference::Registry),
        }
    }

    /// Whether only this machine can read the image, so that no cluster could pull it.
    pub fn is_local_only(&self) -> bool {
        !matches!(self, ImageReference::Registry(_))
    }
}

impl RegistryReference {
    /// Parses the name of an image in a registry.
    ///
    /// # Errors
    /// As [`ImageReference::parse`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(check_digest(digest)?)),
            None => (text, None),
        };
        // A first component is a host when it could not be a repository: it has a dot, a port or an upper-case
        // letter, or it is `localhost`.
        let (registry, rest) = match rest.split_once('/') {
            Some((host, rest))
                if host.contains(['.', ':']) || host == "localhost" || host.chars().any(|c| c.is_ascii_uppercase()) =>
            {
                check_host(host)?;
                (host, rest)
            }
            _ => (DOCKER_HUB, rest),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(check_tag(tag)?)),
            None => (rest, None),
        };
        check_repository(repository)?;
        let registry = if registry == "index.docker.io" { DOCKER_HUB } else { registry };
        let repository = if registry == DOCKER_HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if registry.len() + 1 + repository.len() > NAME_MAX {
            return Err(format!("the name has more than {NAME_MAX} characters"));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(RegistryReference { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl fmt::Display for RegistryReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, tag) = match self {
            ImageReference::Registry(reference) => return reference.fmt(f),
            ImageReference::DockerDaemon { name } => return write!(f, "docker-daemon:{name}"),
            ImageReference::OciDir { path, tag } => ("oci", path, tag),
            ImageReference::OciArchive { path, tag } => ("oci-archive", path, tag),
            ImageReference::DockerArchive { path, reference } => ("docker-archive", path, reference),
        };
        write!(f, "{transport}:{path}")?;
        tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

/// What chooses an image of a `docker-archive:`.
fn check_archive_reference(reference: &str) -> Result<(), String> {
    match reference.strip_prefix('@') {
        Some(index) if index.parse::<usize>().is_ok() => Ok(()),
        Some(index) => Err(format!("the image's place {index:?} behind @ is not a number, from 0")),
        None if reference.contains('@') => {
            Err("an image in a docker-archive: has a name and a tag, no digest".to_owned())
        }
        None => RegistryReference::parse(reference).map(drop),
    }
}

/// The name of an image in a Docker engine, with the tag that docker adds by itself.
fn daemon_name(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("docker-daemon: needs a name behind it".to_owned());
    }
    if name.starts_with("sha256:") {
        return check_digest(name);
    }
    let RegistryReference { tag, digest, .. } = RegistryReference::parse(name)?;
    let is_tagged = digest.is_some() || tag.is_some_and(|tag| name.ends_with(&format!(":{tag}")));
    Ok(if is_tagged { name.to_owned() } else { format!("{name}:latest") })
}

fn path_and_tag(transport: &str, rest: &str) -> Result<(String, Option<String>), String> {
    let (path, tag) = match rest.split_once(':') {
        Some((_, "")) => return Err("the tag is empty".to_owned()),
        Some((path, tag)) => (path, Some(tag.to_owned())),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(format!("{transport}: needs a path behind it"));
    }
    Ok((path.to_owned(), tag))
}

/// Checks the `HOST[:PORT]` of a registry.
///
/// # Errors
/// A sentence fragment that says what is wrong.
pub fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("the registry's port in {host:?} is not a number from 0 to 65535"));
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if name.split('.').all(label) { Ok(()) } else { Err(format!("the registry {host:?} is not a host name")) }
}

fn check_repository(repository: &str) -> Result<(), String> {
    if repository.is_empty() {
        return Err("the repository is empty".to_owned());
    }
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!("the repository {repository:?} must be lower case"));
    }
    // path-component := alphanumeric ((`.` | `_` | `__` | `-`*) alphanumeric)*
    let component = |component: &str| {
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let separator = |run: &str| matches!(run, "" | "." | "_" | "__") || run.chars().all(|c| c == '-');
        component.starts_with(alphanumeric)
            && component.ends_with(alphanumeric)
            && component.split(alphanumeric).all(separator)
    };
    if repository.split('/').all(component) {
        Ok(())
    } else {
        Err(format!("the repository {repository:?} may hold a-z, 0-9, single separators . _ __ - inside, and /"))
    }
}

fn check_tag(tag: &str) -> Result<String, String> {
    if tag.is_empty() {
        return Err("the tag is empty".to_owned());
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if tag.len() > TAG_MAX || !tag.starts_with(word) || !tag.chars().all(|c| word(c) || matches!(c, '.' | '-')) {
        return Err(format!("the tag {tag:?} must be 1 to {TAG_MAX} of A-Z a-z 0-9 _ . - and not begin with . or -"));
    }
    Ok(tag.to_owned())
}

fn check_digest(digest: &str) -> Result<String, String> {
    let hex = digest.strip_prefix("sha256:").unwrap_or("");
    if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(digest.to_owned())
    } else {
        Err(format!("the digest {digest:?} must be sha256: and 64 lower-case hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        ImageReference::parse(text).unwrap_or_else(|why| panic!("{text}: {why}")).to_string()
    }

    #[test]
    fn names_are_normalised_as_docker_does() {
        assert_eq!(parsed("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(parsed("acme/app"), "docker.io/acme/app:latest");
        assert_eq!(parsed("localhost/app:1"), "localhost/app:1");
        assert_eq!(parsed("localhost:5000/a/b__c:x"), "localhost:5000/a/b__c:x");
        assert_eq!(parsed("index.docker.io/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(parsed("ghcr.io/acme/connector:2026-05-17"), "ghcr.io/acme/connector:2026-05-17");
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(parsed(&format!("q.io/a@{digest}")), format!("q.io/a@{digest}"));
        assert_eq!(parsed(&format!("q.io/a:t@{digest}")), format!("q.io/a:t@{digest}"));
    }

    #[test]
    fn local_transports_keep_path_and_tag() {
        let dir = ImageReference::OciDir { path: "./img".into(), tag: Some("v1".into()) };
        assert_eq!(ImageReference::parse("oci:./img:v1"), Ok(dir.clone()));
        assert!(dir.is_local_only());
        assert_eq!(parsed("oci-archive:/a/b.tar"), "oci-archive:/a/b.tar");
        assert_eq!(parsed("docker-archive:/a/b.tar:nginx:1"), "docker-archive:/a/b.tar:nginx:1");
        assert_eq!(parsed("docker-archive:b.tar:@1"), "docker-archive:b.tar:@1");
        assert_eq!(parsed("docker-daemon:nginx:1"), "docker-daemon:nginx:1");
        assert_eq!(parsed("docker-daemon:q.io:5000/a/b"), "docker-daemon:q.io:5000/a/b:latest");
        let id = format!("docker-daemon:sha256:{}", "b".repeat(64));
        assert_eq!(parsed(&id), id);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "empty"),
            ("a b", "' '"),
            ("nginx:", "tag is empty"),
            ("nginx:-x", "the tag"),
            ("q.io/Upper", "lower case"),
            ("a//b", "repository"),
            ("a..b", "repository"),
            ("a_-b", "repository"),
            ("q.io/", "repository is empty"),
            ("q.io:99999/a", "port"),
            ("-x.io/a", "host name"),
            ("a@sha256:abc", "64"),
            ("oci:", "needs a path"),
            ("oci:x:", "tag is empty"),
            ("docker-archive:", "needs a path"),
            ("docker-archive:x:@a", "not a number"),
            ("docker-archive:x:Nginx", "lower case"),
            ("docker-archive:x:a@sha256:1", "no digest"),
            ("docker-daemon:", "needs a name"),
            ("docker-daemon:sha256:12", "64"),
            ("docker-daemon:a b", "' '"),
            ("docker-daemon:a?b", "may hold"),
        ] {
            let why = ImageReference::parse(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
