//! Who a registry is told that we are: from options, else from a Docker or Podman credentials file.
//!
//! Format: Docker's `config.json` (`auths`, `credHelpers`, `credsStore`) and `containers-auth.json(5)`, in which a key
//! may also name a part of a registry (`quay.io/acme`). Helpers speak the protocol of `docker-credential-helpers`.

use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a credential helper may take; some ask the cloud.
const HELPER_DEADLINE: Duration = Duration::from_secs(15);
/// How Docker Hub is called in credentials files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What opens a registry. Its `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::image) enum Credential {
    Password {
        username: String,
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct AuthEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

impl fmt::Debug for AuthEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthEntry")
    }
}

/// The credential that the file at `path` gives for a repository; `None` where it has none, or is not there.
///
/// Blocking: a helper may be run.
///
/// # Errors
/// A sentence fragment that says what is wrong with the file or the helper, without any secret.
pub(in crate::image) fn from_file(path: &Path, host: &str, repository: &str) -> Result<Option<Credential>, String> {
    let bytes = match std::fs::read(path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|why| format!("the credentials file {} cannot be read: {why}", path.display()))?,
    };
    let file: ConfigFile = serde_json::from_slice(&bytes).map_err(|why| {
        // serde's message may quote the value it stumbled over.
        format!("the credentials file {} is not valid at line {}, column {}", path.display(), why.line(), why.column())
    })?;
    let host = canonical(host);
    if let Some(helper) = lookup(&file.cred_helpers, &host, repository) {
        return run_helper(helper, &host);
    }
    if let Some(entry) = lookup(&file.auths, &host, repository)
        && let Some(credential) = entry.credential().map_err(|why| format!("{} in {}", why, path.display()))?
    {
        return Ok(Some(credential));
    }
    file.creds_store.as_ref().map_or(Ok(None), |helper| run_helper(helper, &host))
}

/// Docker Hub has three names.
fn canonical(host: &str) -> String {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_ascii_lowercase(),
    }
}

/// A key as Docker compares it: `https://index.docker.io/v1/` becomes `docker.io`.
fn normalise(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key.split_once('/') {
        Some((host, path)) => format!("{}/{path}", canonical(host)),
        None => canonical(key),
    }
}

/// The value whose key names the most of `host/repository`.
fn lookup<'a, V>(map: &'a BTreeMap<String, V>, host: &str, repository: &str) -> Option<&'a V> {
    let full = format!("{host}/{repository}");
    let fits = |key: &str| full == key || full.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'));
    let fitting = map.iter().map(|(key, value)| (normalise(key), value)).filter(|(key, _)| fits(key));
    fitting.max_by_key(|(key, _)| key.len()).map(|(_, value)| value)
}

impl AuthEntry {
    fn credential(&self) -> Result<Option<Credential>, String> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::IdentityToken(self.identitytoken.clone())));
        }
        if !self.username.is_empty() {
            let (username, password) = (self.username.clone(), self.password.clone());
            return Ok(Some(Credential::Password { username, password }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let decoded = base64::engine::general_purpose::STANDARD.decode(self.auth.trim());
        let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_once(':')) {
            // Docker itself pads with zero bytes.
            Some((username, password)) => Ok(Some(Credential::Password {
                username: username.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            })),
            None => Err("an `auth` is not base64 of `user:password`".to_owned()),
        }
    }
}

fn run_helper(name: &str, host: &str) -> Result<Option<Credential>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{name}");
    if name.contains('/') {
        return Err(format!("{program:?} is not the name of a credential helper"));
    }
    let failed = |why: std::io::Error| format!("the credential helper {program} cannot be run: {why}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        let key = if host == "docker.io" { HUB_KEY } else { host };
        // A helper that does not read what it is asked for says so by its answer.
        let _ = stdin.write_all(key.as_bytes());
    }
    let started = Instant::now();
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if started.elapsed() > HELPER_DEADLINE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the credential helper {program} did not answer within {HELPER_DEADLINE:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        // An answer fits the pipe, so the helper could end without a reader.
        stdout.take(64 << 10).read_to_string(&mut text).map_err(failed)?;
    }
    if !status.success() {
        return match text.contains("credentials not found") {
            true => Ok(None),
            false => Err(format!("the credential helper {program} failed ({status})")),
        };
    }
    let answer: Answer =
        serde_json::from_str(&text).map_err(|_| format!("the credential helper {program} gave no valid answer"))?;
    Ok(Some(if answer.username == "<token>" {
        Credential::IdentityToken(answer.secret)
    } else {
        Credential::Password { username: answer.username, password: answer.secret }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(config: &str, host: &str, repository: &str) -> Result<Option<Credential>, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("config.json");
        std::fs::write(&path, config).expect("writes");
        from_file(&path, host, repository)
    }

    fn password(username: &str, password: &str) -> Result<Option<Credential>, String> {
        Ok(Some(Credential::Password { username: username.into(), password: password.into() }))
    }

    #[test]
    fn keys_are_matched_as_docker_and_podman_do() {
        let config = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"YTpi"},
            "http://q.io:5000/v2/":{"username":"c","password":"d:e"},
            "quay.io/acme":{"auth":"YWNtZTp4"},
            "quay.io":{"auth":"YWxsOng="},
            "t.io":{"auth":"YTpi","identitytoken":"tok"},
            "empty.io":{}
        }}"#;
        assert_eq!(found(config, "docker.io", "library/nginx"), password("a", "b"));
        assert_eq!(found(config, "q.io:5000", "a"), password("c", "d:e"));
        assert_eq!(found(config, "quay.io", "acme/app"), password("acme", "x"));
        assert_eq!(found(config, "quay.io", "acmex/app"), password("all", "x"));
        assert_eq!(found(config, "t.io", "a"), Ok(Some(Credential::IdentityToken("tok".into()))));
        assert_eq!(found(config, "empty.io", "a"), Ok(None));
        assert_eq!(found(config, "io", "a"), Ok(None));
        assert_eq!(found(config, "q.io", "a"), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for config in [r#"{"auths":{"q.io":{"auth":"c2VjcmV0"}}}"#, r#"{"auths":{"q.io":{"auth":["c2VjcmV0"]}}}"#] {
            let why = found(config, "q.io", "a").expect_err("is refused");
            assert!(why.contains("config.json") && !why.contains("c2VjcmV0") && !why.contains("secret"), "{why}");
        }
        let why = found(r#"{"credsStore":"../x"}"#, "q.io", "a").expect_err("is refused");
        assert!(why.contains("not the name"), "{why}");
        let why = found(r#"{"credHelpers":{"q.io":"that-is-not-there"}}"#, "q.io", "a").expect_err("is refused");
        assert!(why.contains("docker-credential-that-is-not-there"), "{why}");
    }
}
