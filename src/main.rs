//! The `boathook` program.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Payloads are allocated by one thread and freed by another, and the database copies nodes of its
/// tree with each row: with glibc's allocator an accept takes a fifth longer. See `memory::SETTINGS`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    boathook::main()
}
