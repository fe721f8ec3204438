//! Requests to the API server: any object as JSON, repeated while the server is away.

use super::access::Entrance;
use super::failure;
use super::kind::{Kind, Object};
use crate::engine::event::{Event, Events};
use crate::error::Report;
use http::{Method, Request};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Error;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Who applies, in `managedFields`.
pub const MANAGER: &str = "alien";
/// Requests under way at once: enough to keep a small control plane busy, and no more.
const AT_ONCE: usize = 24;
/// A single answer never takes this long, unless it will not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// When a person is told that an answer is waited for.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a server that has never answered is asked again.
const FIRST_CONTACT: Duration = Duration::from_secs(4);
/// How long a server that has answered before is waited for: a control plane that is being restarted takes less.
const OUTAGE: Duration = Duration::from_secs(180);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Behind a path: what is wanted of its objects is their metadata. Cannot be part of a path itself.
const METADATA_ONLY: &str = "#metadata";
/// Objects in one page of a list.
const PAGE: usize = 500;

/// A namespace of a cluster.
pub struct Cluster {
    pub entrance: Entrance,
    pub namespace: String,
    events: Events,
    slots: Semaphore,
    /// One permit, for the first request: it goes ahead, and opens the connection that all others share.
    opening: Semaphore,
    answered: AtomicBool,
    waiting: AtomicBool,
}

/// How an object is applied.
#[derive(Debug, Clone, Copy, Default)]
pub struct Apply {
    /// Nothing is stored; everything else is as if it were.
    pub dry_run: bool,
    /// Fields that others own are taken over.
    pub force: bool,
}

impl Cluster {
    pub fn new(entrance: Entrance, namespace: Option<String>, events: Events) -> Self {
        let namespace = namespace.unwrap_or_else(|| entrance.namespace.clone());
        let (answered, waiting) = (AtomicBool::new(false), AtomicBool::new(false));
        let (slots, opening) = (Semaphore::new(AT_ONCE), Semaphore::new(1));
        Cluster { entrance, namespace, events, slots, opening, answered, waiting }
    }

    /// Every object of a kind that a label selector chooses.
    pub async fn list(&self, kind: Kind, selector: &str) -> Result<Vec<Object>, Report> {
        let doing = format!("listing {} in namespace {:?}", kind.plural(), self.namespace);
        let items: Vec<Value> = self.list_at(&kind.path(&self.namespace), selector, &doing).await?;
        let object = |mut body: Value| {
            // Items of a list leave out what the list says.
            body["apiVersion"] = json!(kind.api_version());
            body["kind"] = json!(kind.as_str());
            let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            Object { kind, name, body }
        };
        Ok(items.into_iter().map(object).collect())
    }

    /// Every item of any list, page by page.
    pub async fn list_at<T: DeserializeOwned>(
        &self,
        path: &str,
        selector: &str,
        doing: &str,
    ) -> Result<Vec<T>, Report> {
        #[derive(serde::Deserialize)]
        struct Page<T> {
            #[serde(default = "Vec::new")]
            items: Vec<T>,
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta,
        }
        let mut all = Vec::new();
        let mut from = String::new();
        loop {
            let mut query = format!("{path}?limit={PAGE}");
            for (key, value) in [("labelSelector", selector), ("continue", from.as_str())] {
                if !value.is_empty() {
                    query = format!("{query}&{key}={}", encode(value));
                }
            }
            match self.ask::<Page<T>>(Method::GET, &query, None, doing).await {
                Ok(page) => {
                    all.extend(page.items);
                    from = page.metadata.continue_.unwrap_or_default();
                }
                // The rest of the list is older than what the server keeps: begin again.
                Err(error) if error.http_status_code == 410 && !from.is_empty() => {
                    all.clear();
                    from.clear();
                    continue;
                }
                Err(error) => return Err(error),
            }
            if from.is_empty() {
                return Ok(all);
            }
        }
    }

    /// The names of every object of a kind in the namespace, whoever made it, and nothing else of them.
    pub async fn names(&self, kind: Kind) -> Result<Vec<String>, Report> {
        #[derive(serde::Deserialize)]
        struct Item {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        }
        let doing = format!("listing the names of {} in namespace {:?}", kind.plural(), self.namespace);
        // A query of its own makes the request one for metadata; see `once`.
        let items: Vec<Item> =
            self.list_at(&format!("{}{METADATA_ONLY}", kind.path(&self.namespace)), "", &doing).await?;
        Ok(items.into_iter().filter_map(|item| item.metadata.name).collect())
    }

    /// One object; `None` where there is none.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Option<Object>, Report> {
        let doing = format!("reading {} {name:?} in namespace {:?}", kind.as_str(), self.namespace);
        let path = format!("{}/{name}", kind.path(&self.namespace));
        match self.ask::<Value>(Method::GET, &path, None, &doing).await {
            Ok(body) => Ok(Some(Object { kind, name: name.to_owned(), body })),
            Err(error) if error.http_status_code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Server-side apply (Kubernetes documentation, "Server-Side Apply"). Gives the object as it then is.
    pub async fn apply(&self, object: &Object, how: Apply) -> Result<Object, Report> {
        let doing = format!("applying {} in namespace {:?}", object.title(), self.namespace);
        let mut path = format!("{}/{}?fieldManager={MANAGER}", object.kind.path(&self.namespace), object.name);
        if how.force {
            path.push_str("&force=true");
        }
        if how.dry_run {
            path.push_str("&dryRun=All");
        }
        let body = Some(("application/apply-patch+yaml", &object.body));
        let body = self.ask::<Value>(Method::PATCH, &path, body, &doing).await?;
        Ok(Object { kind: object.kind, name: object.name.clone(), body })
    }

    /// Changes some fields (RFC 7396), as a manager of their own.
    pub async fn merge(&self, kind: Kind, name: &str, patch: &Value, manager: &str) -> Result<Object, Report> {
        let doing = format!("changing {} {name:?} in namespace {:?}", kind.as_str(), self.namespace);
        let path = format!("{}/{name}?fieldManager={manager}", kind.path(&self.namespace));
        let body = Some(("application/merge-patch+json", patch));
        let body = self.ask::<Value>(Method::PATCH, &path, body, &doing).await?;
        Ok(Object { kind, name: name.to_owned(), body })
    }

    /// Changes an object step by step (RFC 6902), if the condition, a step of its own, is met. False where it is not, or
    /// there is no such object.
    pub async fn patch_if(&self, kind: Kind, name: &str, condition: &Value, steps: &[Value]) -> Result<bool, Report> {
        let doing = format!("changing {} {name:?} in namespace {:?}", kind.as_str(), self.namespace);
        let path = format!("{}/{name}?fieldManager={MANAGER}", kind.path(&self.namespace));
        let patch: Value = [condition].into_iter().chain(steps).cloned().collect();
        match self.ask::<Value>(Method::PATCH, &path, Some(("application/json-patch+json", &patch)), &doing).await {
            Ok(_) => Ok(true),
            // A failed test is "422 Unprocessable Entity" to the server, like a patch that makes no sense.
            Err(error) if matches!(error.http_status_code, 404 | 422) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes an object that is not there yet.
    ///
    /// # Errors
    /// `CLUSTER_CONFLICT` (409) where it is.
    pub async fn create(&self, object: &Object, dry_run: bool) -> Result<Object, Report> {
        let doing = format!("making {} in namespace {:?}", object.title(), self.namespace);
        let dry = if dry_run { "&dryRun=All" } else { "" };
        let path = format!("{}?fieldManager={MANAGER}{dry}", object.kind.path(&self.namespace));
        let body = Some(("application/json", &object.body));
        let body = self.ask::<Value>(Method::POST, &path, body, &doing).await?;
        Ok(Object { kind: object.kind, name: object.name.clone(), body })
    }

    /// Begins to remove an object; one that is not there is removed. With `foreground`, it stays until all that it
    /// owns is gone.
    pub async fn delete(&self, kind: Kind, name: &str, foreground: bool) -> Result<(), Report> {
        let doing = format!("removing {} {name:?} in namespace {:?}", kind.as_str(), self.namespace);
        let policy = if foreground { "Foreground" } else { "Background" };
        let path = format!("{}/{name}?propagationPolicy={policy}", kind.path(&self.namespace));
        match self.ask::<Value>(Method::DELETE, &path, None, &doing).await {
            Err(error) if error.http_status_code != 404 => Err(error),
            _ => Ok(()),
        }
    }

    /// Asks, and asks again while the server is away, too busy, or cannot reach its own store.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
        doing: &str,
    ) -> Result<T, Report> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.once::<T>(method.clone(), path, body, doing).await {
                Ok(answer) => {
                    self.has_answered();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if failure::has_answered(&error) {
                self.answered.store(true, Ordering::Relaxed);
            }
            let patience = if self.answered.load(Ordering::Relaxed) { OUTAGE } else { FIRST_CONTACT };
            let rest = failure::wanted_pause(&error).unwrap_or(pause);
            if !failure::is_passing(&error) || begun.elapsed() + rest > patience {
                return Err(failure::report(&error, doing, &self.entrance.server));
            }
            if begun.elapsed() > Duration::from_secs(1) {
                let why = failure::report(&error, doing, &self.entrance.server).message;
                self.tell_waiting(|| format!("{why}; trying again"));
            }
            tokio::time::sleep(rest).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Once for each time that the server is away.
    fn tell_waiting(&self, message: impl FnOnce() -> String) {
        if !self.waiting.swap(true, Ordering::Relaxed) {
            self.events.tell(Event::Waiting { message: message() });
        }
    }

    fn has_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
        self.waiting.store(false, Ordering::Relaxed);
    }

    async fn once<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
        doing: &str,
    ) -> Result<T, Error> {
        let mut request = Request::builder().method(method).uri(path.replacen(METADATA_ONLY, "", 1));
        if path.contains(METADATA_ONLY) {
            request = request
                .header(http::header::ACCEPT, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
        }
        let mut bytes = Vec::new();
        if let Some((kind, body)) = body {
            request = request.header(http::header::CONTENT_TYPE, kind);
            bytes = serde_json::to_vec(body).map_err(Error::SerdeError)?;
        }
        let request = request.body(bytes).map_err(Error::HttpError)?;
        // Closed, once the first request is through.
        let first = self.opening.acquire().await;
        // Never closed.
        let _slot = self.slots.acquire().await;
        let mut answer = std::pin::pin!(tokio::time::timeout(ANSWER_TIMEOUT, self.entrance.client.request(request)));
        let answer = match tokio::time::timeout(SILENCE, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let server = &self.entrance.server;
                self.tell_waiting(|| format!("{doing}: {server} has not answered for {SILENCE:?}; waiting for it"));
                answer.await
            }
        };
        if first.is_ok() {
            self.opening.close();
        }
        answer.unwrap_or_else(|_| Err(Error::Service(format!("no answer within {ANSWER_TIMEOUT:?}").into())))
    }
}

/// A value in a query (RFC 3986, section 2.1).
pub fn encode(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let byte = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(byte).collect()
}
