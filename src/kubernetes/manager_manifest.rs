//! The manager's objects. Pure: the same wishes give the same bytes.

use super::kind::{Kind, Object};
use super::labels::{self, MANAGER, MANAGER_NAME};
use super::manager::PORT;
use super::manifest::{self, CONTAINER};
use crate::engine::manager_image::{DATA, USER};
use crate::model::names::fingerprint;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Where it finds what, inside.
const ADMIN: &str = "/run/alien-admin";
const TLS: &str = "/run/alien-tls";
/// The key of its Secret that holds the administrator's token.
pub const TOKEN: &str = "token";
/// It lets requests come to their end within this.
const GRACE_SECONDS: u32 = 30;
/// It may have to wait for the one before, and for all that it keeps to be read.
const STARTING_SECONDS: u32 = 60;

/// What the objects are made from.
pub struct Parts<'a> {
    /// As the cluster pulls it.
    pub image: &'a str,
    /// Bytes of its volume.
    pub storage: u64,
    /// Its certificate.
    pub tls: Option<&'a Tls>,
    /// The contents of the image pull Secret, where credentials were given.
    pub pull: Option<String>,
    /// Changes whenever the administrator's token does, which is read when the program starts.
    pub token_uid: &'a str,
}

/// A Secret of type `kubernetes.io/tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub secret: String,
    /// Whether `ca.crt` is in it: who has to trust its authority is given that.
    pub ca: bool,
}

impl Tls {
    /// As annotations say it.
    pub fn of(object: &Object) -> Option<Tls> {
        let secret = object.annotation(labels::TLS_SECRET)?.to_owned();
        Some(Tls { secret, ca: object.annotation(labels::TLS_CA) == Some("true") })
    }

    fn annotate(&self, annotations: &mut Value) {
        annotations[labels::TLS_SECRET] = json!(self.secret);
        if self.ca {
            annotations[labels::TLS_CA] = json!("true");
        }
    }
}

/// The room for its database.
pub fn claim(storage: &str, class: Option<&str>) -> Object {
    let mut spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": storage } } });
    if let Some(class) = class {
        spec["storageClassName"] = json!(class);
    }
    MANAGER.object(Kind::PersistentVolumeClaim, MANAGER_NAME.to_owned(), json!({ "spec": spec }))
}

/// The Secret with the administrator's token. `database` tells one manager from another: what one has forgotten, or
/// never knew, opens nothing.
pub fn secret(token: &str, database: &str, tls: Option<&Tls>) -> Object {
    let rest = json!({ "type": "Opaque", "data": { TOKEN: STANDARD.encode(token) } });
    let mut object = MANAGER.object(Kind::Secret, MANAGER_NAME.to_owned(), rest);
    let annotations = &mut object.body["metadata"]["annotations"];
    annotations[labels::MANAGER_ID] = json!(database);
    if let Some(tls) = tls {
        tls.annotate(annotations);
    }
    object
}

/// Everything else, the Deployment last.
pub fn objects(parts: &Parts<'_>) -> Vec<Object> {
    let name = || MANAGER_NAME.to_owned();
    let port = json!({ "name": "commands", "port": PORT, "protocol": "TCP", "targetPort": PORT });
    let mut objects = vec![
        MANAGER.object(Kind::ServiceAccount, name(), json!({ "automountServiceAccountToken": false })),
        MANAGER.object(
            Kind::Service,
            name(),
            json!({ "spec": { "type": "ClusterIP", "ports": [port], "selector": MANAGER.selector() } }),
        ),
    ];
    if let Some(pull) = &parts.pull {
        let rest = json!({
            "type": "kubernetes.io/dockerconfigjson",
            "data": { ".dockerconfigjson": STANDARD.encode(pull) },
        });
        objects.push(MANAGER.object(Kind::Secret, manifest::pull_secret(MANAGER_NAME), rest));
    }
    if parts.tls.is_none() {
        objects.push(network_policy());
    }
    objects.push(deployment(parts));
    objects
}

/// Without TLS nobody but daemons that take commands gets to it; tokens go over the network as they are.
fn network_policy() -> Object {
    let from = json!([{ "podSelector": { "matchLabels": { labels::COMMANDS: "true" } } }]);
    let spec = json!({
        "podSelector": { "matchLabels": MANAGER.selector() },
        "policyTypes": ["Ingress"],
        "ingress": [{ "from": from, "ports": [{ "port": PORT, "protocol": "TCP" }] }],
    });
    MANAGER.object(Kind::NetworkPolicy, MANAGER_NAME.to_owned(), json!({ "spec": spec }))
}

fn deployment(parts: &Parts<'_>) -> Object {
    let mut args = vec![
        "serve".to_owned(),
        "--data".to_owned(),
        DATA.to_owned(),
        "--listen".to_owned(),
        format!("0.0.0.0:{PORT}"),
        "--admin-token-file".to_owned(),
        format!("{ADMIN}/{TOKEN}"),
        // A pod that is deleted gives place to the next one before it has ended.
        "--wait-seconds".to_owned(),
        STARTING_SECONDS.to_string(),
        // Large bodies leave room for the database.
        "--most-storage-bytes".to_owned(),
        (parts.storage / 4 * 3).to_string(),
    ];
    let mut volumes = vec![
        json!({ "name": "data", "persistentVolumeClaim": { "claimName": MANAGER_NAME } }),
        json!({ "name": "admin", "secret": { "secretName": MANAGER_NAME, "defaultMode": 0o440 } }),
        // Of its root nothing can be written.
        json!({ "name": "tmp", "emptyDir": {} }),
    ];
    let mut mounts = vec![
        json!({ "name": "data", "mountPath": DATA }),
        json!({ "name": "admin", "mountPath": ADMIN, "readOnly": true }),
        json!({ "name": "tmp", "mountPath": "/tmp" }),
    ];
    match parts.tls {
        None => args.push("--allow-plain-http".to_owned()),
        Some(Tls { secret, .. }) => {
            args.extend(
                [("--tls-certificate", "tls.crt"), ("--tls-key", "tls.key")]
                    .into_iter()
                    .flat_map(|(flag, file)| [flag.to_owned(), format!("{TLS}/{file}")]),
            );
            volumes.push(json!({ "name": "tls", "secret": { "secretName": secret, "defaultMode": 0o440 } }));
            mounts.push(json!({ "name": "tls", "mountPath": TLS, "readOnly": true }));
        }
    }
    let probe = |path: &str| {
        let scheme = if parts.tls.is_some() { "HTTPS" } else { "HTTP" };
        json!({ "httpGet": { "path": path, "port": PORT, "scheme": scheme }, "periodSeconds": 5 })
    };
    let mut starting = probe("/healthz");
    starting["periodSeconds"] = json!(1);
    starting["failureThreshold"] = json!(2 * STARTING_SECONDS);
    let container = json!({
        "name": CONTAINER,
        "image": parts.image,
        "args": args,
        "ports": [{ "name": "commands", "containerPort": PORT, "protocol": "TCP" }],
        "startupProbe": starting,
        "readinessProbe": probe("/readyz"),
        "livenessProbe": probe("/healthz"),
        "resources": { "requests": { "cpu": "50m", "memory": "32Mi" } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    });
    let mut pod = json!({
        "automountServiceAccountToken": false,
        "containers": [container],
        "enableServiceLinks": false,
        "securityContext": {
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "runAsGroup": USER,
            "runAsNonRoot": true,
            "runAsUser": USER,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "serviceAccountName": MANAGER_NAME,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "volumes": volumes,
    });
    if parts.pull.is_some() {
        pod["imagePullSecrets"] = json!([{ "name": manifest::pull_secret(MANAGER_NAME) }]);
    }
    let mut annotations = json!(MANAGER.annotations());
    annotations[labels::VERSION] = json!(fingerprint(format!("{pod} {}", parts.token_uid), 16));
    if let Some(tls) = parts.tls {
        tls.annotate(&mut annotations);
    }
    let template = json!({ "metadata": { "labels": MANAGER.labels(), "annotations": annotations }, "spec": pod });
    let spec = json!({
        "replicas": 1,
        "revisionHistoryLimit": 2,
        "selector": { "matchLabels": MANAGER.selector() },
        // Of two on one database the second would not start.
        "strategy": { "type": "Recreate" },
        "template": template,
    });
    MANAGER.object(Kind::Deployment, MANAGER_NAME.to_owned(), json!({ "spec": spec }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(tls: Option<&Tls>) -> Vec<Object> {
        objects(&Parts { image: "r.test/m@sha256:0", storage: 1 << 30, tls, pull: None, token_uid: "u" })
    }

    fn find(objects: &[Object], kind: Kind) -> Option<&Value> {
        objects.iter().find(|object| object.kind == kind).map(|object| &object.body)
    }

    #[test]
    fn in_the_clear_a_policy_guards_it_and_under_tls_its_certificate_does() {
        let plain = made(None);
        let policy = find(&plain, Kind::NetworkPolicy).expect("a policy");
        assert_eq!(policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"][labels::COMMANDS], "true");
        let container = |objects: &[Object]| {
            find(objects, Kind::Deployment).expect("a Deployment")["spec"]["template"]["spec"]["containers"][0].clone()
        };
        assert!(container(&plain)["args"].as_array().expect("args").contains(&json!("--allow-plain-http")));
        assert!(container(&plain)["args"].as_array().expect("args").contains(&json!("805306368")));

        let secret = made(Some(&Tls { secret: "cert".to_owned(), ca: true }));
        assert_eq!(find(&secret, Kind::NetworkPolicy), None);
        let its = container(&secret);
        let args: Vec<&str> = its["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert!(args.ends_with(&[
            "--tls-certificate",
            "/run/alien-tls/tls.crt",
            "--tls-key",
            "/run/alien-tls/tls.key"
        ]));
        assert!(!args.contains(&"--allow-plain-http"), "{args:?}");
        assert_eq!(its["readinessProbe"]["httpGet"]["scheme"], "HTTPS");
        let template = &find(&secret, Kind::Deployment).expect("a Deployment")["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"][labels::TLS_SECRET], "cert");
        assert_eq!(template["metadata"]["annotations"][labels::TLS_CA], "true");
    }
}
