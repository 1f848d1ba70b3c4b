//! The tower: the layers that stand between a client's connection and the services.
//!
//! Two planes. Above [`framing`] a layer sees a stream of bytes ([`limits`]); below it a layer is a
//! `tower::Layer` over calls ([`metrics`], [`trace`]), and [`route`] is the floor that they stand on. No
//! layer knows another, and none knows a service: a config file names their order. Each has its `Settings`
//! beside it.

pub mod framing;
pub mod limits;
pub mod metrics;
pub mod route;
pub mod trace;

// Not layers, but tools that several of them use.
#[cfg(test)]
mod doc_toml;
mod pace;
mod per_api;
mod watched;
