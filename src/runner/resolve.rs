//! Finds the file to execute. execve(2) does not search, and the `PATH` of the vessel counts, not that
//! of the server.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::Access;

use super::reason::Reason;
use super::script::normalized;
use crate::model::computed::Argument;
use crate::model::environment::Environment;
use crate::model::expansion::{Reference, expand};
use crate::model::fleet::Program;
use crate::model::source::{Code, Language, Origin};
use crate::model::variable::SecretName;

/// The directories that execvp(3) searches without a `PATH`.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// A program, and what its words refer to.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The words of its runner. Variables in them expand.
    pub prefix: &'a [String],
    pub program: &'a Program,
    /// The whole environment, or at least `PATH`.
    pub environment: &'a Environment,
    /// The secrets that its words refer to, with their values.
    pub references: &'a [(SecretName, String)],
}

impl<'a> Invocation<'a> {
    /// `word` with the values of its references. A reference without a value stays as it is.
    pub fn expanded<'t>(&self, word: &'t str) -> Cow<'t, str> {
        expand(word, |reference| match reference {
            Reference::Variable(name) => self.environment.get(name),
            Reference::Secret(secret) => {
                let mut references = self.references.iter();
                references.find(|(name, _)| name == secret).map(|(_, value)| value.as_str())
            }
        })
    }
}

/// A program as it is executed.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// Absolute.
    pub path: PathBuf,
    /// The argument vector, `argv[0]` as the fleet has it.
    pub arguments: Vec<Cow<'a, str>>,
}

/// Composes the argument vector of a vessel and finds its file, for a start in `directory`. Its code,
/// if it has any, is in `work`. Both paths are absolute. With a runner the file is the runner's, which
/// looks for the vessel's own.
///
/// # Errors
/// The reason, for the vessel's log.
pub fn resolve<'a>(
    invocation: &Invocation<'a>,
    directory: &Path,
    work: &Path,
) -> Result<Resolved<'a>, Reason> {
    resolve_at(invocation, directory, work, true)
}

/// The same before `work` has the files of the vessel. Code is taken to be where the vessel says.
///
/// # Errors
/// As there.
pub fn resolve_ahead<'a>(
    invocation: &Invocation<'a>,
    directory: &Path,
    work: &Path,
) -> Result<Resolved<'a>, Reason> {
    resolve_at(invocation, directory, work, false)
}

fn resolve_at<'a>(
    invocation: &Invocation<'a>,
    directory: &Path,
    work: &Path,
    has_files: bool,
) -> Result<Resolved<'a>, Reason> {
    let own: Vec<Cow<'a, str>> = match invocation.program {
        Program::Script(script) => {
            vec![Cow::Borrowed("/bin/sh"), Cow::Borrowed("-c"), normalized(script)]
        }
        Program::Command(command) => {
            // The engine has given each argument its text.
            command.iter().filter_map(Argument::literal).map(Cow::Borrowed).collect()
        }
        Program::Code(code) => interpreted(code, invocation, directory, work, has_files)?,
    };
    let prefix = invocation.prefix.iter().map(|word| invocation.expanded(word));
    let arguments: Vec<Cow<'a, str>> = prefix.chain(own).collect();
    let name = match arguments.first().map(|name| &**name) {
        None | Some("") => return Err(Reason::new("its command is empty", "name a program")),
        Some(name) => name,
    };
    let path = match name.contains('/') {
        true => directory.join(name),
        false => search(name, path_of(invocation.environment), directory)?,
    };
    Ok(Resolved { path, arguments })
}

/// The argument vector that runs `code`: interpreter, file, arguments.
fn interpreted<'a>(
    code: &'a Code,
    invocation: &Invocation<'a>,
    directory: &Path,
    work: &Path,
    has_files: bool,
) -> Result<Vec<Cow<'a, str>>, Reason> {
    let named = invocation.expanded(&code.file_to_run);
    let relative = below(&named, work).ok_or_else(|| file_elsewhere(code, &named))?;
    let path = work.join(relative);
    if has_files && !path.is_file() {
        return Err(no_file_to_run(code, relative, &path));
    }
    // The program's own messages show this path: it is short where the directory allows that.
    let file = match directory == work && !relative.starts_with('-') {
        true => Cow::Owned(relative.to_owned()),
        false => Cow::Owned(path.to_string_lossy().into_owned()),
    };
    let given = code.argument_words().map(|word| invocation.expanded(word));
    Ok([interpreter_of(code), file].into_iter().chain(given).collect())
}

/// The path of the file `named`, relative to the directory `work`; `None` when it is not below it.
fn below<'n>(named: &'n str, work: &Path) -> Option<&'n str> {
    let in_work = named.strip_prefix(&*work.to_string_lossy());
    let relative = match in_work.and_then(|rest| rest.strip_prefix('/')) {
        Some(relative) => relative,
        None => named,
    };
    let mut parts = Path::new(relative).components();
    let is_below = parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (is_below && !relative.is_empty()).then_some(relative)
}

/// The reason when the variables in `file_to_run` make it `named`.
fn file_elsewhere(code: &Code, named: &str) -> Reason {
    Reason::new(
        format!("`file_to_run` is {}, which becomes `{named}`", code.file_to_run),
        "name a file below the run's directory, such as ${SHIPYARD_CLONE_LOCATION}/run.sh",
    )
}

/// The name of the program that runs `code`.
pub fn interpreter_of(code: &Code) -> Cow<'static, str> {
    match (code.language, &code.version) {
        (Language::Bash, _) => Cow::Borrowed("bash"),
        (Language::Node, _) => Cow::Borrowed("node"),
        (Language::Python, None) => Cow::Borrowed("python3"),
        (Language::Python, Some(version)) => Cow::Owned(format!("python{version}")),
    }
}

/// The reason when there is no file at `path`, which is `named` relative to the run's directory.
fn no_file_to_run(code: &Code, named: &str, path: &Path) -> Reason {
    match &code.origin {
        Origin::File { name, .. } => Reason::new(
            format!("`file_to_run` is {named}, but there is no file {}", path.display()),
            format!(
                "name {name}, which the vessel brings along, or one that an earlier vessel leaves"
            ),
        ),
        Origin::Archive { name, .. } => Reason::new(
            format!("`file_to_run` is {named}, and {name} holds no such file"),
            "name a file of the archive, with the directories above it",
        ),
        Origin::Git(git) => match git.directory() {
            Some(directory) if !named.starts_with(&format!("{directory}/")) => Reason::new(
                format!(
                    "`file_to_run` is {named}, but the repository is in the directory {directory}"
                ),
                format!("name {directory}/{named}, or set `clone_location` to CWD"),
            ),
            _ => Reason::new(
                format!(
                    "`file_to_run` is {named}, and the repository has no such file at its checkout \
                     point"
                ),
                "",
            ),
        },
    }
}

/// The vessel's `PATH`.
pub fn path_of(environment: &Environment) -> &str {
    environment.get("PATH").unwrap_or(PATH_DEFAULT)
}

/// The first executable file called `name` in the directories of `search_path`.
pub(super) fn search(name: &str, search_path: &str, directory: &Path) -> Result<PathBuf, Reason> {
    let mut not_executable = None;
    for place in search_path.split(':') {
        // An empty entry means the working directory (environ(7)), as does a relative one.
        let place = match place.starts_with('/') {
            true => Cow::Borrowed(Path::new(place)),
            false => Cow::Owned(directory.join(place)),
        };
        let candidate = place.join(name);
        if rustix::fs::access(&candidate, Access::EXEC_OK).is_ok() {
            if candidate.is_file() {
                return Ok(candidate);
            }
        } else if not_executable.is_none() && candidate.is_file() {
            not_executable = Some(candidate);
        }
    }
    Err(match not_executable {
        Some(path) => {
            let path = path.display();
            Reason::new(
                format!("`{name}` is at {path}, but not executable"),
                format!("chmod +x {path}"),
            )
        }
        None => Reason::new(
            format!("`{name}` was not found in PATH ({search_path})"),
            "install it, or name it by its path",
        ),
    })
}

/// Bytes that `arguments` and `environment` take at a start, and bytes of the longest of them, each
/// with its NUL (execve(2)).
pub(super) fn start_bytes(arguments: &[Cow<'_, str>], environment: &Environment) -> (usize, usize) {
    let strings = arguments.iter().map(|argument| argument.len() + 1);
    let variables = environment.assignments().map(|variable| variable.len() + 1);
    strings.chain(variables).fold((0, 0), |(sum, longest), bytes| {
        (sum + bytes + size_of::<usize>(), longest.max(bytes))
    })
}

/// The interpreter in the first line of a file. A CR at the end of the line is part of it.
pub fn interpreter(start: &[u8]) -> Option<&[u8]> {
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = line.trim_ascii_start();
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    Some(&line[..end])
}

/// The path of `interpreter` at a start in `directory`.
pub fn interpreter_path(interpreter: &[u8], directory: &Path) -> PathBuf {
    directory.join(OsStr::from_bytes(interpreter))
}
