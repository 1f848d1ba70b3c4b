//! Hostile bytes on the real binary: whatever a client sends, the broker answers or closes. It does not panic, abort,
//! hang or grow, and it keeps serving others.

#![allow(clippy::unwrap_used)] // Every line of this crate is a test.

#[path = "hostile/bodies.rs"]
mod bodies;
#[path = "hostile/crowd.rs"]
mod crowd;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/order.rs"]
mod order;
mod support;
