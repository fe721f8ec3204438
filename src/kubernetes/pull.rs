//! What the cluster pulls an image with, where that was given.

use super::options::Options;
use crate::error::Report;
use crate::image;
use crate::model::RegistryReference;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// How Docker Hub is called in a Docker configuration.
const HUB: &str = "docker.io";
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The contents of an image's pull Secret (`kubernetes.io/dockerconfigjson`): the one registry's credentials, from the
/// options, else from the Docker configuration that was named. `None` where there are none.
///
/// # Errors
/// What a credential helper said.
pub fn credentials(reference: &RegistryReference, options: &Options) -> Result<Option<String>, Report> {
    let registry = options.registries.get(&reference.registry);
    // Asked for by the name that the cluster pulls from.
    let host = registry.and_then(|registry| registry.host.clone()).unwrap_or_else(|| reference.registry.clone());
    let host = host.split('/').next().unwrap_or_default();
    let given = registry.and_then(|registry| Some((registry.username.clone()?, registry.password.clone()?)));
    let found = match (given, &options.docker_config) {
        (Some(given), _) => Some(given),
        (None, Some(file)) => image::stored_password(file, host, &reference.repository)?,
        (None, None) => None,
    };
    Ok(found.map(|(username, password)| {
        let key = if host == HUB { HUB_KEY } else { host };
        let auth = STANDARD.encode(format!("{username}:{password}"));
        json!({ "auths": { key: { "username": username, "password": password, "auth": auth } } }).to_string()
    }))
}
