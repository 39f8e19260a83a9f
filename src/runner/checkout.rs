//! Clones a git repository into the work directory before the vessel's program starts. The git
//! commands run as the vessel does, in its environment and within its bounds, and their output
//! begins its log.

use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::last_words::{LAST_WORDS_BYTES, safe_directory_command};
use super::output::{Kept, LiveOutput};
use super::shortage::StartError;
use super::tree::remove_tree;
use super::{HowEnded, Input, Launch};
use crate::model::environment::Environment;
use crate::model::fleet::Program;
use crate::model::source::{Code, GitSource, Language, Origin};

/// Files of Git LFS that are checked for their content after a checkout. A repository that lacks
/// one lacks all.
const LFS_FILES_EXAMINED_MAX: usize = 1000;

/// Variables that direct git to another repository.
const ELSEWHERE: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"];

/// Variables that keep git from prompts, and from protocols that a fleet file cannot name (git(1)).
const FORCED: [(&str, &str); 4] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "/bin/false"),
    ("SSH_ASKPASS_REQUIRE", "never"),
    ("GIT_ALLOW_PROTOCOL", "https:ssh:file"),
];

/// Options that keep git from leaving a process behind that tidies the fresh repository up: `git
/// maintenance`, in versions before 2.29 `git gc`.
const NO_MAINTENANCE: [&str; 4] = ["-c", "maintenance.auto=false", "-c", "gc.auto=0"];

/// Bytes of a script that are checked for line ends.
const SCRIPT_START_BYTES: usize = 4096;
/// The beginning of a file of Git LFS whose content has not been fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Runs one program in a directory. It writes to the output.
pub(super) type Run<'r> =
    &'r mut dyn FnMut(&Launch<'_>, &Path, &LiveOutput) -> Result<HowEnded, StartError>;

/// A clone of a repository into a work directory.
pub(super) struct Checkout<'a> {
    code: &'a Code,
    source: &'a GitSource,
    launch: &'a Launch<'a>,
    work: &'a Path,
    /// The log of the vessel.
    log: &'a LiveOutput,
}

impl<'a> Checkout<'a> {
    /// The clone that the vessel's program needs in `work`; `None` without a repository.
    pub fn of(launch: &'a Launch<'a>, work: &'a Path, log: &'a LiveOutput) -> Option<Self> {
        let Program::Code(code) = launch.program else { return None };
        match &code.origin {
            Origin::Git(source) => Some(Self { code, source, launch, work, log }),
            Origin::File { .. } | Origin::Archive { .. } => None,
        }
    }

    /// Fetches the repository anew. `git clone` accepts neither a commit nor a directory that is
    /// not empty. Returns the end of the vessel if it was stopped or cut off meanwhile.
    ///
    /// # Errors
    /// Why the clone failed.
    pub fn run(&self, run: Run<'_>) -> Result<Option<HowEnded>, StartError> {
        self.clear()?;
        let directory = self.directory();
        let url = self.source.url();
        let init =
            ["-c", "init.defaultBranch=main", "init", "--quiet", "--template=", "--", directory];
        let remote = ["-C", directory, "remote", "add", "--", "origin", &url];
        for arguments in [init.as_slice(), &remote] {
            if let Some(ended) = self.run_logged(arguments, run)? {
                return Ok(Some(ended));
            }
        }
        if let Some(ended) = self.fetch(run)? {
            return Ok(Some(ended));
        }
        let (quiet, whole) = ("advice.detachedHead=false", "submodule.recurse=false");
        let checkout = ["checkout", "--force", "--detach", "FETCH_HEAD"];
        let checkout =
            [["-C", directory, "-c", quiet].as_slice(), &["-c", whole], &checkout].concat();
        if let Some(ended) = self.run_logged(&checkout, run)? {
            return Ok(Some(ended));
        }
        self.note_crlf();
        self.note_lfs_pointers(run)
    }

    /// The directory of the repository, relative to the work directory.
    fn directory(&self) -> &str {
        self.source.directory().unwrap_or(".")
    }

    /// Removes an earlier clone. In the work directory itself only `.git`: other vessels share the
    /// rest.
    fn clear(&self) -> Result<(), StartError> {
        let path = self.work.join(self.source.directory().unwrap_or(".git"));
        remove_tree(&path)
            .map_err(|error| StartError::of(&error, format!("clear {}: {error}", path.display())))
    }

    /// Fetches the checkout point: a branch before a tag of that name, as `git clone --branch`
    /// does. For a bare name `git fetch` would prefer the tag.
    fn fetch(&self, run: Run<'_>) -> Result<Option<HowEnded>, StartError> {
        let point = self.source.checkout_point.as_deref();
        if let Some(name) = point.filter(|point| can_be_branch(point)) {
            let (ended, said) =
                self.run_unlogged(&self.fetch_arguments(&format!("refs/heads/{name}")), run)?;
            let is_missing = matches!(ended, HowEnded::Exited(1..)) && says_no_such_ref(&said);
            if !is_missing {
                self.log.append(&said);
                return self.expect_success(ended);
            }
        }
        self.run_logged(&self.fetch_arguments(point.unwrap_or("HEAD")), run)
    }

    fn fetch_arguments<'p>(&'p self, point: &'p str) -> [&'p str; 8] {
        let directory = self.directory();
        ["-C", directory, "fetch", "--quiet", "--no-recurse-submodules", "--", "origin", point]
    }

    /// Runs git, which must succeed. Returns the end of the vessel if it was stopped or cut off
    /// meanwhile.
    fn run_logged(&self, arguments: &[&str], run: Run<'_>) -> Result<Option<HowEnded>, StartError> {
        let ended = self.git(arguments, &[], self.log, run)?;
        self.expect_success(ended)
    }

    fn expect_success(&self, ended: HowEnded) -> Result<Option<HowEnded>, StartError> {
        let code = match ended {
            HowEnded::Exited(0) => return Ok(None),
            HowEnded::Exited(code) => code,
            ended => return Ok(Some(ended)),
        };
        let url = self.source.url();
        let advice = safe_directory_command(&self.log.end_of(LAST_WORDS_BYTES)).map(|command| {
            format!(
                ". The repository belongs to another user: run `{command}` as root, or set the \
                 vessel's variable GIT_CONFIG_GLOBAL to a file with that setting. What git shows \
                 above changes nothing for a vessel"
            )
        });
        let advice = advice.unwrap_or_default();
        let reason = format!(
            "{url} could not be cloned: git ended with exit code {code}, and says why above"
        );
        Err(format!("{reason}{advice}").into())
    }

    /// Runs git outside of the log and in English. Returns its end and its output.
    fn run_unlogged(
        &self,
        arguments: &[&str],
        run: Run<'_>,
    ) -> Result<(HowEnded, Vec<u8>), StartError> {
        let output = LiveOutput::default();
        let ended = self.git(arguments, &[("LC_ALL", "C")], &output, run)?;
        match output.capture().kept {
            Kept::Inline(said) => Ok((ended, said)),
            _ => Ok((ended, Vec::new())),
        }
    }

    fn git(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
        output: &LiveOutput,
        run: Run<'_>,
    ) -> Result<HowEnded, StartError> {
        let words = std::iter::once(&"git").chain(&NO_MAINTENANCE).chain(arguments);
        let program = Program::command(words.copied());
        let environment = environment(self.launch.environment, variables);
        let launch = Launch {
            program: &program,
            runner: None,
            environment: &environment,
            payload: &Input(&[]),
            may_answer: false,
            ..*self.launch
        };
        run(&launch, self.work, output)
    }

    /// Notes in the log that a shell is about to read a script with CRLF line ends.
    fn note_crlf(&self) {
        let file = self.launch.invocation().expanded(&self.code.file_to_run);
        let is_shell = self.code.language == Language::Bash;
        if is_shell && start_of(&self.work.join(&*file), SCRIPT_START_BYTES).ends_lines_with_crlf()
        {
            self.log.append_line(&format!(
                "boathook: {file} has CRLF line ends, which bash takes for parts of its commands; \
                 commit it with LF, and keep it so: `*.sh text eol=lf` in .gitattributes"
            ));
        }
    }

    /// Notes in the log that files of the checkout are pointers of Git LFS. Returns the end of the
    /// vessel if it was stopped or cut off meanwhile.
    fn note_lfs_pointers(&self, run: Run<'_>) -> Result<Option<HowEnded>, StartError> {
        let directory = self.directory();
        let list = ["-C", directory, "ls-files", "-z", "--", ":(attr:filter=lfs)"];
        let listed = match self.run_unlogged(&list, run)? {
            (HowEnded::Exited(0), listed) => listed,
            // This git is too old for the query.
            (HowEnded::Exited(_), _) => return Ok(None),
            (ended, _) => return Ok(Some(ended)),
        };
        let listed = String::from_utf8_lossy(&listed);
        let place = self.work.join(directory);
        let names = listed.split('\0').filter(|name| !name.is_empty()).take(LFS_FILES_EXAMINED_MAX);
        let is_pointer =
            |name: &&str| start_of(&place.join(name), LFS_POINTER.len()).0 == LFS_POINTER;
        let pointers: Vec<&str> = names.filter(is_pointer).collect();
        if let Some(first) = pointers.first() {
            self.log.append_line(&format!(
                "boathook: Git LFS has left {} as pointers, not as their content, such as {first}: \
                 install git-lfs, and run `git lfs install --system` as root, so that a checkout \
                 fetches it",
                if pointers.len() == 1 {
                    "a file".to_owned()
                } else {
                    format!("{} files", pointers.len())
                }
            ));
        }
        Ok(None)
    }
}

/// Whether `point` can be the name of a branch: no commit id and no full ref.
fn can_be_branch(point: &str) -> bool {
    let is_id = matches!(point.len(), 40 | 64) && point.bytes().all(|it| it.is_ascii_hexdigit());
    !is_id && point != "HEAD" && !point.starts_with("refs/")
}

/// Whether git's output says that the requested ref does not exist.
fn says_no_such_ref(said: &[u8]) -> bool {
    String::from_utf8_lossy(said).to_ascii_lowercase().contains("couldn't find remote ref")
}

/// The first bytes of a file.
pub(super) struct Start(pub Vec<u8>);

impl Start {
    fn ends_lines_with_crlf(&self) -> bool {
        let line = self.0.split_inclusive(|byte| *byte == b'\n').next();
        line.is_some_and(|line| line.ends_with(b"\r\n"))
    }
}

/// The first `bytes_max` bytes of the regular file at `path`; none without such a file. Follows no
/// link and waits for no writer.
pub(super) fn start_of(path: &Path, bytes_max: usize) -> Start {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut start = Vec::new();
    if let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty())
        && rustix::fs::fstat(&file).is_ok_and(|it| FileType::from_raw_mode(it.st_mode).is_file())
    {
        // A file that cannot be read counts as missing: the result is only a note in the log.
        let _ = std::fs::File::from(file).take(bytes_max as u64).read_to_end(&mut start);
    }
    Start(start)
}

/// The environment of git: that of the vessel (with credentials, proxies and the marks that
/// identify leftovers of a crash), then the forced variables, then `more`. Later variables win.
fn environment(vessel: &Environment, more: &[(&str, &str)]) -> Environment {
    let chooses_ssh = ["GIT_SSH_COMMAND", "GIT_SSH"].iter().any(|it| vessel.get(it).is_some());
    let batch_mode = (!chooses_ssh).then_some(("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"));
    let own = vessel.iter().filter(|(name, _)| !ELSEWHERE.contains(name));
    own.chain(FORCED).chain(batch_mode).chain(more.iter().copied()).collect()
}
