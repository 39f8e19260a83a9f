//! The `boathook` program: parse, run, say what went wrong.

use std::process::ExitCode;

use boathook::cli::{self, Cli};
use boathook::launch::shim;
use boathook::memory;
use clap::Parser;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = memory::ALLOCATOR;

fn main() -> ExitCode {
    if let Some(failed) = shim::take_over() {
        return failed;
    }
    match cli::run(Cli::parse()) {
        Ok(outcome) => outcome.into(),
        Err(error) if cli::output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            cli::output::advise(&format!("boathook: {}", cli::output::told(&error)));
            ExitCode::FAILURE
        }
    }
}
