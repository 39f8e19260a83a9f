//! Installs what a vessel's code needs before its program starts, or finds it installed. The package
//! managers run as the vessel does, in its environment and within its bounds, and their output belongs to
//! its log.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::cache::{Claim, Held, Installation, PackageCache};
use super::machine::{Interpreter, interpreter, missing_system_packages, npm};
use super::plan::{
    Basis, NODE_FILES, NPM_CACHE, Needs, NeedsFile, PYTHON_FILE, Plan, environment_with,
    lack_of_machine, npm_command, pip_commands,
};
use crate::model::environment::Environment;
use crate::model::fleet::Program;
use crate::model::source::{Code, Language, Origin};
use crate::runner::checkout::{Run, start_of};
use crate::runner::last_words::LAST_WORDS_BYTES;
use crate::runner::output::LiveOutput;
use crate::runner::shortage::StartError;
use crate::runner::tree::remove_tree;
use crate::runner::user::Identity;
use crate::runner::workdir::open_directory;
use crate::runner::{HowEnded, Input, Launch};

/// Bytes of a file that says what is needed. Lock files of large projects have some MiB.
const FILE_BYTES_MAX: usize = 8 << 20;
/// Files that say what is needed, those included by others among them.
const FILES_MAX: usize = 32;
/// The directory in which Node.js looks for packages.
const NODE_MODULES: &str = "node_modules";

/// The installation for one start of a vessel.
pub(in crate::runner) struct Installer<'a> {
    pub cache: &'a PackageCache,
    /// Whether the operator lets packages be installed.
    pub is_allowed: bool,
    pub launch: &'a Launch<'a>,
    pub work: &'a Path,
    pub identity: Option<&'a Identity>,
    /// The log of the vessel.
    pub log: &'a LiveOutput,
}

/// What the vessel's program gets.
pub(in crate::runner) enum Packages<'a> {
    None,
    /// An environment, which stays until this is dropped.
    Ready {
        _held: Held<'a>,
        environment: Environment,
    },
    /// A stop or a cutoff has ended the vessel meanwhile.
    Ended(HowEnded),
    /// A stop or a cutoff came while it waited for another vessel.
    Interrupted,
}

impl Packages<'_> {
    /// `launch` with these packages.
    pub fn launch<'l>(&'l self, launch: &Launch<'l>) -> Launch<'l> {
        match self {
            Self::Ready { environment, .. } => Launch { environment, ..*launch },
            Self::None | Self::Ended(_) | Self::Interrupted => *launch,
        }
    }
}

impl<'a> Installer<'a> {
    /// Has everything there that the vessel's code needs. `is_over`: the vessel is stopped or cut off.
    ///
    /// # Errors
    /// Why it is not there.
    pub fn run(
        &self,
        run: Run<'_>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Packages<'a>, StartError> {
        let Program::Code(code) = self.launch.program else { return Ok(Packages::None) };
        // With a runner the program may run on another machine.
        if self.launch.runner.is_none()
            && let Some(missing) = missing_system_packages(&code.system_packages)
        {
            return Err(missing.into());
        }
        let Some(root) = self.root(code) else { return Ok(Packages::None) };
        let (needs, plan) = self.needs(code, &root)?;
        if plan == Plan::Nothing {
            return Ok(Packages::None);
        }
        if !self.is_allowed {
            return self.refuse(&needs);
        }
        if code.language == Language::Node && self.has_modules(&root) {
            self.log.append_line(&format!(
                "boathook: the code brings {NODE_MODULES} along; nothing is installed"
            ));
            return Ok(Packages::None);
        }
        let environment = self.launch.environment;
        let interpreter = interpreter(code, environment, self.work)?;
        let uid = self.identity.map_or_else(|| rustix::process::geteuid().as_raw(), |it| it.uid);
        let (interpreter_of_key, secrets) = (&interpreter.identity, self.launch.secrets);
        let key = needs.key(&Basis { interpreter: interpreter_of_key, uid, environment, secrets });
        let on_wait = || {
            self.log.append_line(
                "boathook: another vessel is installing the same packages; waiting for it",
            );
        };
        let held = match self.cache.claim(&key, is_over, &on_wait) {
            Claim::Ready(held) => held,
            Claim::Interrupted => return Ok(Packages::Interrupted),
            Claim::Install(installation) => {
                let commands = Commands { needs: &needs, plan: &plan, interpreter, root: &root };
                match self.install(installation, &commands, run)? {
                    Ok(held) => held,
                    Err(how) => return Ok(Packages::Ended(how)),
                }
            }
        };
        let place = self.cache.place(&key);
        if code.language == Language::Node {
            link(&root, &place.join(NODE_MODULES)).map_err(|error| {
                let shown = root.join(NODE_MODULES);
                StartError::of(
                    &error,
                    format!("packages: cannot link {}: {error}", shown.display()),
                )
            })?;
        }
        let environment = environment_with(code.language, &place.to_string_lossy(), environment);
        Ok(Packages::Ready { _held: held, environment })
    }

    /// Where the code is; `None` when its language has no packages.
    fn root(&self, code: &Code) -> Option<PathBuf> {
        (code.language != Language::Bash).then(|| match &code.origin {
            Origin::File { .. } | Origin::Archive { .. } => self.work.to_owned(),
            Origin::Git(git) => {
                git.directory().map_or_else(|| self.work.to_owned(), |it| self.work.join(it))
            }
        })
    }

    /// What the code needs, by the fleet and by its own files.
    fn needs<'c>(&self, code: &'c Code, root: &Path) -> Result<(Needs<'c>, Plan), StartError> {
        let names: &[&str] = match (&code.origin, code.language) {
            // What else is in the directory is another vessel's.
            (Origin::File { .. }, _) | (_, Language::Bash) => &[],
            (_, Language::Node) => &NODE_FILES,
            (_, Language::Python) => &[PYTHON_FILE],
        };
        let mut files = Vec::new();
        for name in names {
            files.extend(read(root, name)?);
        }
        let mut needs = Needs { language: code.language, packages: &code.packages, files };
        loop {
            let unread = match needs.plan().map_err(|why| format!("packages: {why}"))? {
                Plan::Read(unread) => unread,
                plan => return Ok((needs, plan)),
            };
            for name in unread {
                let file = read(root, &name)?.ok_or_else(|| {
                    format!("packages: {PYTHON_FILE} names {name}, which is not in the code")
                })?;
                needs.files.push(file);
            }
            if needs.files.len() > FILES_MAX {
                return Err(format!("packages: more than {FILES_MAX} requirements files").into());
            }
        }
    }

    /// Refuses packages of the fleet, and says that those of the code are not installed.
    fn refuse(&self, needs: &Needs<'_>) -> Result<Packages<'a>, StartError> {
        const NOT_ALLOWED: &str = "this server installs no packages: its operator can allow it with \
                                   the setting `install_packages = true`";
        if !needs.packages.is_empty() {
            return Err(format!("packages: {NOT_ALLOWED}").into());
        }
        let shown = needs.shown();
        self.log.append_line(&format!("boathook: {shown} is not installed: {NOT_ALLOWED}"));
        Ok(Packages::None)
    }

    /// Whether the code itself has a directory for packages.
    fn has_modules(&self, root: &Path) -> bool {
        fs::symlink_metadata(root.join(NODE_MODULES)).is_ok_and(|found| found.is_dir())
    }

    /// Installs the environment, or returns the end of the vessel if it was stopped or cut off meanwhile.
    fn install(
        &self,
        installation: Installation<'a>,
        commands: &Commands<'_>,
        run: Run<'_>,
    ) -> Result<Result<Held<'a>, HowEnded>, StartError> {
        let shown = commands.needs.shown();
        self.log.append_line(&format!("boathook: installing {shown}"));
        let failed = |what: &str, error: &io::Error| {
            StartError::of(error, format!("packages: the environment cannot be {what}: {error}"))
        };
        let place = installation.begin(self.identity).map_err(|error| failed("made", &error))?;
        let (directory, words) = match commands.plan {
            Plan::Npm(manifest) => {
                let written = self.write(&place, &manifest.files);
                written.map_err(|error| failed("written to", &error))?;
                let npm = npm(self.launch.environment, self.work)?;
                let npm = npm.to_string_lossy();
                let command = npm_command(manifest, &npm, &place.to_string_lossy());
                (place.as_path(), vec![command])
            }
            _ => {
                let python = commands.interpreter.path.to_string_lossy();
                let (place, root) = (place.to_string_lossy(), commands.root.to_string_lossy());
                let commands = pip_commands(commands.needs, &python, &place, &root);
                (self.work, commands.to_vec())
            }
        };
        for command in words {
            if let Some(how) = self.step(&command, directory, run)? {
                return Ok(Err(how));
            }
        }
        // Only downloads.
        remove_tree(&place.join(NPM_CACHE)).map_err(|error| failed("tidied", &error))?;
        Ok(Ok(installation.complete(&shown).map_err(|error| failed("kept", &error))?))
    }

    /// Runs a command, which must succeed. Returns the end of the vessel if it was stopped or cut off.
    fn step(
        &self,
        command: &[String],
        directory: &Path,
        run: Run<'_>,
    ) -> Result<Option<HowEnded>, StartError> {
        let program = Program::command(command.iter().map(String::as_str));
        let launch = Launch {
            program: &program,
            runner: None,
            payload: &Input(&[]),
            may_answer: false,
            ..*self.launch
        };
        let code = match run(&launch, directory, self.log)? {
            HowEnded::Exited(0) => return Ok(None),
            HowEnded::Exited(code) => code,
            how => return Ok(Some(how)),
        };
        let said = self.log.end_of(LAST_WORDS_BYTES);
        let lack = lack_of_machine(&String::from_utf8_lossy(&said));
        let lack = lack.map(|lack| format!(". The vessel is not at fault: {lack}"));
        let name = match command {
            [_, isolated, _, module, ..] if isolated == "-I" => format!("python3 -m {module}"),
            _ => "npm".to_owned(),
        };
        let reason = format!(
            "packages: not installed: {name} ended with exit code {code}, and says why above{}",
            lack.unwrap_or_default()
        );
        Err(reason.into())
    }

    /// Writes files into the new environment at `place`.
    fn write(&self, place: &Path, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        for (name, content) in files {
            let mut file = fs::File::create_new(place.join(name))?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(content)?;
            if let Some(identity) = self.identity {
                identity.take(&file)?;
            }
        }
        Ok(())
    }
}

/// What is installed, and by which programs.
struct Commands<'a> {
    needs: &'a Needs<'a>,
    plan: &'a Plan,
    interpreter: Interpreter,
    root: &'a Path,
}

/// The file `name` of the code at `root`, if it is a regular file.
fn read(root: &Path, name: &str) -> Result<Option<NeedsFile>, StartError> {
    let path = root.join(name);
    if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
        return Ok(None);
    }
    let content = start_of(&path, FILE_BYTES_MAX + 1).0;
    if content.len() > FILE_BYTES_MAX {
        return Err(format!("packages: {name} has more than {} MiB", FILE_BYTES_MAX >> 20).into());
    }
    Ok(Some(NeedsFile { name: name.to_owned(), content }))
}

/// Makes `node_modules` in `root` a link to `target`, in the place of an earlier vessel's.
fn link(root: &Path, target: &Path) -> io::Result<()> {
    let directory = open_directory(root)?;
    let unlinked = rustix::fs::unlinkat(&directory, NODE_MODULES, AtFlags::empty());
    match unlinked {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    match rustix::fs::symlinkat(target, &directory, NODE_MODULES) {
        // A vessel beside this one has made the same link.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
