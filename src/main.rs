//! The `yagura` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    yagura::cli::main()
}
