//! What a start of a vessel comes to, without the start: its argument vector, its files, its directory.

use std::path::{Path, PathBuf};

use super::Launch;
use super::packages::{self, PackagesPreview};
use super::resolve::resolve_ahead;
use super::workdir::{PlannedContent, archived_files, planned_files};
use crate::config::Settings;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartPreview {
    /// The argument vector; empty when there is a `problem`.
    pub arguments: Vec<String>,
    /// The file that is executed.
    pub path: Option<PathBuf>,
    /// Why the vessel cannot start.
    pub problem: Option<String>,
    /// Where it starts.
    pub directory: PathBuf,
    pub files: Vec<PreviewedFile>,
    /// What is installed before.
    pub packages: Option<Box<PackagesPreview>>,
    /// The words of its runner's cleanup; `None`: no runner.
    pub cleanup: Option<Vec<String>>,
}

/// A file that a vessel gets in the work directory of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewedFile {
    pub path: PathBuf,
    pub bytes: u64,
    /// Its permissions.
    pub mode: u32,
}

/// What `launch` comes to in the work directory `work`, which need not exist.
pub fn preview(launch: &Launch<'_>, work: &Path, settings: &Settings) -> StartPreview {
    let directory = match launch.working_directory {
        None => work.to_owned(),
        Some(directory) => work.join(directory),
    };
    let files = planned_files(launch).into_iter().map(|file| PreviewedFile {
        path: work.join(&*file.name),
        bytes: match &file.content {
            PlannedContent::Bytes(bytes) => bytes.len() as u64,
            PlannedContent::Body => launch.payload.body_bytes(),
        },
        mode: file.mode.bits(),
    });
    let unpacked = archived_files(launch.program).into_iter().map(|(path, bytes, mode)| {
        PreviewedFile { path: work.join(path), bytes, mode: mode.bits() }
    });
    let files = files.chain(unpacked).collect();
    let packages = packages::preview(launch, work, settings).map(Box::new);
    let invocation = launch.invocation();
    let expanded = |word: &String| invocation.expanded(word).into_owned();
    let cleanup = launch.runner.map(|runner| runner.cleanup.iter().map(expanded).collect());
    let (arguments, path, problem) = match resolve_ahead(&invocation, &directory, work) {
        Ok(resolved) => {
            let words = resolved.arguments.into_iter().map(|word| word.into_owned());
            (words.collect(), Some(resolved.path), None)
        }
        Err(reason) => (Vec::new(), None, Some(reason.to_string())),
    };
    StartPreview { arguments, path, problem, directory, files, packages, cleanup }
}
