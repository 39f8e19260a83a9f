//! `boathook manual`: the manual pages, made of the command line's own help and its topics.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::CommandFactory;

use super::{Cli, Outcome, help};

/// Arguments of `manual`.
#[derive(Debug, clap::Args)]
pub struct ManualArgs {
    /// Where the directories man1 and man7 go; made when it is missing
    directory: PathBuf,
}

/// Writes a page per verb and one per topic.
///
/// # Errors
/// When they cannot be written.
pub fn run(arguments: &ManualArgs) -> anyhow::Result<Outcome> {
    let directory = &arguments.directory;
    write(directory).with_context(|| format!("cannot write to {}", directory.display()))?;
    Ok(Outcome::Done)
}

fn write(directory: &Path) -> std::io::Result<()> {
    let (verbs, topics) = (directory.join("man1"), directory.join("man7"));
    fs::create_dir_all(&verbs)?;
    clap_mangen::generate_to(Cli::command(), verbs)?;
    fs::create_dir_all(&topics)?;
    let source = concat!("boathook ", env!("CARGO_PKG_VERSION"));
    for (name, page) in help::manual_pages(source) {
        fs::write(topics.join(name), page)?;
    }
    Ok(())
}
