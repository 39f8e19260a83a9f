//! The `boathook` program: parse, run, say what went wrong.

use std::process::ExitCode;

use boathook::cli;
use boathook::os::core_limit;
use boathook::runner::shim;
use tikv_jemallocator::Jemalloc;

/// Payloads are allocated by one thread and freed by another, and the database copies nodes of its
/// tree with each row: with glibc's allocator an accept takes a fifth longer. See `memory::SETTINGS`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    if let Some(failed) = shim::take_over() {
        return failed;
    }
    core_limit::lower();
    match cli::run(cli::parse()) {
        Ok(outcome) => outcome.into(),
        Err(error) if cli::output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            cli::output::fail(&format!("boathook: {}", cli::output::told(&error)));
            ExitCode::FAILURE
        }
    }
}
