//! Always-on processes (Daemons), declared in TypeScript and run here or in a cluster.
//!
//! The house, from the ground up; a floor uses only floors below it:
//!
//! ```text
//! node        the N-API surface
//! commands    the manager of commands: protocol, store, HTTP
//! kubernetes  `Platform` in a cluster: manifests, apply, rollout, diagnosis
//! local       `Platform` on this machine: image + sandbox + supervisor, or a container engine
//! engine      plan = desired against observed; owns `trait Platform`
//! preflight   rules over (stack, platform); pure
//! image       references, registries, the content-addressed store, unpacking
//! supervisor  keeps one process alive; its wire protocol
//! sandbox     what that process sees: namespaces, mounts, user, capabilities
//! sys         Linux calls by name
//! model       what a user declares; pure data and its rules
//! error       the one error that leaves the library
//! ```
//!
//! `sandbox` and `supervisor` are all that the helper program `alien-supervisor` is made of: they use the
//! standard library, libc and serde, nothing else.

#[cfg(not(target_os = "linux"))]
compile_error!("this crate is for Linux: Local runs on its namespaces");

#[cfg(feature = "manager")]
pub mod commands;
#[cfg(feature = "addon")]
pub mod engine;
pub mod error;
#[cfg(feature = "addon")]
pub mod image;
#[cfg(feature = "addon")]
pub mod kubernetes;
#[cfg(feature = "addon")]
pub mod local;
#[cfg(feature = "addon")]
pub mod model;
#[cfg(feature = "addon")]
pub mod node;
#[cfg(feature = "addon")]
pub mod preflight;
pub mod sandbox;
pub mod supervisor;
pub mod sys;
