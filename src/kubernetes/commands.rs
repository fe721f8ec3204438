//! Commands in a cluster: where daemons take theirs from, the Secrets that their tokens and their callers' are in, and the
//! manager's administrator.
//!
//! ```text
//! <name>-commands-<hash>        a daemon's token to receive; the hash is of the manager that it is for
//! alien-<deployment>-callers    the deployment's token to invoke, and where
//! ```
//!
//! Tokens are no part of a version, but which manager they are for is: with another one the daemon starts anew, and the
//! version before finds its own token again.

use super::api::Cluster;
use super::gateway::Gateway;
use super::kind::{Kind, Object};
use super::labels::{self, Owner};
use super::manager::{self, Installed};
use super::manager_manifest::Tls;
use super::options::Options;
use super::record;
use super::snapshot::Snapshot;
use super::version_secret;
use crate::engine::manager::{Administrator, External, Grant};
use crate::error::Report;
use crate::model::Stack;
use crate::model::names::fingerprint;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Where a daemon sees its token; as on Local.
pub const DIR: &str = "/run/alien-commands";
/// The key, and the file, of a token.
pub const TOKEN: &str = "token";
/// The key, and the file, of the authority that a manager's certificate is of.
pub const CA: &str = "ca.crt";
/// Behind a daemon's name: the Secrets with its tokens.
const TOKENS: &str = "-commands";
/// Tokens that are asked for at once.
const AT_ONCE: usize = 8;
/// How long taking tokens back may take: they go with their Secrets, whoever had them.
const REVOKING: Duration = Duration::from_secs(10);

/// Where a deployment's commands are.
#[derive(Debug, Clone)]
pub struct Place {
    /// As daemons reach it.
    pub url: String,
    /// Which manager it is, and which of its deployments.
    pub identity: String,
    /// What the deployment is called there.
    pub deployment: String,
    /// The Secret that the authority of its certificate is in, where daemons have to be told and it is not beside their tokens.
    pub ca: Option<String>,
    who: Who,
}

#[derive(Debug, Clone)]
enum Who {
    Own(Installed),
    External(External),
}

impl Place {
    /// Where the commands of a deployment are; `None` where no manager is known.
    pub async fn find(cluster: &Cluster, options: &Options, deployment: &str) -> Result<Option<Place>, Report> {
        match Place::named(options, deployment) {
            Some(place) => Ok(Some(place)),
            None => Place::installed(cluster, deployment).await,
        }
    }

    /// At the manager that was named.
    pub fn named(options: &Options, deployment: &str) -> Option<Place> {
        let manager = options.manager.as_ref()?;
        Some(Place {
            url: manager.url.clone(),
            identity: manager.identity(deployment),
            deployment: manager.deployment(deployment).to_owned(),
            ca: None,
            who: Who::External(manager.clone()),
        })
    }

    /// At the manager of the namespace.
    pub async fn installed(cluster: &Cluster, deployment: &str) -> Result<Option<Place>, Report> {
        let installed = Installed::find(cluster).await?;
        Ok(installed.map(|installed| Place {
            url: manager::url(&cluster.namespace, installed.tls.is_some()),
            identity: installed.id.clone(),
            deployment: deployment.to_owned(),
            ca: installed.tls.as_ref().filter(|tls| tls.ca).map(|Tls { secret, .. }| secret.clone()),
            who: Who::Own(installed),
        }))
    }

    /// Where the commands of a stack are; `None` where none of its daemons takes any.
    ///
    /// # Errors
    /// `MANAGER_NOT_INSTALLED`, with the daemons that need one.
    pub async fn of(
        cluster: &Cluster,
        options: &Options,
        deployment: &str,
        stack: &Stack,
    ) -> Result<Option<Place>, Report> {
        let takers: Vec<&str> = takers(stack).collect();
        if takers.is_empty() {
            return Ok(None);
        }
        match Place::find(cluster, options, deployment).await? {
            Some(place) => Ok(Some(place)),
            None => {
                let verb = if takers.len() == 1 { "takes" } else { "take" };
                let what = format!("{} {verb} commands", takers.join(", "));
                Err(manager::not_installed(cluster, &what).with("daemons", json!(takers)))
            }
        }
    }

    /// What a daemon is given so that it can take its commands.
    pub fn receiver(&self, owner: Owner<'_>) -> Receiver {
        let secret = secret_name(&owner.name(), &self.identity);
        let ca = self.given_ca().map_or_else(|| self.ca.clone(), |_| Some(secret.clone()));
        Receiver { url: self.url.clone(), deployment: self.deployment.clone(), secret, ca }
    }

    /// What whoever deploys has given, in PEM.
    fn given_ca(&self) -> Option<&str> {
        match &self.who {
            Who::Own(_) => None,
            Who::External(manager) => manager.ca.as_deref(),
        }
    }

    /// The right to make and to take back tokens there.
    pub async fn administrator(&self, cluster: &Arc<Cluster>) -> Result<Admin, Report> {
        match &self.who {
            Who::External(manager) => {
                Ok(Admin { place: self.clone(), administrator: Administrator::of(manager)?, _gateway: None })
            }
            Who::Own(installed) => {
                let gateway = Gateway::open(cluster).await?;
                let administrator = Administrator::new(&self.url, &gateway.url, &installed.token, None)?;
                Ok(Admin { place: self.clone(), administrator, _gateway: Some(gateway) })
            }
        }
    }

    /// The Secret with a daemon's new token, and what it is to trust.
    fn token(&self, owner: Owner<'_>, token: &str) -> Object {
        let mut rest = json!({ "type": "Opaque", "data": { TOKEN: STANDARD.encode(token) } });
        if let Some(ca) = self.given_ca() {
            rest["data"][CA] = json!(STANDARD.encode(ca));
        }
        let mut secret = owner.object(Kind::Secret, secret_name(&owner.name(), &self.identity), rest);
        secret.body["metadata"]["annotations"][labels::MANAGER_ID] = json!(self.identity);
        secret
    }

    /// The Secret of those who call into the deployment.
    fn callers(&self, deployment: &str, token: &str) -> Object {
        let name = callers_name(deployment);
        let mut data = BTreeMap::from([(TOKEN, token), ("deploymentId", &self.deployment)]);
        if let Who::External(manager) = &self.who {
            data.insert("url", &manager.url);
        }
        data.extend(self.given_ca().map(|ca| (CA, ca)));
        let data: BTreeMap<&str, String> = data.into_iter().map(|(key, text)| (key, STANDARD.encode(text))).collect();
        let body = json!({
            "apiVersion": Kind::Secret.api_version(),
            "kind": Kind::Secret.as_str(),
            "metadata": {
                "name": name,
                "labels": labels::of_record(deployment, None),
                "annotations": { labels::DEPLOYMENT: deployment, labels::MANAGER_ID: self.identity },
            },
            "type": "Opaque",
            "data": data,
        });
        Object { kind: Kind::Secret, name, body }
    }

    /// Whether the Secret of callers is there, and for this place.
    pub fn has_callers(&self, deployment: &str, snapshot: &Snapshot) -> bool {
        let there = snapshot.staying(Kind::Secret, &callers_name(deployment));
        there.is_some_and(|secret| secret.annotation(labels::MANAGER_ID) == Some(&self.identity))
    }

    /// Has the tokens made that are missing, for their Secrets: those of daemons, and the callers'.
    ///
    /// # Errors
    /// `MANAGER_REFUSED`, `MANAGER_UNREACHABLE`; nothing is changed then.
    pub async fn mint(
        &self,
        cluster: &Arc<Cluster>,
        owners: Vec<Owner<'_>>,
        deployment: &str,
        has_callers: bool,
    ) -> Result<Minted, Report> {
        let admin = self.administrator(cluster).await?;
        let callers = match has_callers {
            true => None,
            false => Some(admin.administrator.grant(&self.deployment, Grant::Invoke).await?),
        };
        let mut granted: Vec<BoxFuture<'_, Result<(String, Object), Report>>> = Vec::new();
        for owner in owners {
            let administrator = &admin.administrator;
            granted.push(Box::pin(async move {
                let token = administrator.grant(&self.deployment, Grant::Receive(owner.id)).await?;
                Ok((owner.id.to_owned(), self.token(owner, &token)))
            }));
        }
        let tokens = stream::iter(granted).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(Minted { tokens, callers: callers.map(|token| self.callers(deployment, &token)) })
    }
}

/// Secrets with tokens that were only just made, and that are nowhere yet.
#[derive(Debug, Default)]
pub struct Minted {
    /// By daemon.
    pub tokens: BTreeMap<String, Object>,
    pub callers: Option<Object>,
}

/// An administrator, and the way to the manager for as long as it is needed.
pub struct Admin {
    place: Place,
    administrator: Administrator,
    _gateway: Option<Gateway>,
}

impl Admin {
    /// Which manager it is of.
    pub fn identity(&self) -> &str {
        &self.place.identity
    }

    /// Takes a daemon's, or the callers', tokens back, as far as that can be done: a manager that is away has them for
    /// nobody.
    pub async fn revoke(&self, grant: Grant<'_>) {
        let _ = tokio::time::timeout(REVOKING, self.administrator.revoke(&self.place.deployment, grant)).await;
    }
}

/// What a daemon is given so that it can take its commands.
#[derive(Debug, Clone)]
pub struct Receiver {
    pub url: String,
    /// What its deployment is called at the manager.
    pub deployment: String,
    /// The Secret that its token is in.
    pub secret: String,
    /// The Secret that its manager's authority is in.
    pub ca: Option<String>,
}

impl Receiver {
    /// The volume that it finds both in. Kubelets keep it up to date.
    pub fn volume(&self) -> Value {
        let source =
            |secret: &str, key: &str| json!({ "secret": { "name": secret, "items": [{ "key": key, "path": key }] } });
        let mut sources = vec![source(&self.secret, TOKEN)];
        sources.extend(self.ca.as_deref().map(|secret| source(secret, CA)));
        json!({ "name": VOLUME, "projected": { "sources": sources } })
    }

    /// Where it finds them.
    pub fn mount() -> Value {
        json!({ "name": VOLUME, "mountPath": DIR, "readOnly": true })
    }
}

const VOLUME: &str = "alien-commands";

/// The daemons that take commands.
pub fn takers(stack: &Stack) -> impl Iterator<Item = &str> {
    stack.daemons().filter(|daemon| daemon.commands_enabled).map(|daemon| daemon.id.as_str())
}

/// Where manifests say that the token is which nobody has made yet.
pub fn rendered(owner: Owner<'_>, namespace: &str, manager: Option<&External>) -> Receiver {
    let secret = format!("{}{TOKENS}", owner.name());
    Receiver {
        url: manager.map_or_else(|| manager::url(namespace, false), |manager| manager.url.clone()),
        deployment: manager.map_or(owner.deployment, |manager| manager.deployment(owner.deployment)).to_owned(),
        ca: manager.filter(|manager| manager.ca.is_some()).map(|_| secret.clone()),
        secret,
    }
}

fn secret_name(name: &str, identity: &str) -> String {
    format!("{name}{TOKENS}-{}", fingerprint(identity, 8))
}

/// Whether a Secret of the daemon that is called `name` holds a token.
pub fn is_token(secret: &Object, name: &str) -> bool {
    let rest = secret.name.strip_prefix(name).and_then(|rest| rest.strip_prefix(TOKENS));
    secret.kind == Kind::Secret && rest.is_some_and(|rest| rest.starts_with('-'))
}

/// The Secret of those who call into a deployment.
pub fn callers_name(deployment: &str) -> String {
    format!("{}-callers", record::lease_name(deployment))
}

/// The Secret that the token of a live, or past, Deployment is in.
pub fn secret_of(deployment: &Object) -> Option<&str> {
    let volumes = deployment.body["spec"]["template"]["spec"]["volumes"].as_array()?;
    let ours = volumes.iter().find(|volume| volume["name"] == VOLUME)?;
    ours["projected"]["sources"][0]["secret"]["name"].as_str()
}

/// How a caller, or an administrator, gets at a manager.
pub struct Way {
    pub url: String,
    pub token: String,
    /// What the deployment is called there; there is none for an administrator.
    pub deployment: Option<String>,
    /// The certificates that its own is to be signed with, in PEM, where whoever deployed has said so.
    pub ca: Option<String>,
    /// What keeps the way open.
    pub gateway: Option<Gateway>,
}

impl Way {
    /// For calls into a deployment.
    ///
    /// # Errors
    /// `MANAGER_NOT_FOUND` where nobody there takes commands; `MANAGER_UNREACHABLE`.
    pub async fn of_callers(cluster: &Arc<Cluster>, deployment: &str) -> Result<Way, Report> {
        let secret = cluster.get(Kind::Secret, &callers_name(deployment)).await?;
        let secret = secret.filter(|secret| labels::is_of(secret, deployment));
        let mut data = secret.as_ref().map(version_secret::text_data).unwrap_or_default();
        let Some(token) = data.remove(TOKEN) else {
            let namespace = cluster.namespace.as_str();
            let message = format!("no daemon of deployment {deployment:?} in namespace {namespace:?} takes commands");
            return Err(Report::new("MANAGER_NOT_FOUND", message)
                .status(404)
                .hint("a daemon takes commands with .commandsEnabled(true); then deploy"));
        };
        let deployment = data.remove("deploymentId").or_else(|| Some(deployment.to_owned()));
        Ok(match data.remove("url") {
            Some(url) => Way { url, token, deployment, ca: data.remove(CA), gateway: None },
            None => Way::through(Gateway::open(cluster).await?, token, deployment),
        })
    }

    /// For the administrator of the namespace's manager.
    ///
    /// # Errors
    /// `MANAGER_NOT_INSTALLED`, `MANAGER_UNREACHABLE`.
    pub async fn of_administrator(cluster: &Arc<Cluster>) -> Result<Way, Report> {
        let installed = Installed::find(cluster).await?;
        let installed = installed.ok_or_else(|| manager::not_installed(cluster, "there is none to ask"))?;
        Ok(Way::through(Gateway::open(cluster).await?, installed.token, None))
    }

    fn through(gateway: Gateway, token: String, deployment: Option<String>) -> Way {
        Way { url: gateway.url.clone(), token, deployment, ca: None, gateway: Some(gateway) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_of_a_certificate_comes_with_the_token_and_without_the_key() {
        let mut receiver = rendered(Owner { deployment: "edge", stack: "edge", id: "one" }, "ns", None);
        assert_eq!(receiver.url, "http://alien-manager.ns.svc:7070");
        assert_eq!(receiver.volume()["projected"]["sources"].as_array().map(Vec::len), Some(1));
        receiver.ca = Some("certificate".to_owned());
        let sources = receiver.volume()["projected"]["sources"].clone();
        let items = json!([{ "key": "ca.crt", "path": "ca.crt" }]);
        assert_eq!(sources[1]["secret"], json!({ "name": "certificate", "items": items }));
    }

    #[test]
    fn the_authority_of_a_manager_elsewhere_lies_beside_the_token() {
        let manager = |ca: Option<&str>| {
            let (url, token) = ("https://commands.corp".to_owned(), "admin".to_owned());
            let options = Options {
                manager: Some(External { url, token, deployment_id: None, ca: ca.map(str::to_owned) }),
                ..Options::default()
            };
            Place::named(&options, "edge").expect("it is named")
        };
        let owner = Owner { deployment: "edge", stack: "edge", id: "one" };
        let place = manager(Some("PEM"));
        let receiver = place.receiver(owner);
        assert_eq!(receiver.ca.as_ref(), Some(&receiver.secret));
        for secret in [place.token(owner, "t"), place.callers("edge", "t")] {
            assert_eq!(secret.body["data"]["ca.crt"], json!(STANDARD.encode("PEM")));
        }
        let plain = manager(None);
        assert_eq!(plain.receiver(owner).ca, None);
        assert!(plain.token(owner, "t").body["data"].get("ca.crt").is_none());
        // With other certificates it is another Secret, which the daemon starts anew for.
        let secrets = [&plain, &place, &manager(Some("OTHER"))].map(|place| place.receiver(owner).secret);
        assert_eq!(secrets.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn secrets_with_tokens_are_told_from_a_daemons_others() {
        let of = |name: &str| Object { kind: Kind::Secret, name: name.to_owned(), body: Value::Null };
        let name = secret_name("edge-one", "manager");
        assert!(is_token(&of(&name), "edge-one"));
        for other in ["edge-one-secrets-1234abcd", "edge-one-pull", "edge-one-commands", "edge-two-commands-1234abcd"] {
            assert!(!is_token(&of(other), "edge-one"), "{other}");
        }
        assert_ne!(name, secret_name("edge-one", "another"));
    }
}
