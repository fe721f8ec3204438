//! What Node sees of the library. Thin: text in, text out; every rule lives on the floors below.
//!
//! # The envelope
//! A function takes JSON text and answers JSON text: `{"ok": value}` or `{"error": Report}`. No object is made
//! here, because one addon serves every realm of a process (each Jest test file is one), and an object made natively
//! belongs to the first: it would be no `instanceof` anything, and unequal to a literal. `js/call.js` opens the
//! envelope and builds objects and errors in the realm of the caller.
//!
//! # Types
//! The structs in this folder are the shapes of that JSON, written down for `index.d.ts` (see `tools/build.mjs`)
//! and held against real output by the tests in `shapes.rs`.

pub mod daemon;
pub mod deployment;
pub mod engine;
pub mod exec;
mod handles;
pub mod manager;
mod options;
pub mod preflight;
pub mod readers;
pub mod render;
mod request;
pub mod resources;
#[cfg(test)]
mod shapes;
pub mod stack;
mod value;

pub use value::answer;

/// Of all that the addon asks for; Node has its own. Whoever is linked with both, as the other programs are in tests, has this.
#[global_allocator]
static ALLOCATOR: crate::sys::blocks::Blocks = crate::sys::blocks::Blocks;
