//! What would keep a vessel from starting, told without starting it: its user, its working
//! directory and its program are looked up as at a start, and what the kernel would say is read off
//! the files. What only a run brings along (its work directory) is not foreseen.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::Access;
use rustix::io::Errno;

use super::Draft;
use super::hint::{existing, named};
use super::reason::Reason;
use super::resolve::{interpreter, interpreter_of, interpreter_path, path_of, resolve};
use super::sandbox::{Obstacle, Sandbox};
use super::shim::try_to_become;
use super::start_error::{
    VesselUser, closed_directory, closed_path, directory_error, first_bytes, forbidden, missing,
    plain, unknown_format,
};
use super::user::{Identity, identity};
use crate::model::finding::{Finding, Level};
use crate::model::fleet::Program;
use crate::model::source::Origin;

/// The word for all of this.
const CHECK: &str = "fleets";
/// Programs that gain privileges.
const PRIVILEGED: [&str; 4] = ["sudo", "su", "doas", "pkexec"];
/// Programs that compile while they run.
const COMPILING: [&str; 9] =
    ["node", "nodejs", "npm", "npx", "deno", "bun", "java", "dotnet", "luajit"];
/// Programs that make namespaces.
const ISOLATING: [&str; 8] =
    ["unshare", "bwrap", "podman", "buildah", "flatpak", "firejail", "rootlesskit", "chromium"];
/// Where a vessel in a sandbox finds something else than others do, and can do with that.
const OWN_PLACES: [&str; 4] = ["/tmp", "/var/tmp", "/dev", "/proc"];
/// What the kernel says to a file that is none of its programs (ENOEXEC).
const NOT_A_PROGRAM: &str = "Exec format error";
const SETUID: u32 = 0o4000;

/// See [`Launcher::foresee`](super::Launcher::foresee). Vessels may run as `allowed` users.
pub(super) fn foresee(draft: &Draft<'_>, allowed: &[String], sandbox: &Sandbox) -> Vec<Finding> {
    let able = |identity: Identity| try_to_become(&identity).map(|()| identity);
    let identity = draft.user.map(|name| identity(name, allowed).and_then(able)).transpose();
    let identity = match identity {
        Ok(identity) => identity,
        Err(Reason { what, remedy }) => {
            return vec![Finding::problem(CHECK, format!("user: {what}"), remedy)];
        }
    };
    let user = VesselUser { name: draft.user, identity: identity.as_ref() };
    let vessel = Vessel { draft, user, sandbox };
    let mut findings = Vec::new();
    if let Some(directory) = vessel.known_directory()
        && let Some(finding) = vessel.directory(directory)
    {
        let is_final = finding.level == Level::Problem;
        findings.push(finding);
        if is_final {
            return findings;
        }
    }
    for program in programs(draft.program) {
        findings.extend(vessel.program(&program));
    }
    findings.extend(vessel.commands());
    findings.extend(vessel.places());
    findings
}

/// A vessel, and what it would find.
struct Vessel<'a> {
    draft: &'a Draft<'a>,
    user: VesselUser<'a>,
    sandbox: &'a Sandbox,
}

impl Vessel<'_> {
    /// The directory it starts in, unless that is for a run to make.
    fn known_directory(&self) -> Option<&Path> {
        self.draft.working_directory.map(Path::new).filter(|path| path.is_absolute())
    }

    fn directory(&self, path: &Path) -> Option<Finding> {
        let shown = path.display();
        if let Some(reason) = directory_error(path) {
            let Reason { what, mut remedy } = reason;
            if self.sandbox.is_container() && !path.exists() {
                remedy = format!("{remedy}; or {}", self.sandbox.mounting(path, "").text());
            }
            return Some(self.refused(Reason { what, remedy }, path));
        }
        let user = self.user;
        // The server's own user has tried.
        if let Some(closed) = user.identity.and_then(|_| user.first_closed(path)) {
            let reason = closed_directory(path, closed, &plain(&Errno::ACCESS.into()), user);
            return Some(problem(reason));
        }
        if let Some(Obstacle { what, remedy }) = self.sandbox.protects(path) {
            let what = format!("working directory {shown} cannot be written to: {what}");
            return Some(Finding::warning(CHECK, what, remedy.text()));
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

    /// What is wrong with a program, and with what it says it needs.
    fn program(&self, program: &Program) -> Option<Finding> {
        // In place of a run's work directory, of which nothing is known.
        let unknown = Path::new("/nonexistent");
        let directory = self.known_directory().unwrap_or(unknown);
        let depends_on_run = self.known_directory().is_none() && self.is_relative(program);
        let resolved = match resolve(program, self.draft.environment, directory, unknown) {
            Ok(resolved) => resolved,
            Err(_) if depends_on_run => return None,
            Err(reason) => return Some(problem(reason)),
        };
        if depends_on_run && !resolved.path.exists() {
            return None;
        }
        if let Err(reason) = self.executable(&resolved.path, directory) {
            return Some(self.refused(reason, &resolved.path));
        }
        let mode = fs::metadata(&resolved.path).map_or(0, |found| found.permissions().mode());
        let obstacle = (mode & SETUID != 0).then(|| self.sandbox.forbids_privileges());
        obstacle.flatten().map(|obstacle| blocked(&resolved.path.display().to_string(), &obstacle))
    }

    /// That `path` cannot be used: because the sandbox hides it, or else for this `reason`.
    fn refused(&self, reason: Reason, path: &Path) -> Finding {
        match self.sandbox.hides(path) {
            Some(obstacle) => blocked(&reason.what, &obstacle),
            None => problem(reason),
        }
    }

    /// Whether where `program` is found depends on the directory it is started in.
    fn is_relative(&self, program: &Program) -> bool {
        let Program::Command(command) = program else { return false };
        let name = command.first().map_or("", String::as_str);
        match name.contains('/') {
            true => !name.starts_with('/'),
            false => path_of(self.draft.environment).split(':').any(|it| !it.starts_with('/')),
        }
    }

    /// Whether the kernel would execute the file at `path`.
    fn executable(&self, path: &Path, directory: &Path) -> Result<(), Reason> {
        let (user, denied) = (self.user, plain(&Errno::ACCESS.into()));
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
        // A program may be executable and not to be read.
        let Some(start) = first_bytes(path, user) else { return Ok(()) };
        let Some(named) = interpreter(&start) else {
            return match is_text(&start) {
                true => Err(unknown_format(path, NOT_A_PROGRAM, Some(&start))),
                false => Ok(()),
            };
        };
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

    /// Whether the mode of the file at `path` keeps its user, who is not the server's, from
    /// executing it.
    fn denies(&self, path: &Path) -> bool {
        let found = fs::metadata(path);
        self.user.identity.is_some_and(|it| found.is_ok_and(|found| !it.may(&found, 1)))
    }

    /// `#!/usr/bin/env NAME`: whether NAME can be found, and none of its letters is a line end.
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
        let program = Program::Command(vec![name.to_owned()]);
        if self.known_directory().is_none() && self.is_relative(&program) {
            return Ok(());
        }
        let directory = self.known_directory().unwrap_or(Path::new("/"));
        match resolve(&program, self.draft.environment, directory, directory) {
            Ok(_) => Ok(()),
            Err(Reason { what, remedy }) => {
                let what = format!("{}: its first line asks for {name}: {what}", path.display());
                Err(Reason::new(what, remedy))
            }
        }
    }

    /// What of the places that the program names the sandbox hides, or keeps from what is written
    /// there. Whether the program comes to them, nobody knows.
    fn places(&self) -> Option<Finding> {
        let is_own = |path: &Path| OWN_PLACES.iter().any(|place| path.starts_with(place));
        let hidden = named(self.draft.program)
            .filter(|path| !is_own(path))
            .find_map(|path| Some((self.sandbox.hides(&path)?, path)));
        let written = || {
            let Program::Script(script) = self.draft.program else { return None };
            let mut written = written_by(script).filter(|path| !is_own(path));
            written.find_map(|path| Some((self.sandbox.protects(existing(path)?)?, path.into())))
        };
        let (obstacle, path) = hidden.or_else(written)?;
        let found = blocked(&path.display().to_string(), &obstacle);
        Some(Finding { level: Level::Warning, ..found })
    }

    /// What the sandbox would do to programs that are known by their names.
    fn commands(&self) -> Option<Finding> {
        let (names, is_certain) = match self.draft.program {
            Program::Script(script) => (commands_of(script), false),
            Program::Command(command) => {
                (command.iter().take(1).map(String::as_str).collect(), true)
            }
            Program::Code(code) => match interpreter_of(code) {
                Cow::Borrowed(name) => (vec![name], true),
                Cow::Owned(_) => return None,
            },
        };
        let name =
            |name: &&str| Path::new(name).file_name().and_then(|it| it.to_str()).map(str::to_owned);
        let names: Vec<String> = names.iter().filter_map(name).collect();
        let uses = |known: &[&str]| names.iter().find(|name| known.contains(&name.as_str()));
        let privileged = uses(&PRIVILEGED).filter(|_| !is_certain);
        let privileged = privileged.zip(self.sandbox.forbids_privileges());
        let compiling = || uses(&COMPILING).zip(self.sandbox.forbids_compilers());
        let isolating = || uses(&ISOLATING).zip(self.sandbox.forbids_namespaces());
        let (name, obstacle) = privileged.or_else(compiling).or_else(isolating)?;
        // A word in a script may stand in a part that never runs.
        let level = if is_certain { Level::Problem } else { Level::Warning };
        Some(Finding { level, ..blocked(name, &obstacle) })
    }
}

/// What must be there for `program`: itself, or what runs it and what fetches it.
fn programs(program: &Program) -> Vec<Cow<'_, Program>> {
    let Program::Code(code) = program else { return vec![Cow::Borrowed(program)] };
    let by_name = |name: &str| Cow::Owned(Program::Command(vec![name.to_owned()]));
    let git = matches!(code.origin, Origin::Git(_)).then(|| by_name("git"));
    git.into_iter().chain([by_name(&interpreter_of(code))]).collect()
}

/// The lines of a shell script that are no comments.
fn lines_of(script: &str) -> impl Iterator<Item = &str> {
    script.lines().filter(|line| !line.trim_start().starts_with('#'))
}

/// The names of the programs that a shell script seems to start.
fn commands_of(script: &str) -> Vec<&str> {
    let parts = lines_of(script).flat_map(|line| line.split(['|', '&', ';', '(', '`']));
    parts.filter_map(|part| part.split_whitespace().find(|word| !word.contains('='))).collect()
}

/// The absolute paths that a shell script sends output to.
fn written_by(script: &str) -> impl Iterator<Item = &Path> {
    let targets = lines_of(script).flat_map(|line| line.split('>').skip(1));
    let ends = |letter: char| letter.is_whitespace() || ";&|()<'\"".contains(letter);
    let targets = targets.map(|text| text.trim_start_matches(['|', ' ', '\t', '"', '\'']));
    let targets = targets.filter_map(move |text| text.split(ends).next());
    targets.filter(|path| path.starts_with('/')).map(Path::new)
}

/// Whether a file that begins like this is for people to read, and no program of any system.
fn is_text(start: &[u8]) -> bool {
    !start.contains(&0) && std::str::from_utf8(start).is_ok()
}

fn problem(reason: Reason) -> Finding {
    Finding::problem(CHECK, reason.what, reason.remedy)
}

fn blocked(what: &str, obstacle: &Obstacle) -> Finding {
    Finding::problem(CHECK, format!("{what}: {}", obstacle.what), obstacle.remedy.text())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn scripts_tell_where_they_write() {
        let script =
            "# > /no\necho a >/srv/a; make 2>> '/srv/b c' | tee >(cat) > \"/srv/d\" 2>&1\n";
        let written: Vec<_> = written_by(script).collect();
        assert_eq!(written, ["/srv/a", "/srv/b", "/srv/d"].map(Path::new));
    }

    fn found(command: &[&str], working_directory: Option<&str>, path: &str) -> Option<String> {
        let program = Program::Command(command.iter().map(|it| (*it).to_owned()).collect());
        let environment = [("PATH".to_owned(), path.to_owned())];
        let draft =
            Draft { program: &program, working_directory, user: None, environment: &environment };
        let findings = foresee(&draft, &[], &Sandbox::of_process());
        let first = findings.into_iter().next()?;
        Some(format!("{}: {}", first.what, first.remedy.unwrap_or_default()))
    }

    #[test]
    fn what_cannot_start_is_told_from_what_can() {
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
    fn what_a_run_brings_along_is_not_foreseen() {
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
    fn scripts_are_read_for_the_names_of_programs() {
        let script = "# sudo not this\nFOO=1 sudo x | node y; (su -c z)\necho ok && pkexec w";
        assert_eq!(commands_of(script), ["sudo", "node", "su", "echo", "pkexec"]);
    }
}
