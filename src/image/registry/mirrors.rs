//! A registry with its mirrors: asked in order, the registry itself last.
//!
//! Who does not answer, or answers 404 or 5xx, is followed by the next; a mirror need not have everything. Any other
//! answer counts, also one that is wrong: a mirror that wants a password, or whose bytes are not what their digest
//! says, is something to be mended and not to be passed over. Who has given the manifest is asked first for the rest.

use super::{Registry, TRIES};
use crate::image::Options;
use crate::image::digest::Digest;
use crate::image::error::{Error, Place, Result};
use crate::image::manifest::Descriptor;
use crate::image::partial::Partial;
use crate::model::image_reference::RegistryReference;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How often one is tried that others stand in for.
const TRIES_WHEN_OTHERS: u32 = 2;

/// All that have a repository.
pub(in crate::image) struct Registries {
    all: Vec<Registry>,
    /// Who is asked first.
    first: AtomicUsize,
    /// What there is to tell of who was used, and how much of that was asked for.
    said: Mutex<(Vec<String>, usize)>,
}

/// Who has failed so far, in one question.
#[derive(Default)]
struct Failures {
    /// `WHO: WHY`
    whys: Vec<String>,
    not_found: Option<Error>,
}

impl Registries {
    /// The mirrors of the reference's registry, and it; nothing is sent yet.
    pub(in crate::image) fn new(reference: &RegistryReference, options: &Options) -> Result<Registries> {
        let mirrors = options.registries.get(&reference.registry).map_or(&[][..], |own| &own.mirrors);
        let names = mirrors.iter().map(|mirror| Some(mirror.as_str())).chain([None]);
        let all = names.map(|mirror| Registry::new(reference, mirror, options)).collect::<Result<_>>()?;
        Ok(Registries { all, first: AtomicUsize::new(0), said: Mutex::default() })
    }

    /// What errors say of who is asked now.
    pub(in crate::image) fn place(&self) -> &Place {
        self.all[self.first.load(Ordering::Relaxed)].place()
    }

    /// What there is to tell since the last time: which mirror was used, or why none was.
    pub(in crate::image) fn said(&self) -> Vec<String> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let news = said.0[said.1..].to_vec();
        said.1 = said.0.len();
        news
    }

    /// As [`Registry::manifest`].
    pub(in crate::image) async fn manifest(&self, name: &str, tries: u32) -> Result<(Digest, Vec<u8>)> {
        let mut failures = Failures::default();
        for index in self.first.load(Ordering::Relaxed).. {
            match self.all[index].manifest(name, self.tries(index, tries, &failures)).await {
                Ok(found) => {
                    self.used(index, &failures);
                    return Ok(found);
                }
                Err(error) => self.pass_over(index, error, &mut failures)?,
            }
        }
        Err(Error::Cancelled)
    }

    /// As [`Registry::small_blob`].
    pub(in crate::image) async fn small_blob(&self, descriptor: &Descriptor, max: u64) -> Result<Vec<u8>> {
        let mut failures = Failures::default();
        for index in self.first.load(Ordering::Relaxed).. {
            let tries = self.tries(index, TRIES, &failures);
            match self.all[index].small_blob(descriptor, max, tries).await {
                Ok(found) => {
                    self.used(index, &failures);
                    return Ok(found);
                }
                Err(error) => self.pass_over(index, error, &mut failures)?,
            }
        }
        Err(Error::Cancelled)
    }

    /// As [`Registry::download`]; each goes on where the one before has got to.
    pub(in crate::image) async fn download(
        &self,
        descriptor: &Descriptor,
        partial: &mut Partial,
        arrived: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let mut failures = Failures::default();
        for index in self.first.load(Ordering::Relaxed).. {
            // One that has begun to send is given as long as any.
            let tries = if failures.not_found.is_some() { TRIES_WHEN_OTHERS } else { TRIES };
            match self.all[index].download(descriptor, partial, tries, arrived).await {
                Ok(()) => {
                    self.used(index, &failures);
                    return Ok(());
                }
                Err(error) => self.pass_over(index, error, &mut failures)?,
            }
        }
        Err(Error::Cancelled)
    }

    fn is_last(&self, index: usize) -> bool {
        index + 1 >= self.all.len()
    }

    fn tries(&self, index: usize, tries: u32, failures: &Failures) -> u32 {
        // A mirror that has answered shows that this machine has a network.
        let spared = !self.is_last(index) || failures.not_found.is_some();
        if spared { tries.min(TRIES_WHEN_OTHERS) } else { tries }
    }

    /// Notes who has answered, and tells of it where there are mirrors and it is news.
    fn used(&self, index: usize, failures: &Failures) {
        let before = self.first.fetch_max(index, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if self.all.len() == 1 || (before == index && index > 0) {
            return;
        }
        let passed_over = failures.whys.join("; ");
        let place = self.all[index].place();
        let text = match (&place.mirror, passed_over.is_empty()) {
            (Some(mirror), true) => format!("asking the mirror {mirror}"),
            (Some(mirror), false) => format!("asking the mirror {mirror} ({passed_over})"),
            (None, _) => format!("asking {} itself ({passed_over})", place.registry),
        };
        if !said.0.contains(&text) {
            said.0.push(text);
        }
    }

    /// Goes on to the next, or gives the error that ends the question: the last one's, with what the others said; that
    /// of a mirror which knows that there is no such image, where the registry itself cannot be reached.
    fn pass_over(&self, index: usize, error: Error, failures: &mut Failures) -> Result<()> {
        let why = match &error {
            Error::Unreachable { why, .. } => why.clone(),
            Error::NotFound { what, .. } => what.clone(),
            _ => return Err(error),
        };
        let place = self.all[index].place();
        if !self.is_last(index) {
            let who = place.mirror.as_ref().unwrap_or(&place.registry);
            failures.whys.push(format!("{who}: {why}"));
            if matches!(error, Error::NotFound { .. }) {
                failures.not_found = Some(error);
            }
            return Ok(());
        }
        if failures.whys.is_empty() {
            return Err(error);
        }
        let others = failures.whys.join("; ");
        Err(match (error, failures.not_found.take()) {
            (Error::Unreachable { .. }, Some(Error::NotFound { place: mirror, what })) => {
                Error::NotFound { place: mirror, what: format!("{what}; {} itself: {why}", place.registry) }
            }
            (Error::Unreachable { place, url, attempts, .. }, _) => {
                Error::Unreachable { place, url, why: format!("{why}; before it, {others}"), attempts }
            }
            (Error::NotFound { place, .. }, _) => {
                Error::NotFound { place, what: format!("{why}; before it, {others}") }
            }
            (error, _) => error,
        })
    }
}
