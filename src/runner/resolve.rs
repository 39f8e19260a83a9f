//! Finds the file to execute. The C library cannot do that: for a relative path the standard
//! library forks the daemon's memory instead of using posix_spawn, and the `PATH` of the vessel
//! counts, not that of the server.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::reason::Reason;
use super::script::normalized;
use crate::model::computed::Argument;
use crate::model::fleet::Program;
use crate::model::source::{Code, Language, Origin};

/// The directories that execvp(3) searches without a `PATH`.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// A program as it is executed.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// Absolute.
    pub path: PathBuf,
    /// The argument vector, `argv[0]` as the fleet has it.
    pub arguments: Vec<Cow<'a, str>>,
}

/// Finds the file of `program` for a vessel with this environment, started in `directory`. Its
/// code, if it has any, is in `work`. Both paths are absolute.
///
/// # Errors
/// The reason, for the vessel's log.
pub fn resolve<'a>(
    program: &'a Program,
    environment: &[(String, String)],
    directory: &Path,
    work: &Path,
) -> Result<Resolved<'a>, Reason> {
    let arguments: Vec<Cow<'a, str>> = match program {
        Program::Script(script) => {
            return Ok(Resolved {
                path: "/bin/sh".into(),
                arguments: vec![Cow::Borrowed("/bin/sh"), Cow::Borrowed("-c"), normalized(script)],
            });
        }
        Program::Command(command) => {
            // The engine has given each argument its text.
            command.iter().filter_map(Argument::literal).map(Cow::Borrowed).collect()
        }
        Program::Code(code) => interpreted(code, directory, work)?,
    };
    let name = match arguments.first().map(|name| &**name) {
        None | Some("") => return Err(Reason::new("its command is empty", "name a program")),
        Some(name) => name,
    };
    let path = match name.contains('/') {
        true => directory.join(name),
        false => search(name, path_of(environment), directory)?,
    };
    Ok(Resolved { path, arguments })
}

/// The argument vector that runs `code`: interpreter, file, arguments.
fn interpreted<'a>(
    code: &'a Code,
    directory: &Path,
    work: &Path,
) -> Result<Vec<Cow<'a, str>>, Reason> {
    let path = work.join(&code.file_to_run);
    if !path.is_file() {
        return Err(no_file_to_run(code, &path));
    }
    // The program's own messages show this path: it is short where the directory allows that.
    let file = match directory == work {
        true => Cow::Borrowed(code.file_to_run.as_str()),
        false => Cow::Owned(path.to_string_lossy().into_owned()),
    };
    let given = code.arguments.iter().flat_map(|argument| [&argument.key, &argument.value]);
    let given = given.flatten().map(|text| Cow::Borrowed(text.as_str()));
    Ok([interpreter_of(code), file].into_iter().chain(given).collect())
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

fn no_file_to_run(code: &Code, path: &Path) -> Reason {
    let named = &code.file_to_run;
    match &code.origin {
        Origin::File { name, .. } => Reason::new(
            format!("`file_to_run` is {named}, but there is no file {}", path.display()),
            format!(
                "name {name}, which the vessel brings along, or one that an earlier vessel leaves"
            ),
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

/// The vessel's `PATH`: the last one, as for [`std::process::Command`].
pub fn path_of(environment: &[(String, String)]) -> &str {
    let variables = environment.iter().rev();
    variables
        .filter(|(name, _)| name == "PATH")
        .map(|(_, value)| value.as_str())
        .next()
        .unwrap_or(PATH_DEFAULT)
}

/// The first executable file called `name` in the directories of `search_path`.
fn search(name: &str, search_path: &str, directory: &Path) -> Result<PathBuf, Reason> {
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
pub(super) fn start_bytes(
    arguments: &[Cow<'_, str>],
    environment: &[(String, String)],
) -> (usize, usize) {
    let strings = arguments.iter().map(|argument| argument.len() + 1);
    let variables = environment.iter().map(|(name, value)| name.len() + value.len() + 2);
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
