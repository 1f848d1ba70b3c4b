//! `cargo test -p yagura-fuzz --test campaign`: see the crate's documentation.

use std::process::ExitCode;

/// Counts what a run holds, and refuses what no run may hold.
#[global_allocator]
static ALLOCATOR: fuzz::Counting = fuzz::Counting;

fn main() -> ExitCode {
    fuzz::main()
}
