//! Judges, without a start, whether a vessel could start and do its work: its user, its working
//! directory and its program are looked up as at a start, files are read in the kernel's place, and
//! the sandbox is compared with what the program names. What only a run brings along (its work
//! directory) is not judged.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use super::sandbox::{Obstacle, Sandbox};
use crate::model::computed::Argument;
use crate::model::environment::Environment;
use crate::model::finding::{Finding, Level};
use crate::model::fleet::Program;
use crate::model::source::Origin;
use crate::runner::reason::Reason;
use crate::runner::resolve::{
    Invocation, interpreter, interpreter_of, interpreter_path, path_of, resolve,
};
use crate::runner::shim::try_to_become;
use crate::runner::start_error::{
    VesselUser, closed_directory, closed_path, directory_error, first_bytes, forbidden, missing,
    plain, unknown_format,
};
use crate::runner::user::{Identity, identity};

const CHECK: &str = "fleets";
/// Programs that gain privileges.
const PRIVILEGED: [&str; 4] = ["sudo", "su", "doas", "pkexec"];
/// Programs that compile while they run.
const COMPILING: [&str; 9] =
    ["node", "nodejs", "npm", "npx", "deno", "bun", "java", "dotnet", "luajit"];
/// Programs that make namespaces.
const ISOLATING: [&str; 8] =
    ["unshare", "bwrap", "podman", "buildah", "flatpak", "firejail", "rootlesskit", "chromium"];
/// Programs that drop capabilities, and end when they cannot.
const DROPPING: [&str; 5] = ["ip", "tc", "bridge", "devlink", "ping"];
/// Directories that differ in a sandbox and serve a vessel as well.
const OWN_PLACES: [&str; 4] = ["/tmp", "/var/tmp", "/dev", "/proc"];
/// The kernel's text for ENOEXEC.
const NOT_A_PROGRAM: &str = "Exec format error";
const SETUID: u32 = 0o4000;

/// A program that might be started: of a vessel, or of a notification.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub program: &'a Program,
    pub working_directory: Option<&'a str>,
    pub user: Option<&'a str>,
    /// Holds at least `PATH`, unless the program has an absolute path.
    pub environment: &'a Environment,
}

/// The findings about `candidate`, which do not name it. Vessels may run as the `allowed` users.
pub(super) fn preflight(
    candidate: &Candidate<'_>,
    allowed: &[String],
    sandbox: &Sandbox,
) -> Vec<Finding> {
    let able = |identity: Identity| try_to_become(&identity).map(|()| identity);
    let identity = candidate.user.map(|name| identity(name, allowed).and_then(able)).transpose();
    let identity = match identity {
        Ok(identity) => identity,
        Err(Reason { what, remedy }) => {
            return vec![Finding::problem(CHECK, format!("user: {what}"), remedy)];
        }
    };
    let user = VesselUser { name: candidate.user, identity: identity.as_ref() };
    let preflight = Preflight { candidate, user, sandbox };
    let mut findings = Vec::new();
    if let Some(directory) = preflight.known_directory()
        && let Some(finding) = preflight.directory(directory)
    {
        let is_final = finding.level == Level::Problem;
        findings.push(finding);
        if is_final {
            return findings;
        }
    }
    for program in programs(candidate.program) {
        findings.extend(preflight.program(&program));
    }
    findings.extend(preflight.commands());
    findings.extend(preflight.places());
    findings
}

struct Preflight<'a> {
    candidate: &'a Candidate<'a>,
    user: VesselUser<'a>,
    sandbox: &'a Sandbox,
}

impl Preflight<'_> {
    /// The working directory, unless it depends on the run.
    fn known_directory(&self) -> Option<&Path> {
        self.candidate.working_directory.map(Path::new).filter(|path| path.is_absolute())
    }

    fn invocation<'p>(&'p self, program: &'p Program) -> Invocation<'p> {
        let environment = self.candidate.environment;
        Invocation { prefix: &[], program, environment, references: &[] }
    }

    fn directory(&self, path: &Path) -> Option<Finding> {
        let shown = path.display();
        if let Some(Reason { what, mut remedy }) = directory_error(path) {
            if !path.exists()
                && let Some(mount_it) = self.sandbox.remedy_of_container(path)
            {
                remedy = format!("{remedy}; or {mount_it}");
            }
            return Some(self.unusable(Reason { what, remedy }, path));
        }
        let user = self.user;
        // For the server's own user directory_error() has asked the kernel.
        if let Some(closed) = user.identity.and_then(|_| user.first_closed(path)) {
            let reason = closed_directory(path, closed, &plain(&Errno::ACCESS.into()), user);
            return Some(problem(reason));
        }
        if let Some(Obstacle { what, remedy }) = self.sandbox.protects(path) {
            let what = format!("working directory {shown} cannot be written to: {what}");
            return Some(Finding::warning(CHECK, what, remedy));
        }
        let may_write = match user.identity {
            None => rustix::fs::access(path, Access::WRITE_OK).is_ok(),
            Some(identity) => fs::metadata(path).is_ok_and(|found| identity.may(&found, 2)),
        };
        (!may_write).then(|| {
            let what =
                format!("working directory {shown}: {user} may read it, but not write to it");
            let remedy = "if the vessel is to change something there, let it (chown, setfacl)";
            Finding::warning(CHECK, what, remedy)
        })
    }

    /// The first fault of `program`, of its interpreter, or of the program that its first line
    /// names.
    fn program(&self, program: &Program) -> Option<Finding> {
        // Stands for a run's work directory.
        let unknown = Path::new("/nonexistent");
        let directory = self.known_directory().unwrap_or(unknown);
        let depends_on_run = self.known_directory().is_none() && self.is_relative(program);
        let resolved = match resolve(&self.invocation(program), directory, unknown) {
            Ok(resolved) => resolved,
            Err(_) if depends_on_run => return None,
            Err(reason) => return Some(problem(reason)),
        };
        if depends_on_run && !resolved.path.exists() {
            return None;
        }
        if let Err(reason) = self.executable(&resolved.path, directory) {
            return Some(self.unusable(reason, &resolved.path));
        }
        let mode = fs::metadata(&resolved.path).map_or(0, |found| found.permissions().mode());
        let obstacle = self.sandbox.forbids_privileges().filter(|_| mode & SETUID != 0);
        obstacle.map(|obstacle| blocked(&resolved.path.display().to_string(), obstacle))
    }

    /// `path` cannot be used: the sandbox hides it, or else for this `reason`.
    fn unusable(&self, reason: Reason, path: &Path) -> Finding {
        match self.sandbox.hides(path) {
            Some(obstacle) => blocked(&reason.what, obstacle),
            None => problem(reason),
        }
    }

    /// Whether the file that `program` names depends on the working directory.
    fn is_relative(&self, program: &Program) -> bool {
        let Program::Command(command) = program else { return false };
        let name = command.first().and_then(Argument::literal).unwrap_or_default();
        match name.contains('/') {
            true => !name.starts_with('/'),
            false => path_of(self.candidate.environment).split(':').any(|it| !it.starts_with('/')),
        }
    }

    /// Whether the kernel would execute the file at `path`.
    fn executable(&self, path: &Path, directory: &Path) -> Result<(), Reason> {
        let (user, denied) = (self.user, plain(&Errno::ACCESS.into()));
        // The file and the way to it.
        let found = fs::metadata(path).map_err(|error| {
            match Errno::from_io_error(&error) == Some(Errno::ACCESS) {
                true => forbidden(path, &denied, user),
                false => missing(path, directory, &plain(&error), user),
            }
        })?;
        if let Some(reason) = closed_path(path, &denied, user) {
            return Err(reason);
        }
        if self.denies(path) {
            let what = format!("{}: {user} may not execute it", path.display());
            return Err(Reason::new(what, "let them (chmod, chown)"));
        }
        if !found.is_file() || rustix::fs::access(path, Access::EXEC_OK).is_err() {
            return Err(forbidden(path, &denied, user));
        }
        // Its format. A program may be executable and not readable.
        let Some(start) = first_bytes(path, user) else { return Ok(()) };
        let Some(named) = interpreter(&start) else {
            return match is_text(&start) {
                true => Err(unknown_format(path, NOT_A_PROGRAM, Some(&start))),
                false => Ok(()),
            };
        };
        // Its interpreter.
        let interpreter = interpreter_path(named, directory);
        if !interpreter.exists() {
            return Err(missing(path, directory, &plain(&Errno::NOENT.into()), user));
        }
        let is_denied = self.denies(&interpreter);
        if is_denied || rustix::fs::access(&interpreter, Access::EXEC_OK).is_err() {
            return Err(forbidden(path, &denied, user));
        }
        self.asked_of_env(path, &start)
    }

    /// Whether the mode of the file at `path` keeps a vessel's user from executing it. The kernel
    /// answers for the server's own user.
    fn denies(&self, path: &Path) -> bool {
        let found = fs::metadata(path);
        self.user.identity.is_some_and(|it| found.is_ok_and(|found| !it.may(&found, 1)))
    }

    /// `#!/usr/bin/env NAME`: whether NAME can be found, and does not end in CR.
    fn asked_of_env(&self, path: &Path, start: &[u8]) -> Result<(), Reason> {
        let text = String::from_utf8_lossy(start);
        // A longer line is not known whole.
        let Some((line, _)) = text.split_once('\n') else { return Ok(()) };
        if line.ends_with('\r') {
            let what = format!("{}: its lines end in CR LF", path.display());
            return Err(Reason::new(what, "save it with Unix line ends"));
        }
        let mut words = line.trim_start_matches("#!").split_whitespace();
        let is_env = words.next().is_some_and(|word| word.ends_with("/env"));
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='));
        let Some(name) = name.filter(|_| is_env) else { return Ok(()) };
        let program = Program::command([name]);
        if self.known_directory().is_none() && self.is_relative(&program) {
            return Ok(());
        }
        let directory = self.known_directory().unwrap_or(Path::new("/"));
        match resolve(&self.invocation(&program), directory, directory) {
            Ok(_) => Ok(()),
            Err(Reason { what, remedy }) => {
                let what = format!("{}: its first line asks for {name}: {what}", path.display());
                Err(Reason::new(what, remedy))
            }
        }
    }

    /// The first path of the program's text that the sandbox hides or makes read-only. A warning:
    /// the program may never reach it.
    fn places(&self) -> Option<Finding> {
        let is_own = |path: &Path| OWN_PLACES.iter().any(|place| path.starts_with(place));
        let hidden = named(self.candidate.program)
            .filter(|path| !is_own(path))
            .find_map(|path| Some((self.sandbox.hides(&path)?, path)));
        let written = || {
            let Program::Script(script) = self.candidate.program else { return None };
            let mut written =
                written_by(script).chain(entered_by(script)).filter(|path| !is_own(path));
            written.find_map(|path| Some((self.sandbox.protects(existing(path)?)?, path.into())))
        };
        let (obstacle, path) = hidden.or_else(written)?;
        let found = blocked(&path.display().to_string(), obstacle);
        Some(Finding { level: Level::Warning, ..found })
    }

    /// The first program, known by its name, that the sandbox keeps from its work.
    fn commands(&self) -> Option<Finding> {
        let (commands, is_script) = match self.candidate.program {
            Program::Script(script) => (commands_of(script), true),
            Program::Command(command) => {
                (command.iter().take(1).filter_map(Argument::literal).collect(), false)
            }
            Program::Code(code) => match interpreter_of(code) {
                Cow::Borrowed(name) => (vec![name], false),
                Cow::Owned(_) => return None,
            },
        };
        let names: Vec<&str> = commands
            .into_iter()
            .filter_map(|command| Path::new(command).file_name()?.to_str())
            .collect();
        // The bare name of a command says nothing of privileges: program() reads the mode.
        let privileges = self.sandbox.forbids_privileges().filter(|_| is_script);
        let walls = [
            (&PRIVILEGED[..], privileges, true),
            (&COMPILING, self.sandbox.forbids_compilers(), true),
            (&ISOLATING, self.sandbox.forbids_namespaces(), true),
            // As root, some of these keep their capabilities.
            (&DROPPING, self.sandbox.forbids_capset(), false),
        ];
        walls.into_iter().find_map(|(known, obstacle, is_certain)| {
            let name = names.iter().find(|name| known.contains(name))?;
            let found = blocked(name, obstacle?);
            // A word in a script may stand in a part that never runs.
            let level = if is_certain && !is_script { Level::Problem } else { Level::Warning };
            Some(Finding { level, ..found })
        })
    }
}

/// The programs that `program` needs: itself, or its interpreter, and git for a repository.
fn programs(program: &Program) -> Vec<Cow<'_, Program>> {
    let Program::Code(code) = program else { return vec![Cow::Borrowed(program)] };
    let by_name = |name: &str| Cow::Owned(Program::command([name]));
    let git = matches!(code.origin, Origin::Git(_)).then(|| by_name("git"));
    git.into_iter().chain([by_name(&interpreter_of(code))]).collect()
}

/// The absolute paths in the text of a program: its script, its arguments or its code.
fn named(program: &Program) -> impl Iterator<Item = PathBuf> {
    let texts: Vec<&str> = match program {
        Program::Script(script) => vec![script],
        Program::Command(command) => command.iter().skip(1).filter_map(Argument::literal).collect(),
        Program::Code(code) => match &code.origin {
            Origin::File { content, .. } => vec![content],
            Origin::Archive { .. } | Origin::Git(_) => Vec::new(),
        },
    };
    let ends = |letter: char| letter.is_whitespace() || "'\"`‘’“”():;,=[]<>".contains(letter);
    let words = texts.into_iter().flat_map(move |text| text.split(ends));
    words.filter(|word| word.len() > 1 && word.starts_with('/')).map(PathBuf::from)
}

/// The nearest directory at `path` or above it that exists.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|place| place.is_dir())
}

/// The lines of a shell script that are no comments.
fn lines_of(script: &str) -> impl Iterator<Item = &str> {
    script.lines().filter(|line| !line.trim_start().starts_with('#'))
}

/// The commands of a shell script, with their arguments, as far as punctuation tells.
fn parts_of(script: &str) -> impl Iterator<Item = &str> {
    lines_of(script).flat_map(|line| line.split(['|', '&', ';', '(', ')', '`']))
}

/// The programs that a shell script seems to start.
fn commands_of(script: &str) -> Vec<&str> {
    let parts = parts_of(script);
    parts.filter_map(|part| part.split_whitespace().find(|word| !word.contains('='))).collect()
}

/// The absolute paths of the directories that a shell script enters.
fn entered_by(script: &str) -> impl Iterator<Item = &Path> {
    let targets = parts_of(script).filter_map(|part| part.trim_start().strip_prefix("cd "));
    let targets = targets.filter_map(|text| text.split_whitespace().next());
    let targets = targets.map(|path| path.trim_matches(['"', '\'']));
    targets.filter(|path| path.starts_with('/')).map(Path::new)
}

/// The absolute paths that a shell script sends output to.
fn written_by(script: &str) -> impl Iterator<Item = &Path> {
    let targets = lines_of(script).flat_map(|line| line.split('>').skip(1));
    let ends = |letter: char| letter.is_whitespace() || ";&|()<'\"".contains(letter);
    let targets = targets.map(|text| text.trim_start_matches(['|', ' ', '\t', '"', '\'']));
    let targets = targets.filter_map(move |text| text.split(ends).next());
    targets.filter(|path| path.starts_with('/')).map(Path::new)
}

/// Whether a file that begins with `start` is text, which no system executes without `#!`.
fn is_text(start: &[u8]) -> bool {
    !start.contains(&0) && std::str::from_utf8(start).is_ok()
}

fn problem(reason: Reason) -> Finding {
    Finding::problem(CHECK, reason.what, reason.remedy)
}

fn blocked(what: &str, obstacle: Obstacle) -> Finding {
    Finding::problem(CHECK, format!("{what}: {}", obstacle.what), obstacle.remedy)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn paths_that_a_script_writes_to_are_found() {
        let script =
            "# > /no\necho a >/srv/a; make 2>> '/srv/b c' | tee >(cat) > \"/srv/d\" 2>&1\n";
        let written: Vec<_> = written_by(script).collect();
        assert_eq!(written, ["/srv/a", "/srv/b", "/srv/d"].map(Path::new));
        let script = "set -e; cd '/srv/site' && make\n(cd /opt)\necho cd /no\ncd relative";
        let entered: Vec<_> = entered_by(script).collect();
        assert_eq!(entered, ["/srv/site", "/opt"].map(Path::new));
    }

    #[test]
    fn paths_in_scripts_arguments_and_code_are_found() {
        let of = |program: Program| named(&program).collect::<Vec<_>>();
        let script = "cd /srv/site && ./build > /dev/null # a/b";
        let expected = ["/srv/site", "/dev/null"].map(PathBuf::from);
        assert_eq!(of(Program::Script(script.into())), expected);
        let command = ["/usr/bin/ssh", "-i", "/home/me/.ssh/id", "host:/srv"];
        let command = Program::command(command);
        assert_eq!(of(command), ["/home/me/.ssh/id", "/srv"].map(PathBuf::from));
    }

    fn found(command: &[&str], working_directory: Option<&str>, path: &str) -> Option<String> {
        let program = Program::command(command.iter().copied());
        let environment = Environment::from_iter([("PATH", path)]);
        let candidate = Candidate {
            program: &program,
            working_directory,
            user: None,
            environment: &environment,
        };
        let findings = preflight(&candidate, &[], &Sandbox::of_process());
        let first = findings.into_iter().next()?;
        Some(format!("{}: {}", first.what, first.remedy.unwrap_or_default()))
    }

    #[test]
    fn programs_that_cannot_start_are_found_without_a_start() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let file = |name: &str, content: &str, mode| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        file("good", "#!/bin/sh\n", 0o755);
        file("env", "#!/usr/bin/env sh\n", 0o755);
        file("closed", "#!/bin/sh\n", 0o644);
        file("crlf", "#!/bin/sh\r\nexit\r\n", 0o755);
        file("crlf-env", "#!/usr/bin/env sh\r\n", 0o755);
        file("lost", "#!/no/such/shell -e\n", 0o755);
        file("lost-env", "#!/usr/bin/env -S FOO=1 no-such-program\n", 0o755);
        file("prose", "echo hello\n", 0o755);
        file("empty", "", 0o755);
        let shell = directory.path().join(OsStr::from_bytes(b"sh\xff"));
        std::os::unix::fs::symlink("/bin/sh", &shell).unwrap();
        file("bytes", "", 0o755);
        let line = [b"#!", shell.as_os_str().as_bytes(), b"\n"].concat();
        fs::write(directory.path().join("bytes"), line).unwrap();
        let path = "/usr/bin:/bin";
        for good in ["./good", "./env", "./bytes", "true", "/bin/sh"] {
            assert_eq!(found(&[good], Some(place), path), None, "{good}");
        }
        for (name, reason) in [
            ("./none", "put the program there"),
            ("./closed", "chmod +x"),
            ("./crlf", "CR LF"),
            ("./crlf-env", "CR LF"),
            ("./lost", "`/no/such/shell` (first line of the file) is missing"),
            ("./lost-env", "its first line asks for no-such-program"),
            ("./prose", "does not name an interpreter"),
            ("./empty", "the file is empty"),
            ("./.", "it is a directory"),
            ("no-such-program", "was not found in PATH"),
        ] {
            let found = found(&[name], Some(place), path).unwrap_or_default();
            assert!(found.contains(reason), "{name}: {found}");
        }
        let gone = format!("{place}/gone");
        let reason = found(&["true"], Some(&gone), path).unwrap();
        assert!(reason.contains("make it, or change `working_directory`"), "{reason}");
    }

    #[test]
    fn programs_that_depend_on_the_run_are_not_judged() {
        for (command, working_directory, path) in [
            ("./build.sh", None, "/usr/bin"),
            ("bin/x", Some("checkout"), "/usr/bin"),
            ("no-such-program", None, "/usr/bin:node_modules/.bin"),
            ("no-such-program", None, "/usr/bin:"),
        ] {
            assert_eq!(found(&[command], working_directory, path), None, "{command}");
        }
    }

    #[test]
    fn names_of_programs_are_found_in_scripts() {
        let script = "# sudo not this\nFOO=1 sudo x | node y; (su -c z)\necho ok && pkexec w";
        assert_eq!(commands_of(script), ["sudo", "node", "su", "echo", "pkexec"]);
    }
}
