//! Uploads (OCI distribution specification 1.1, "Push"): blobs in one piece each, then the manifest that names them.

use super::failure::{Failed, Pauses, said};
use super::{Authorized, Registry, TRIES, host};
use crate::image::digest::Digest;
use crate::image::error::{Error, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use serde_json::{Value, json};
use std::sync::PoisonError;

/// Bytes with their digest.
#[derive(Debug, Clone)]
pub(in crate::image) struct Blob {
    pub(in crate::image) bytes: Vec<u8>,
    pub(in crate::image) digest: Digest,
}

impl Blob {
    pub(in crate::image) fn new(bytes: Vec<u8>) -> Blob {
        let digest = Digest::of(&bytes);
        Blob { bytes, digest }
    }

    /// As an index or a manifest names it.
    pub(in crate::image) fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest.to_string(), "size": self.bytes.len() })
    }
}

impl Registry {
    /// The same, asking for more: to write.
    pub(in crate::image) fn for_pushing(mut self) -> Registry {
        self.actions = "pull,push";
        self
    }

    /// Sends a blob, unless the repository has it. Tried again like every request: what is sent may be sent twice.
    pub(in crate::image) async fn push_blob(&self, blob: &Blob) -> Result<()> {
        let mut pauses = Pauses::new(TRIES);
        loop {
            match self.push_blob_once(blob).await {
                Ok(()) => return Ok(()),
                Err(failed) => pauses.after(failed, self).await.map_err(as_push)?,
            }
        }
    }

    async fn push_blob_once(&self, blob: &Blob) -> Result<(), Failed> {
        let there = self.at(&format!("blobs/{}", blob.digest))?;
        let answer = self.send(Method::HEAD, there, None).await?;
        // One that is kept elsewhere is redirected to.
        if answer.status().is_success() || answer.status().is_redirection() {
            return Ok(());
        }
        if answer.status() != StatusCode::NOT_FOUND {
            return Err(self.not_pushed(answer).await);
        }
        let begun = self.send(Method::POST, self.at("blobs/uploads/")?, Some((Vec::new(), ""))).await?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(self.not_pushed(begun).await);
        }
        let location = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let upload = location.and_then(|location| begun.url().join(location).ok());
        let Some(mut upload) = upload.filter(|url| self.endpoint.allows(url)) else {
            return Err(Failed::Final(self.unreachable("it does not say where to upload to".to_owned(), 1)));
        };
        upload.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let body = Some((blob.bytes.clone(), "application/octet-stream"));
        let put = self.send(Method::PUT, upload, body).await?;
        if put.status() == StatusCode::CREATED { Ok(()) } else { Err(self.not_pushed(put).await) }
    }

    /// Sends a manifest, whose blobs are there, under a tag.
    pub(in crate::image) async fn push_manifest(&self, tag: &str, manifest: &Blob, media_type: &str) -> Result<()> {
        let mut pauses = Pauses::new(TRIES);
        loop {
            match self.push_manifest_once(tag, manifest, media_type).await {
                Ok(()) => return Ok(()),
                Err(failed) => pauses.after(failed, self).await.map_err(as_push)?,
            }
        }
    }

    async fn push_manifest_once(&self, tag: &str, manifest: &Blob, media_type: &str) -> Result<(), Failed> {
        let body = Some((manifest.bytes.clone(), media_type));
        let put = self.send(Method::PUT, self.at(&format!("manifests/{tag}"))?, body).await?;
        if put.status() == StatusCode::CREATED { Ok(()) } else { Err(self.not_pushed(put).await) }
    }

    fn at(&self, path: &str) -> Result<Url, Failed> {
        let text = format!("{}/v2/{}/{path}", self.endpoint.base, self.repository);
        Url::parse(&text).map_err(|why| Failed::Final(self.corrupt(format!("{text} is not a URL: {why}"))))
    }

    /// One request, authorised as the registry asks; of an upload's own address only where that is the registry's.
    async fn send(&self, method: Method, url: Url, body: Option<(Vec<u8>, &str)>) -> Result<Response, Failed> {
        let from_us = url.origin() == self.endpoint.url.origin();
        let mut challenged = false;
        loop {
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut request = self.client(&url)?.request(method.clone(), url.clone());
            if let Some(authorization) = authorization.filter(|_| from_us) {
                request = request.header(AUTHORIZATION, authorization);
            }
            if let Some((bytes, media_type)) = &body {
                request = request.body(Body::from(bytes.clone()));
                if !media_type.is_empty() {
                    request = request.header(CONTENT_TYPE, *media_type);
                }
            }
            let response = request.send().await.map_err(|why| self.failed(why))?;
            if response.status() != StatusCode::UNAUTHORIZED || !from_us || challenged {
                return Ok(response);
            }
            challenged = true;
            let Authorized { problem, .. } = self.authorize(&response).await?;
            if let Some(problem) = problem {
                return Err(Failed::Final(self.refused_push(problem)));
            }
        }
    }

    /// The error of an answer that does not take what was sent.
    async fn not_pushed(&self, mut response: Response) -> Failed {
        let status = response.status();
        let who = format!("the registry {} answered {}", host(response.url()), status.as_u16());
        if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
            return self.not_now(&response, who);
        }
        let said = self.body(&mut response, 64 << 10).await.ok().and_then(|body| said(&body));
        Failed::Final(self.refused_push(said.map_or(who.clone(), |said| format!("{who} ({said})"))))
    }

    fn refused_push(&self, why: String) -> Error {
        Error::NotPushed { place: Box::new(self.place.clone()), why }
    }
}

/// What is said of reading, said of writing.
fn as_push(error: Error) -> Error {
    match error {
        Error::Unauthorized { place, who, status, with_credentials } => {
            let how = if with_credentials { "to the credentials it was given" } else { "and no credentials are known" };
            Error::NotPushed { place, why: format!("{who} answered {status} {how}") }
        }
        other => other,
    }
}
