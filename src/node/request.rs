//! What every call on the engine brings with it: options over defaults, and from those the place it is about.

use super::options::{self, Options};
use super::resources::read;
use crate::engine;
use crate::engine::Platform;
use crate::error::Report;
use crate::kubernetes::Kubernetes;
use crate::local::Place;
use crate::model::check::{self, At, Issues, OPTIONS};
use crate::model::{Platform as Name, Raw, Stack};
use crate::preflight;

/// A call, read and checked before anything begins.
pub struct Asked {
    raw: Raw,
    pub options: Options,
}

impl Asked {
    /// Reads `{options, defaults, …}`.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every problem of the options.
    pub fn read(text: &str) -> Result<Asked, Report> {
        let raw = read(text)?;
        let part = |key: &str| raw.get(key).unwrap_or(&Raw::Undefined);
        let options = options::read(part("options"), part("defaults"))?;
        Ok(Asked { raw, options })
    }

    /// What stands at a key.
    pub fn part(&self, key: &str) -> &Raw {
        self.raw.get(key).unwrap_or(&Raw::Undefined)
    }

    /// The text at a key; nothing where there is none: no such resource will be found.
    pub fn text(&self, key: &str) -> String {
        self.part(key).as_str().unwrap_or_default().to_owned()
    }

    /// The deployment that the call is about.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where the options do not say.
    pub fn deployment(&self) -> Result<String, Report> {
        self.options.name.clone().ok_or_else(|| {
            let mut issues = Issues::default();
            issues.missing(&At::ROOT.key("name")).hint =
                Some("name the deployment; by default that is its stack's id".to_owned());
            check::report(issues.0, OPTIONS, None)
        })
    }

    /// The stack, with what is given for it.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`, `UNKNOWN_DAEMON`.
    pub fn stack(&self) -> Result<engine::Request, Report> {
        let stack = Stack::from_raw(self.part("stack"))?;
        unknown_secrets(&stack, &self.options)?;
        let name = self.options.name.clone().unwrap_or_else(|| stack.id.clone());
        Ok(engine::Request { name, stack, inputs: self.options.inputs.clone() })
    }
}

/// A secret for a daemon that is not there would silently go nowhere.
fn unknown_secrets(stack: &Stack, options: &Options) -> Result<(), Report> {
    let daemons: Vec<&str> = stack.daemons().map(|daemon| daemon.id.as_str()).collect();
    match options.inputs.secrets.keys().find(|id| !daemons.contains(&id.as_str())) {
        Some(id) => {
            Err(Report::new("UNKNOWN_DAEMON", format!("secrets are given for {id:?}, which is no daemon of the stack"))
                .status(400)
                .hint(format!("its daemons are: {}", daemons.join(", "))))
        }
        None => Ok(()),
    }
}

/// The place that a call is about. `stack` is there where one is to be deployed.
///
/// # Errors
/// `PREFLIGHT_FAILED` for a stack and a platform that nothing is deployed to, in preflight's own words, else
/// `PLATFORM_NOT_SUPPORTED`.
pub fn place(options: Options, stack: Option<&Stack>) -> Result<Box<dyn Platform>, Report> {
    match (options.platform, stack) {
        (Name::Local, stack) => {
            let name = options.name.or_else(|| stack.map(|stack| stack.id.clone()));
            Ok(Box::new(Place::new(options.local, name)))
        }
        (Name::Kubernetes, _) => Ok(Box::new(Kubernetes::new(options.kubernetes))),
        (platform, Some(stack)) => Err(engine::preflight_failed(preflight::run(stack, platform))),
        (platform, None) => {
            let message = format!("Stacks are deployed to Local and Kubernetes only, not to {platform}");
            let hint = "ask platform \"local\" or \"kubernetes\"";
            Err(Report::new("PLATFORM_NOT_SUPPORTED", message).status(400).hint(hint))
        }
    }
}
