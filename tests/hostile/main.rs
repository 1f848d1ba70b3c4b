//! Hostile bytes on the real binary: whatever a client sends, the broker answers or closes. It does not panic, abort,
//! hang or grow, and it keeps serving others.

#![allow(clippy::unwrap_used)] // Every line of this crate is a test.

mod bodies;
mod crowd;
mod frames;
mod order;
#[path = "../support/mod.rs"]
mod support;
