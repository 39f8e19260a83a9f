//! Installs what a vessel's code needs before its program starts, or finds it installed. The package
//! managers run as the vessel does, in its environment and within its bounds, and their output belongs to
//! its log.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::FileType;

use super::cache::{Claim, Held, Installation, PackageCache};
use super::code_files::CodeFiles;
use super::machine::{Interpreter, interpreter, missing_system_packages, npm};
use super::plan::{
    Basis, HOME, NODE_FILES, Needs, PIP_FILES, PYTHON_FILE, Plan, SCRATCH, check_variables,
    environment_of_installation, environment_with, lack_of_machine, npm_command, pip_commands,
};
use crate::model::environment::Environment;
use crate::model::fleet::Program;
use crate::model::source::{Code, Language, Origin};
use crate::runner::checkout::Run;
use crate::runner::last_words::LAST_WORDS_BYTES;
use crate::runner::output::LiveOutput;
use crate::runner::shortage::StartError;
use crate::runner::tree::remove_tree;
use crate::runner::user::Identity;
use crate::runner::workdir::hand_over;
use crate::runner::{HowEnded, Input, Launch};

/// Why packages are not installed where the operator does not allow it.
const NOT_ALLOWED: &str = "this server installs no packages: its operator can allow it with the setting \
                           `install_packages = true`";
/// Why packages are not installed for a vessel with a runner.
const ELSEWHERE: &str = "the vessel has a runner: its image or machine must bring them";
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
        if !self.launch.runs_elsewhere()
            && let Some(missing) = missing_system_packages(&code.system_packages)
        {
            return Err(missing.into());
        }
        let below = match &code.origin {
            _ if code.language == Language::Bash => return Ok(Packages::None),
            Origin::File { .. } | Origin::Archive { .. } => ".",
            Origin::Git(git) => git.directory().unwrap_or("."),
        };
        let uid = self.identity.map_or_else(|| rustix::process::geteuid().as_raw(), |it| it.uid);
        let files = CodeFiles::open(self.work, below, uid);
        let mut files = files.map_err(|error| {
            StartError::of(&error, format!("packages: the code's directory {below}: {error}"))
        })?;
        if let Some(why) = self.obstacle() {
            return self.refuse(code, &files, why);
        }
        if code.language == Language::Node && files.has(NODE_MODULES, FileType::Directory) {
            if !code.packages.is_empty() || files.has(NODE_FILES[0], FileType::RegularFile) {
                self.log.append_line(&format!(
                    "boathook: the code brings {NODE_MODULES} along; nothing is installed"
                ));
            }
            return Ok(Packages::None);
        }
        let (needs, plan) = needs(code, &mut files)?;
        if plan == Plan::Nothing {
            return Ok(Packages::None);
        }
        let own = self.launch.environment;
        check_variables(&needs, own).map_err(|why| format!("packages: {why}"))?;
        let interpreter = interpreter(code, own, self.work)?;
        let (of_key, salt) = (&interpreter.identity, self.cache.salt());
        let key = needs.key(&Basis { interpreter: of_key, uid, environment: own, salt });
        let on_wait = || {
            self.log.append_line(
                "boathook: another vessel is installing the same packages; waiting for it",
            );
        };
        let held = match self.cache.claim(&key, is_over, &on_wait) {
            Claim::Ready(held) => held,
            Claim::Interrupted => return Ok(Packages::Interrupted),
            Claim::Failed(error) => return Err(error),
            Claim::Install(installation) => {
                let commands = Commands { needs: &needs, plan: &plan, interpreter };
                match self.install(installation, &commands, run, is_over)? {
                    Ok(held) => held,
                    Err(end) => return Ok(end),
                }
            }
        };
        let place = self.cache.place(&key);
        if code.language == Language::Node {
            files.link(NODE_MODULES, &place.join(NODE_MODULES)).map_err(|error| {
                let reason = format!("packages: cannot link {NODE_MODULES} in {below}: {error}");
                StartError::of(&error, reason)
            })?;
        }
        let environment = environment_with(code.language, &place.to_string_lossy(), own);
        Ok(Packages::Ready { _held: held, environment })
    }

    /// Why nothing is installed, whatever is needed.
    fn obstacle(&self) -> Option<&'static str> {
        match self.launch.runs_elsewhere() {
            true => Some(ELSEWHERE),
            false => (!self.is_allowed).then_some(NOT_ALLOWED),
        }
    }

    /// Refuses packages of the fleet, and says that those of the code are not installed. Reads no file.
    fn refuse(
        &self,
        code: &Code,
        files: &CodeFiles,
        why: &str,
    ) -> Result<Packages<'a>, StartError> {
        if !code.packages.is_empty() {
            return Err(format!("packages: {why}").into());
        }
        let name = file_names(code).iter().find(|name| files.has(name, FileType::RegularFile));
        if let Some(name) = name {
            self.log.append_line(&format!("boathook: {name} is not installed: {why}"));
        }
        Ok(Packages::None)
    }

    /// Installs the environment, or returns the end of the vessel if it was stopped or cut off meanwhile.
    fn install(
        &self,
        installation: Installation<'a>,
        commands: &Commands<'_>,
        run: Run<'_>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Result<Held<'a>, Packages<'a>>, StartError> {
        let shown = commands.needs.shown();
        self.log.append_line(&format!("boathook: installing {shown}"));
        match self.fill(&installation, commands, run) {
            Ok(None) => {}
            Ok(Some(how)) => return Ok(Err(Packages::Ended(how))),
            Err(error) => return Err(installation.fail(error)),
        }
        match installation.complete(&shown, is_over) {
            Ok(held) => Ok(held.ok_or(Packages::Interrupted)),
            Err((installation, error)) => Err(installation.fail(failed("kept", &error))),
        }
    }

    /// Fills the environment. Returns the end of the vessel if it was stopped or cut off meanwhile.
    fn fill(
        &self,
        installation: &Installation<'a>,
        commands: &Commands<'_>,
        run: Run<'_>,
    ) -> Result<Option<HowEnded>, StartError> {
        let place = installation.begin().map_err(|error| failed("made", &error))?;
        let written = self.prepare(&place, commands.plan);
        written.map_err(|error| failed("written to", &error))?;
        let shown = place.to_string_lossy();
        let environment = environment_of_installation(&shown, self.launch.environment);
        let scratch = place.join(SCRATCH);
        let (directory, words) = match commands.plan {
            Plan::Npm(manifest) => {
                let npm = npm(&environment, self.work)?;
                (place.clone(), vec![npm_command(manifest, &npm.to_string_lossy(), &shown)])
            }
            Plan::Pip(files) => {
                let python = commands.interpreter.path.to_string_lossy();
                let commands = pip_commands(commands.needs, files, &python, &shown, &environment);
                (scratch.join(HOME), commands.to_vec())
            }
            Plan::Read(_) | Plan::Nothing => return Ok(None),
        };
        for command in words {
            if let Some(how) = self.step(&command, &directory, &environment, run)? {
                return Ok(Some(how));
            }
        }
        remove_tree(&scratch).map_err(|error| failed("tidied", &error))?;
        Ok(None)
    }

    /// Runs a command, which must succeed. Returns the end of the vessel if it was stopped or cut off.
    fn step(
        &self,
        command: &[String],
        directory: &Path,
        environment: &Environment,
        run: Run<'_>,
    ) -> Result<Option<HowEnded>, StartError> {
        let program = Program::command(command.iter().map(String::as_str));
        let launch = Launch {
            program: &program,
            runner: None,
            environment,
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

    /// Writes what the package manager reads into the new environment at `place`, then gives that to the
    /// vessel's user.
    fn prepare(&self, place: &Path, plan: &Plan) -> io::Result<()> {
        let scratch = place.join(SCRATCH);
        let home = scratch.join(HOME);
        for directory in [&scratch, &home] {
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        match plan {
            Plan::Npm(manifest) => {
                for (name, content) in &manifest.files {
                    self.write(&place.join(name), content)?;
                }
            }
            Plan::Pip(files) => {
                for (name, text) in PIP_FILES.iter().zip([&files.requirements, &files.constraints])
                {
                    self.write(&scratch.join(name), text.as_bytes())?;
                }
            }
            Plan::Read(_) | Plan::Nothing => {}
        }
        if let Some(identity) = self.identity {
            // The outermost last: the user controls the names in what it owns.
            for directory in [&home, &scratch, place] {
                hand_over(directory, identity)?;
            }
        }
        Ok(())
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        self.identity.map_or(Ok(()), |identity| Ok(identity.take(&file)?))
    }
}

fn failed(what: &str, error: &io::Error) -> StartError {
    StartError::of(error, format!("packages: the environment cannot be {what}: {error}"))
}

/// The files at the root of `code` that say what it needs.
fn file_names(code: &Code) -> &'static [&'static str] {
    match (&code.origin, code.language) {
        // What else is in the directory is another vessel's.
        (Origin::File { .. }, _) | (_, Language::Bash) => &[],
        (_, Language::Node) => &NODE_FILES,
        (_, Language::Python) => &[PYTHON_FILE],
    }
}

/// What `code` needs, by the fleet and by its own files.
fn needs<'c>(code: &'c Code, files: &mut CodeFiles) -> Result<(Needs<'c>, Plan), StartError> {
    let mut read = Vec::new();
    for name in file_names(code) {
        read.extend(files.read(name)?);
    }
    let mut needs = Needs { language: code.language, packages: &code.packages, files: read };
    loop {
        let unread = match needs.plan().map_err(|why| format!("packages: {why}"))? {
            Plan::Read(unread) => unread,
            plan => return Ok((needs, plan)),
        };
        for name in unread {
            let file = files.read(&name)?.ok_or_else(|| {
                format!(
                    "packages: {PYTHON_FILE} leads to {name}, which is no plain file of the code"
                )
            })?;
            needs.files.push(file);
        }
    }
}

/// What is installed, and by which programs.
struct Commands<'a> {
    needs: &'a Needs<'a>,
    plan: &'a Plan,
    interpreter: Interpreter,
}
