//! Fuzzing: mutated inputs for every reader of bytes that clients, disks and operators supply.
//!
//! Each target (`targets`) is one such reader, with inputs to begin with, words that mean something to it, and bounds on
//! the memory that an input may take. A run takes inputs of the corpus (what a target makes itself, the files in
//! `corpus/TARGET`, and those that earlier runs of `make fuzz` have found), changes them, repairs some of them so that
//! they pass lengths and checksums again, and looks that the reader keeps its promises: it does not panic, hang
//! or take more memory than its bound, and what it accepts can be read by the next in line.
//!
//! ```text
//! cargo test -p yagura-fuzz --test campaign              all targets, 5 seconds together
//! cargo test -p yagura-fuzz --test campaign -- batch     those whose names have `batch` in them
//! make fuzz                                              optimized, guided by coverage, for 5 minutes
//!
//! FUZZ_SECONDS=60      how long, all targets together
//! FUZZ_INPUTS=10000000 how many inputs, all targets together; without FUZZ_SECONDS, however long it takes
//! FUZZ_SEED=1          the seed of the first worker; others count on from it. By default 1, and others by the time
//! FUZZ_JOBS=2          workers at once, a process each; by default one a core
//! FUZZ_INPUT=PATH      that input alone, for the target that its folder is called
//! ```
//!
//! A worker is a process of its own, which dies of the first fault. The input that it was at is then in
//! `target/fuzz/failed/TARGET`. Once mended, it moves to `corpus/TARGET`, and is run first ever after.
//!
//! Coverage needs nothing but a stable compiler: see `coverage`.

mod campaign;
mod corpus;
mod coverage;
// The kernel's tests fill bodies with the same dice.
#[path = "../../src/kernel/schema/tests/dice.rs"]
mod dice;
mod memory;
mod mutate;
mod random;
mod record;
mod repair;
mod targets;
mod watch;
mod worker;

use std::process::ExitCode;

// Where the dice look for it.
use kernel::schema;

pub use memory::Counting;

/// Runs what the arguments and the environment ask for.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == worker::FLAG => worker::main(rest),
        _ => campaign::main(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("fuzz: {message}");
            ExitCode::FAILURE
        }
    }
}
