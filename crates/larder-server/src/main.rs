//! The program.

use std::process::ExitCode;

fn main() -> ExitCode {
    larder_server::cli::main()
}
