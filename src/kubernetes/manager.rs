//! The manager of commands in a namespace: installing, replacing and removing it.

use super::api::{Apply, Cluster};
use super::change::{Change, Forced};
use super::facts;
use super::feed::Feed;
use super::kind::{Kind, Object};
use super::labels::{self, MANAGER, MANAGER_NAME};
use super::lease::Held;
use super::manager_manifest::{self, Parts, TOKEN, Tls};
use super::manifest;
use super::options::Options;
use super::pull;
use super::rehearsal;
use super::removal;
use super::snapshot::Snapshot;
use super::survey::Wanted;
use super::version_secret;
use crate::engine;
use crate::engine::event::Events;
use crate::engine::manager::{Install, Uninstall};
use crate::engine::plan::Action;
use crate::error::Report;
use crate::model::{ImageReference, Quantity};
use crate::sys::process::random_name;
use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What it listens on.
pub const PORT: u16 = 7070;
/// How much room its database has, where nobody says.
const STORAGE: &str = "1Gi";
/// Kinds that it has besides those of a daemon.
const ITS_OWN: [Kind; 3] = [Kind::PersistentVolumeClaim, Kind::Service, Kind::NetworkPolicy];

/// A manager that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Which it is: its database's.
    pub id: String,
    pub tls: Option<Tls>,
    /// The administrator's token.
    pub token: String,
}

impl Installed {
    /// The namespace's; `None` where there is none.
    pub async fn find(cluster: &Cluster) -> Result<Option<Installed>, Report> {
        let secret = cluster.get(Kind::Secret, MANAGER_NAME).await?;
        let secret = secret.filter(|secret| labels::is_of(secret, MANAGER.deployment));
        Ok(secret.as_ref().and_then(Installed::read))
    }

    fn read(secret: &Object) -> Option<Installed> {
        let token = version_secret::text_data(secret).remove(TOKEN).filter(|token| !token.is_empty())?;
        Some(Installed { id: secret.annotation(labels::MANAGER_ID)?.to_owned(), tls: Tls::of(secret), token })
    }
}

/// Where pods of a namespace reach its manager.
pub fn url(namespace: &str, tls: bool) -> String {
    format!("{}://{MANAGER_NAME}.{namespace}.svc:{PORT}", if tls { "https" } else { "http" })
}

/// What there is of it, `ITS_OWN` included.
async fn look(cluster: &Cluster) -> Result<Snapshot, Report> {
    let others = try_join_all(ITS_OWN.map(|kind| cluster.get(kind, MANAGER_NAME)));
    let (mut snapshot, others) = tokio::try_join!(Snapshot::take(cluster, MANAGER.deployment), others)?;
    let ours = others.into_iter().flatten().filter(|object| labels::is_of(object, MANAGER.deployment));
    snapshot.objects.extend(ours.map(|object| ((object.kind, object.name.clone()), object)));
    Ok(snapshot)
}

/// Installs the manager, or makes the one that is there as it is to be; returns once it answers.
///
/// # Errors
/// `INVALID_IMAGE`, `TLS_SECRET_INVALID`, `MANAGER_USES_TLS`, `NAME_TAKEN`, `APPLY_CONFLICT` and what the cluster refuses
/// before anything is changed; `MANAGER_NOT_UP`, `UPDATE_ROLLED_BACK`.
pub async fn install(cluster: &Cluster, options: &Options, wanted: &Install, events: &Events) -> Result<Value, Report> {
    let Ok(ImageReference::Registry(reference)) = ImageReference::parse(&wanted.image) else {
        let message = format!("no cluster can pull {:?}: it is no image in a registry", wanted.image);
        return Err(Report::new("INVALID_IMAGE", message)
            .status(400)
            .hint("`alien manager image push REF` puts it there"));
    };
    let pull = pull::credentials(&reference, options)?;
    let image = manifest::pulled(&wanted.image, reference, &options.registries);
    if options.create_namespace {
        facts::make_namespace(cluster).await?;
    }
    let (snapshot, tls) = tokio::try_join!(look(cluster), tls(cluster, wanted.tls_secret.as_deref()))?;
    let present = snapshot.get(Kind::Secret, MANAGER_NAME);
    if tls.is_none() && present.and_then(Tls::of).is_some() {
        let message = "the manager that is installed speaks TLS, and no Secret with a certificate was named";
        let hint = "name it with --tls-secret; to have it speak plain HTTP, uninstall it first";
        return Err(Report::new("MANAGER_USES_TLS", message).status(409).hint(hint));
    }
    let (claim, storage) = claim(&snapshot, wanted);
    let token = match present.and_then(Installed::read) {
        Some(installed) => installed.token,
        None => new_token()?,
    };
    let objects = |token_uid: &str| {
        let (tls, pull) = (tls.as_ref(), pull.clone());
        manager_manifest::objects(&Parts { image: &image, storage, tls, pull, token_uid })
    };
    // What is not known yet makes no difference to whether it would be let through.
    let mut tried = objects("");
    tried.extend([claim.clone(), manager_manifest::secret(&token, "", tls.as_ref())]);
    let forced = rehearse(cluster, &snapshot, &tried, options.force_conflicts).await?;

    let apply = async |object: &Object| {
        let force = forced.contains(&(object.kind, object.name.clone()));
        cluster.apply(object, Apply { dry_run: false, force }).await
    };
    let claim = apply(&claim).await?;
    let uid = |object: &Object| object.body["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let secret = apply(&manager_manifest::secret(&token, &uid(&claim), tls.as_ref())).await?;
    let objects = objects(&uid(&secret));
    let stale = [(Kind::NetworkPolicy, MANAGER_NAME.to_owned()), (Kind::Secret, manifest::pull_secret(MANAGER_NAME))];
    let is_stale = |(kind, name): &(Kind, String)| {
        snapshot.get(*kind, name).is_some()
            && !objects.iter().any(|object| object.kind == *kind && object.name == *name)
    };
    let stale = stale.into_iter().filter(is_stale).collect();
    let action = match snapshot.get(Kind::Deployment, MANAGER_NAME) {
        Some(_) => Action::Update,
        None => Action::Create,
    };
    let wanted = Wanted { changed: objects.clone(), objects, stale, ..Wanted::default() };
    let (feed, held) = (Feed::start(cluster, MANAGER.deployment), Held::default());
    let change = Change { cluster, feed: &feed, snapshot: &snapshot, owner: MANAGER, action, events, held: &held };
    change.make(&wanted, None, &forced, options.on_failure).await.map_err(|error| in_words(error, cluster))?;
    Ok(json!({ "namespace": cluster.namespace, "image": image, "url": url(&cluster.namespace, tls.is_some()) }))
}

/// The room for the database, and its bytes, as it is where nobody wants it otherwise: it cannot shrink, nor be made by another class.
fn claim(snapshot: &Snapshot, wanted: &Install) -> (Object, u64) {
    let spec = snapshot.get(Kind::PersistentVolumeClaim, MANAGER_NAME).map(|claim| &claim.body["spec"]);
    let there = spec.and_then(|spec| spec["resources"]["requests"]["storage"].as_str());
    let storage = wanted.storage.as_deref().or(there).unwrap_or(STORAGE);
    let class = wanted.storage_class.as_deref().or_else(|| spec.and_then(|spec| spec["storageClassName"].as_str()));
    // What the cluster has taken is a quantity, and so is what was checked.
    let bytes = Quantity::parse(storage).map_or(0, |storage| storage.bytes());
    (manager_manifest::claim(storage, class), bytes)
}

/// Looks at the Secret with the certificate.
async fn tls(cluster: &Cluster, name: Option<&str>) -> Result<Option<Tls>, Report> {
    let Some(name) = name else { return Ok(None) };
    let invalid = |why: &str| {
        let message = format!("the Secret {name:?} in namespace {:?} {why}", cluster.namespace);
        let hint = format!("kubectl create secret tls {name} --cert=FILE --key=FILE -n {}", cluster.namespace);
        Report::new("TLS_SECRET_INVALID", message).status(400).hint(hint)
    };
    let secret = cluster.get(Kind::Secret, name).await?.ok_or_else(|| invalid("is not there"))?;
    if secret.body["type"] != "kubernetes.io/tls" {
        return Err(invalid("is not of the type kubernetes.io/tls"));
    }
    let ca = secret.body["data"]["ca.crt"].as_str().is_some_and(|text| !text.is_empty());
    Ok(Some(Tls { secret: name.to_owned(), ca }))
}

fn new_token() -> Result<String, Report> {
    let random = || random_name().map_err(|error| Report::new("INTERNAL_ERROR", format!("no random numbers: {error}")));
    Ok(format!("alien_admin_{}{}", random()?, random()?))
}

/// Tries everything, changing nothing.
async fn rehearse(cluster: &Cluster, snapshot: &Snapshot, objects: &[Object], force: bool) -> Result<Forced, Report> {
    let tries = objects.iter().map(async |object| {
        let live = snapshot.get(object.kind, &object.name);
        rehearsal::one(cluster, MANAGER.deployment, object, live, force).await.map(|forced| (object, forced))
    });
    let mut forced = Forced::new();
    let mut results = Vec::new();
    for tried in join_all(tries).await {
        results.push(tried.map(|(object, force)| {
            if force {
                forced.insert((object.kind, object.name.clone()));
            }
        }));
    }
    // Every one of them fails for want of a namespace, which is one thing to be told.
    let mut errors = results.iter().filter_map(|result| result.as_ref().err());
    if let Some(homeless) = errors.find(|error| error.code == "NAMESPACE_NOT_FOUND") {
        return Err(homeless.clone());
    }
    engine::all_of("install", MANAGER_NAME, results)?;
    Ok(forced)
}

/// What is said of a daemon, said of the manager.
fn in_words(mut error: Report, cluster: &Cluster) -> Report {
    error.message = error.message.replace(&format!("daemon {:?}", MANAGER.id), "the manager");
    if error.code == "DAEMON_NOT_UP" {
        error.code = "MANAGER_NOT_UP".to_owned();
        error.context.remove("daemon");
        if error.context.get("reason").is_some_and(|reason| reason == "CrashLoopBackOff") {
            let hint = format!("`kubectl -n {} logs deployment/{MANAGER_NAME} --previous` says why", cluster.namespace);
            return error.hint(hint);
        }
    }
    error
}

/// Removes the manager; what it keeps stays, unless that is to go too.
///
/// # Errors
/// `MANAGER_NOT_INSTALLED`; `MANAGER_IN_USE` with the daemons that take their commands from it, before anything is changed.
pub async fn uninstall(cluster: &Cluster, wanted: Uninstall, events: &Events) -> Result<Value, Report> {
    let snapshot = look(cluster).await?;
    let kept = |(kind, name): &(Kind, String)| {
        *kind == Kind::PersistentVolumeClaim || (*kind == Kind::Secret && name == MANAGER_NAME)
    };
    if snapshot.objects.is_empty() || (!wanted.data && snapshot.objects.keys().all(kept)) {
        return Err(not_installed(cluster, "there is none to remove"));
    }
    let users = users(cluster, &snapshot).await?;
    if !wanted.force && !users.is_empty() {
        let named: Vec<String> = users.iter().map(|(name, ids)| format!("{name} ({})", ids.join(", "))).collect();
        let message = format!("daemons take their commands from the manager: {}", named.join("; "));
        return Err(Report::new("MANAGER_IN_USE", message)
            .status(409)
            .with("deployments", users.keys().cloned().collect::<Vec<_>>())
            .hint("destroy these deployments or deploy them without commands first; --force removes it all the same"));
    }
    let feed = Feed::start(cluster, MANAGER.deployment);
    let mut going = snapshot;
    going.objects.retain(|key, _| wanted.data || !kept(key));
    removal::remove(cluster, &feed, MANAGER.id, &going, events).await?;
    Ok(json!({ "namespace": cluster.namespace, "data": wanted.data }))
}

/// The daemons that have tokens of this manager, by deployment.
async fn users(cluster: &Cluster, snapshot: &Snapshot) -> Result<BTreeMap<String, Vec<String>>, Report> {
    let id = snapshot.get(Kind::Secret, MANAGER_NAME).and_then(|secret| secret.annotation(labels::MANAGER_ID));
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for secret in cluster.list(Kind::Secret, &labels::of_all()).await? {
        let is_its = id.is_some() && secret.annotation(labels::MANAGER_ID) == id;
        if let (true, Some(deployment), Some(daemon)) =
            (is_its, secret.annotation(labels::DEPLOYMENT), secret.annotation(labels::RESOURCE))
            && deployment != MANAGER.deployment
        {
            users.entry(deployment.to_owned()).or_default().push(daemon.to_owned());
        }
    }
    Ok(users)
}

/// There is no manager in the namespace.
pub fn not_installed(cluster: &Cluster, what: &str) -> Report {
    let namespace = cluster.namespace.as_str();
    let message = format!("no manager of commands is installed in namespace {namespace:?}: {what}");
    Report::new("MANAGER_NOT_INSTALLED", message)
        .status(404)
        .with("namespace", namespace)
        .hint(format!("`alien manager install --image REF --namespace {namespace}` installs one; `alien manager image push REF` makes its image"))
}
