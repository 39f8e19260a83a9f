//! Puts a git repository into the work directory before the vessel's program starts, by git itself.
//! Decides which commands do that; they run as the vessel does, in its environment and under its
//! bounds, and their output is the beginning of its log.

use std::io::Read;
use std::path::Path;

use super::shortage::StartError;
use super::tree::remove_tree;
use super::{HowEnded, Launch, Payload};
use crate::domain::fleet::Program;
use crate::domain::source::{GitSource, Origin};

/// Variables by which git would work on another repository than the one it is told.
const ELSEWHERE: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"];

/// Variables that keep git from asking anybody for anything, and to the protocols that a fleet
/// file can name (git(1)).
const FORCED: [(&str, &str); 4] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "/bin/false"),
    ("SSH_ASKPASS_REQUIRE", "never"),
    ("GIT_ALLOW_PROTOCOL", "https:ssh:file"),
];

/// A repository that is to be put into a work directory.
pub(super) struct Checkout<'a> {
    source: &'a GitSource,
    launch: &'a Launch<'a>,
    work: &'a Path,
}

impl<'a> Checkout<'a> {
    /// What the vessel's program needs in `work`; `None` when it is not from a repository.
    pub fn of(launch: &'a Launch<'a>, work: &'a Path) -> Option<Self> {
        let Program::Code(code) = launch.program else { return None };
        match &code.origin {
            Origin::Git(source) => Some(Self { source, launch, work }),
            Origin::File { .. } => None,
        }
    }

    /// Fetches the repository anew, whatever an earlier attempt has left of it. `run` runs one
    /// program to its end. Returns how the vessel ended if it was ended meanwhile.
    ///
    /// # Errors
    /// Why there is no repository to start with.
    pub fn run(
        &self,
        mut run: impl FnMut(&Launch<'_>) -> Result<HowEnded, StartError>,
    ) -> Result<Option<HowEnded>, StartError> {
        self.clear()?;
        let environment = environment(self.launch.environment);
        for step in self.steps() {
            let program = Program::Command(step.iter().map(|word| (*word).to_owned()).collect());
            let launch = Launch {
                program: &program,
                environment: &environment,
                payload: &NoPayload,
                ..*self.launch
            };
            match run(&launch)? {
                HowEnded::Exited(0) => {}
                HowEnded::Exited(code) => {
                    let url = self.source.url();
                    return Err(format!(
                        "{url} could not be cloned: git ended with exit code {code}, and says why \
                         above"
                    )
                    .into());
                }
                ended => return Ok(Some(ended)),
            }
        }
        Ok(None)
    }

    /// Removes what the place holds of a repository. In the work directory itself that is git's
    /// own directory: the rest belongs to other vessels as well.
    fn clear(&self) -> Result<(), StartError> {
        let path = self.work.join(self.source.directory().unwrap_or(".git"));
        remove_tree(&path)
            .map_err(|error| StartError::of(&error, format!("clear {}: {error}", path.display())))
    }

    /// The argument vectors. Not `git clone`, which takes neither a commit nor a directory that is
    /// not empty.
    fn steps(&self) -> Vec<Vec<String>> {
        let directory = self.source.directory().unwrap_or(".");
        let url = self.source.url();
        let point = self.source.checkout_point.as_deref().unwrap_or("HEAD");
        let steps: [&[&str]; 4] = [
            &["-c", "init.defaultBranch=main", "init", "--quiet", "--template=", "--", directory],
            &["-C", directory, "remote", "add", "--", "origin", &url],
            &[
                "-C",
                directory,
                "fetch",
                "--quiet",
                "--no-recurse-submodules",
                "--",
                "origin",
                point,
            ],
            &[
                "-C",
                directory,
                "-c",
                "advice.detachedHead=false",
                "-c",
                "submodule.recurse=false",
                "checkout",
                "--force",
                "--detach",
                "FETCH_HEAD",
            ],
        ];
        let words = |step: &[&str]| {
            std::iter::once("git").chain(step.iter().copied()).map(str::to_owned).collect()
        };
        steps.into_iter().map(words).collect()
    }
}

/// What git gets of the vessel's environment: credentials and proxies that the fleet has set, and
/// the marks by which leftovers of a crash are found.
fn environment(vessel: &[(String, String)]) -> Vec<(String, String)> {
    let chooses_ssh =
        vessel.iter().any(|(name, _)| matches!(name.as_str(), "GIT_SSH_COMMAND" | "GIT_SSH"));
    let batch_mode = (!chooses_ssh).then_some(("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"));
    let ours = FORCED.into_iter().chain(batch_mode);
    vessel
        .iter()
        .filter(|(name, _)| !ELSEWHERE.contains(&name.as_str()))
        .cloned()
        .chain(ours.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

/// Git gets nothing to read.
struct NoPayload;

impl Payload for NoPayload {
    fn headers_json(&self) -> Option<&[u8]> {
        None
    }

    fn body_bytes(&self) -> u64 {
        0
    }

    fn open_body(&self) -> Box<dyn Read + Send + '_> {
        Box::new(std::io::empty())
    }
}
