//! What a user declares. Pure data and its rules; no I/O.

pub mod image_reference;

pub use image_reference::{ImageReference, RegistryReference};
