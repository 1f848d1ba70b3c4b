//! The rules of transactions, tested alone: time is an argument.

mod appends;
mod bench;
mod ends;
mod offsets;
mod states;
mod timeouts;
