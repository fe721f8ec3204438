//! What a user declares. Pure data and its rules; no I/O.
//!
//! Everything comes in as a [`Raw`] tree, which still knows what JavaScript knew (`undefined`, a function, NaN), is
//! checked once, here, and goes out as typed values whose JSON is the contract. [`Stack::build`] and
//! [`Daemon::build`] stand behind the builders; [`Stack::from_text`] takes a stack that was built before, from
//! anywhere, and holds it to the same rules.

pub mod binding;
pub mod check;
mod code;
mod daemon;
pub mod dns;
pub mod environment;
mod grants;
pub mod image_reference;
pub mod names;
mod ordered;
mod permissions;
mod quantity;
mod raw;
mod resource;
mod stack;
mod storage;
mod suggest;

pub use binding::{BindingValue, Bindings, ExternalBinding};
pub use code::{Code, Toolchain};
pub use daemon::Daemon;
pub use grants::Grants;
pub use image_reference::{ImageReference, RegistryReference};
pub use ordered::Ordered;
pub use permissions::{Management, PermissionSet, Permissions, Profile};
pub use quantity::{Bounds, Quantity};
pub use raw::Raw;
pub use resource::{Kv, Queue, Resource, ResourceRef, ResourceType, Vault};
pub use stack::{Entry, Lifecycle, Platform, Stack};
pub use storage::{LifecycleRule, Storage};
pub use suggest::did_you_mean;

#[cfg(test)]
mod tests;
