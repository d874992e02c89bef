//! The `mainstay` command.

use std::process::ExitCode;

/// Keeps an idle TLS connection at 38 KB where glibc's allocator and mimalloc need two to three times that (measured
/// 2026-11-20), and gives memory back after a burst.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    mainstay::cli::main()
}
