//! `boathook manual`: the manual pages, made of the command line's own help.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;

use super::{Cli, Outcome};

/// Arguments of `manual`.
#[derive(Debug, clap::Args)]
pub struct ManualArgs {
    /// Where the pages go; made when it is missing
    directory: PathBuf,
}

/// Writes a page per verb.
///
/// # Errors
/// When they cannot be written.
pub fn run(arguments: &ManualArgs) -> anyhow::Result<Outcome> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    Ok(Outcome::Done)
}
