//! Yagura: the command line, the server that assembles a tower from a config, and the small Kafka client
//! that the client commands use.

pub mod cli;
pub mod client;
pub mod server;
