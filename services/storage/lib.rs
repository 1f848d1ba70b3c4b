//! The storage service: where a stack ends when Yagura is a broker.
//!
//! A call comes in through [`Service`], which sends it to its API (`apis`, a file each). The API turns it into commands
//! and reads; `rules` say what a command means; an engine (`engines`) makes it durable. The service keeps nothing
//! itself: whatever must survive is in the engine.

mod apis;
pub mod coordinator;
pub mod engines;
pub mod rules;
mod service;
mod settings;
pub mod store;
mod telemetry;
mod trial;

pub use service::{NodeFacts, Service, served_apis};
pub use settings::{Location, Settings};
