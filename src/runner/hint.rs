//! What a vessel that has failed may not know: that it met the walls of the server's sandbox, or took
//! more memory than there was.
//! Programs name the path and the error; what is behind it and what to write where is ours to say.

use std::path::{Path, PathBuf};

use super::HowEnded;
use super::sandbox::{Obstacle, Sandbox};
use crate::model::fleet::Program;

/// Bytes at the end of the output that are looked at: a program's last words, or a stack of calls.
pub(super) const LAST_WORDS_BYTES: usize = 8 * 1024;

/// What programs say to a file system that they may only read (EROFS).
const READ_ONLY: [&str; 2] = ["ead-only file system", "EROFS"];
/// To what they cannot find or enter (ENOENT, EACCES; ssh says it in its own way).
const OUT_OF_SIGHT: [&str; 5] =
    ["No such file", "ermission denied", "ENOENT", "EACCES", "not accessible"];
/// What sudo, su and their like say when they have not become root.
const NO_PRIVILEGES: [&str; 3] = ["no new privileges", "effective uid is not 0", "must be setuid"];
/// What V8 and the Java virtual machine say when they may not make code.
const NO_COMPILERS: [&str; 3] =
    ["# Fatal error in", "Failed to mark memory page as executable", "space for code cache"];

/// What to do about a vessel that took more memory than there was.
const OUT_OF_MEMORY: &str = "out of memory: the kernel ended a process of this vessel; let it take \
                             less (with `limits: {memory: SIZE}` its allocations fail instead), \
                             lower `workers`, or give the service more (MemoryMax= in its unit)";

/// What programs say that may not make namespaces: unshare, bwrap, podman, Chromium.
const NO_NAMESPACES: [&str; 4] = [
    "unshare failed: Operation not permitted",
    "No permissions to creat",
    "cannot clone: Operation not permitted",
    "No usable sandbox",
];
/// What programs say that may not drop capabilities.
const NO_CAPSET: [&str; 2] = ["cap_set_proc", "capset"];
/// Programs that end without a word then (iproute2).
const SILENT_WITHOUT_CAPSET: [&str; 4] = ["ip", "tc", "bridge", "devlink"];
/// What git says of a repository of another owner.
const OTHER_OWNER: &str = "detected dubious ownership in repository at ";

/// The sandbox's or the kernel's part in the end of a vessel whose `program` was started in
/// `directory`, as lines for its log. `last_words` is the end of its output, asked for when it has
/// failed.
pub(super) fn hint(
    how: &HowEnded,
    last_words: impl FnOnce() -> Vec<u8>,
    program: &Program,
    directory: &Path,
) -> Option<String> {
    if matches!(how, HowEnded::OutOfMemory { .. }) {
        return Some(OUT_OF_MEMORY.to_owned());
    }
    if !matches!(how, HowEnded::Exited(1..) | HowEnded::Signaled(_)) {
        return None;
    }
    let last_words = last_words();
    let text = String::from_utf8_lossy(&last_words);
    if let Some(repository) = repository_of_another(&text) {
        return Some(format!(
            "git's own advice does not help, since each run has a HOME of its own: `sudo git config \
             --system --add safe.directory {repository}`"
        ));
    }
    let is_silent = text.trim().is_empty() && runs_silent(program);
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    let all =
        [&READ_ONLY[..], &OUT_OF_SIGHT, &NO_PRIVILEGES, &NO_COMPILERS, &NO_NAMESPACES, &NO_CAPSET];
    if !is_silent && !all.into_iter().any(says) {
        return None;
    }
    let sandbox = Sandbox::of_process();
    let by_path = text.lines().rev().find_map(|line| obstacle(line, directory, &sandbox));
    // Where a path is relative, the program may have gone elsewhere first.
    let by_program = || {
        let mut named = named(program).filter(|_| says(&READ_ONLY));
        named.find_map(|path| sandbox.protects(existing(&path)?))
    };
    let obstacle = by_path
        .or_else(by_program)
        .or_else(|| sandbox.forbids_privileges().filter(|_| says(&NO_PRIVILEGES)))
        .or_else(|| sandbox.forbids_compilers().filter(|_| says(&NO_COMPILERS)))
        .or_else(|| says(&NO_NAMESPACES).then(|| sandbox.forbids_namespaces()).flatten())
        .or_else(|| sandbox.may_forbid_capset().filter(|_| is_silent || says(&NO_CAPSET)))?;
    Some(obstacle.text())
}

/// The repository that git refuses for its owner, as a shell reads it.
fn repository_of_another(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(OTHER_OWNER)?;
    // In quotes of git's own; a path with a quote in it does not come to a command.
    let (path, _) = rest.strip_prefix('\'')?.split_once('\'')?;
    rest.get(..path.len() + 2)
}

/// Whether `program` is, or begins with, one that may end without a word.
fn runs_silent(program: &Program) -> bool {
    let first = match program {
        Program::Command(command) => command.first().map(String::as_str),
        Program::Script(script) => script.split_whitespace().find(|word| !word.contains('=')),
        Program::Code(_) => None,
    };
    let name = first.and_then(|first| Path::new(first).file_name()?.to_str());
    name.is_some_and(|name| SILENT_WITHOUT_CAPSET.contains(&name))
}

/// What is in the way of a path that `line` complains of.
fn obstacle(line: &str, directory: &Path, sandbox: &Sandbox) -> Option<Obstacle> {
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| line.contains(phrase));
    if says(&READ_ONLY) {
        // The first path in a shell's complaint is the shell's.
        let path = paths(line).last().unwrap_or_else(|| directory.join("it"));
        return sandbox.protects(existing(&path)?);
    }
    if says(&OUT_OF_SIGHT) {
        return paths(line).find_map(|path| sandbox.hides(&path));
    }
    None
}

/// The absolute paths that a program names where we can see it.
pub(super) fn named(program: &Program) -> impl Iterator<Item = PathBuf> {
    let texts = match program {
        Program::Script(script) => std::slice::from_ref(script),
        Program::Command(command) => command.get(1..).unwrap_or_default(),
        Program::Code(_) => &[],
    };
    texts.iter().flat_map(|text| paths(text))
}

/// The directory at `path` or above it that is there.
pub(super) fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|place| place.is_dir())
}

/// The absolute paths in a line.
fn paths(line: &str) -> impl Iterator<Item = PathBuf> {
    let ends = |letter: char| letter.is_whitespace() || "'\"`‘’“”():;,=[]<>".contains(letter);
    line.split(ends).filter(|word| word.len() > 1 && word.starts_with('/')).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_what_programs_say() {
        for (line, expected) in [
            ("touch: cannot touch '/srv/site/x': Read-only file system", &["/srv/site/x"][..]),
            ("/bin/sh: 1: cannot create /srv/x: Read-only file system", &["/bin/sh", "/srv/x"]),
            ("Error: EROFS: read-only file system, open '/srv/x'", &["/srv/x"]),
            ("OSError: [Errno 30] Read-only file system: '/srv/x'", &["/srv/x"]),
            ("Identity file /home/me/.ssh/id not accessible: No such file", &["/home/me/.ssh/id"]),
            ("1/2 done / left", &[]),
        ] {
            let found: Vec<PathBuf> = paths(line).collect();
            assert_eq!(found, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{line}");
        }
    }

    #[test]
    fn programs_name_paths_in_scripts_and_arguments() {
        let of = |program: Program| named(&program).collect::<Vec<_>>();
        let script = "cd /srv/site && ./build > /dev/null # a/b";
        let expected = ["/srv/site", "/dev/null"].map(PathBuf::from);
        assert_eq!(of(Program::Script(script.into())), expected);
        let command = ["/usr/bin/ssh", "-i", "/home/me/.ssh/id", "host:/srv"];
        let command = Program::Command(command.map(String::from).to_vec());
        assert_eq!(of(command), ["/home/me/.ssh/id", "/srv"].map(PathBuf::from));
    }

    #[test]
    fn a_repository_of_another_owner_is_named_in_a_command_that_works() {
        let program = Program::Script("git pull".into());
        let words = "fatal: detected dubious ownership in repository at '/srv/my site'\n\
                     To add an exception for this directory, call:\n";
        let of = || words.as_bytes().to_vec();
        let hint = hint(&HowEnded::Exited(128), of, &program, Path::new("/")).unwrap();
        assert!(hint.ends_with("--add safe.directory '/srv/my site'`"), "{hint}");
        assert_eq!(repository_of_another("nothing of the kind"), None);
    }

    #[test]
    fn programs_that_end_without_a_word_are_known_by_name() {
        let command =
            |words: &[&str]| Program::Command(words.iter().map(|it| (*it).into()).collect());
        assert!(runs_silent(&command(&["/usr/sbin/ip", "addr"])));
        assert!(runs_silent(&Program::Script("LANG=C ip addr show\n".into())));
        assert!(!runs_silent(&command(&["ipcalc"])) && !runs_silent(&Program::Script("".into())));
    }

    #[test]
    fn who_has_not_failed_needs_no_hint() {
        let program = Program::Script("touch /proc/x".into());
        let of =
            |how, words: &str| hint(&how, || words.as_bytes().to_vec(), &program, Path::new("/"));
        let words = "touch: cannot touch '/proc/x': Read-only file system";
        assert_eq!(of(HowEnded::Exited(0), words), None);
        assert_eq!(of(HowEnded::CutOff, words), None);
        assert_eq!(of(HowEnded::Exited(1), "just failed"), None);
    }
}
