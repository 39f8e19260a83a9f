//! Decides, without I/O, what is installed for a vessel, under which key, and by which commands.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::manifest::{Manifest, manifest};
use super::requirements::{Line, requirements};
use crate::model::environment::Environment;
use crate::model::package::Package;
use crate::model::source::Language;
use crate::runner::resolve::path_of;

/// Bytes of a key, in hex twice as many letters.
const KEY_BYTES: usize = 16;
/// Variables that direct pip and npm begin like this, in either case.
const DIRECTING: [&str; 2] = ["pip_", "npm_config_"];
/// What an installation needs until it is done, in the environment's directory.
pub const SCRATCH: &str = ".installing";
/// The empty home of package managers, in the scratch directory. No setting of the code or of an earlier vessel
/// reaches them, and no relative path leads anywhere from there.
pub const HOME: &str = "home";
/// The files that pip gets, in the scratch directory.
pub const PIP_FILES: [&str; 2] = ["requirements.txt", "constraints.txt"];
/// Variables that an installation sets itself.
const OF_INSTALLATION: [&str; 3] = ["HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"];
/// The files at the root of code that say what Node.js needs. The first is needed for the others to count.
pub const NODE_FILES: [&str; 4] =
    ["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"];
/// The file at the root of code that says what Python needs.
pub const PYTHON_FILE: &str = "requirements.txt";

/// A file that says what is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsFile {
    /// Relative to the root of the code.
    pub name: String,
    pub content: Vec<u8>,
}

/// What a vessel needs.
#[derive(Debug)]
pub struct Needs<'a> {
    pub language: Language,
    pub packages: &'a [Package],
    pub files: Vec<NeedsFile>,
}

/// What is done about it.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// Files that pip reads refer to these as well. They have to be read first.
    Read(BTreeSet<String>),
    Nothing,
    /// pip gets these texts, in place of the code's files.
    Pip(PipFiles),
    Npm(Manifest),
}

/// What the requirements files say, in one text for each of [`PIP_FILES`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PipFiles {
    pub requirements: String,
    pub constraints: String,
}

/// What a key depends on beside the needs.
pub struct Basis<'a> {
    /// Path, size and time of change of the interpreter's file.
    pub interpreter: &'a str,
    /// The user that owns the environment.
    pub uid: u32,
    pub environment: &'a Environment,
    /// Random bytes that only the server reads, so that a key gives no secret away.
    pub salt: &'a [u8],
}

impl Needs<'_> {
    /// The plan for these needs.
    ///
    /// # Errors
    /// What cannot be shared between runs, for the author of the fleet.
    pub fn plan(&self) -> Result<Plan, String> {
        match self.language {
            Language::Bash => Ok(Plan::Nothing),
            Language::Node => {
                let manifest = manifest(&self.files, self.packages)?;
                Ok(manifest.map_or(Plan::Nothing, Plan::Npm))
            }
            Language::Python => self.python_plan(),
        }
    }

    fn python_plan(&self) -> Result<Plan, String> {
        let mut lines = BTreeMap::new();
        for file in &self.files {
            lines.insert(file.name.as_str(), requirements(file)?);
        }
        let included = lines.values().flatten().filter_map(|line| match line {
            Line::Include { path, .. } => Some(path),
            Line::Requirement(_) | Line::Option(_) => None,
        });
        let unread = included.filter(|path| !lines.contains_key(path.as_str()));
        let unread: BTreeSet<String> = unread.cloned().collect();
        if !unread.is_empty() {
            return Ok(Plan::Read(unread));
        }
        let mut gathered = Gathered::default();
        if let Some(first) = self.files.first() {
            gathered.add(&lines, &first.name, false);
        }
        Ok(match gathered.names_packages || !self.packages.is_empty() {
            true => Plan::Pip(gathered.files),
            false => Plan::Nothing,
        })
    }

    /// The name of the environment that these needs lead to. Each thing that changes what is installed
    /// changes it.
    pub fn key(&self, basis: &Basis<'_>) -> String {
        let mut hash = Sha256::new();
        // Each part after its length, so that no two lists of parts are alike.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(basis.salt);
        add(self.language.word().as_bytes());
        add(basis.interpreter.as_bytes());
        add(&basis.uid.to_le_bytes());
        let mut packages: Vec<String> =
            self.packages.iter().map(|package| package.requirement(self.language)).collect();
        packages.sort();
        packages.dedup();
        add(&(packages.len() as u64).to_le_bytes());
        packages.iter().for_each(|package| add(package.as_bytes()));
        add(&(self.files.len() as u64).to_le_bytes());
        for NeedsFile { name, content } in &self.files {
            add(name.as_bytes());
            add(content);
        }
        let named =
            variables_in(&self.files).into_iter().map(|name| (name, basis.environment.get(name)));
        let directing = directing(basis.environment);
        let directing = directing.into_iter().map(|(name, value)| (name, Some(value)));
        for (name, value) in directing.chain(named) {
            add(name.as_bytes());
            add(&[u8::from(value.is_some())]);
            add(value.unwrap_or_default().as_bytes());
        }
        HEXLOWER.encode(&hash.finalize()[..KEY_BYTES])
    }

    /// What is installed, for a person.
    pub fn shown(&self) -> String {
        let packages = self.packages.iter().map(|package| package.requirement(self.language));
        let files = self.files.iter().map(|file| file.name.as_str());
        let files = files.filter(|name| *name != ".npmrc").map(str::to_owned);
        packages.chain(files).collect::<Vec<_>>().join(", ")
    }
}

/// Whether an environment may have this `name`.
pub fn is_key(name: &str) -> bool {
    name.len() == 2 * KEY_BYTES
        && name.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

/// The texts of [`PipFiles`] as they grow.
#[derive(Default)]
struct Gathered {
    files: PipFiles,
    names_packages: bool,
    /// Names of files, and whether as constraints.
    seen: BTreeSet<(String, bool)>,
}

impl Gathered {
    /// Adds the lines of the file `name` and of those that it includes. The number of files bounds the depth.
    fn add(&mut self, lines: &BTreeMap<&str, Vec<Line>>, name: &str, is_constraint: bool) {
        if !self.seen.insert((name.to_owned(), is_constraint)) {
            return;
        }
        for line in lines.get(name).into_iter().flatten() {
            let text = match line {
                Line::Include { path, is_constraint } => {
                    self.add(lines, path, *is_constraint);
                    continue;
                }
                Line::Requirement(text) => {
                    self.names_packages |= !is_constraint;
                    text
                }
                Line::Option(text) => text,
            };
            let PipFiles { requirements, constraints } = &mut self.files;
            let file = if is_constraint { constraints } else { requirements };
            file.push_str(text);
            file.push('\n');
        }
    }
}

/// The variables that direct pip and npm, in the order of their names.
pub fn directing(environment: &Environment) -> BTreeMap<&str, &str> {
    let is_directing = |name: &str| {
        DIRECTING.iter().any(|prefix| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        })
    };
    environment.iter().filter(|(name, _)| is_directing(name)).collect()
}

/// The variables that `files` name as `${NAME}`, which pip and npm put in.
fn variables_in(files: &[NeedsFile]) -> BTreeSet<&str> {
    let texts = files.iter().filter_map(|file| std::str::from_utf8(&file.content).ok());
    let names = texts.flat_map(|text| {
        text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| {
            // npm marks a variable that may be missing.
            name.strip_suffix('?').unwrap_or(name)
        })
    });
    names.filter(|name| !OF_INSTALLATION.contains(name)).collect()
}

/// Why an environment that runs share cannot be installed with the variables of `environment`.
///
/// # Errors
/// The variable, and what to do.
pub fn check_variables(needs: &Needs<'_>, environment: &Environment) -> Result<(), String> {
    const FILES: [&str; 13] = [
        "PIP_CONFIG_FILE",
        "PIP_CONSTRAINT",
        "PIP_BUILD_CONSTRAINT",
        "PIP_REQUIREMENT",
        "PIP_REQUIREMENTS_FROM_SCRIPT",
        "PIP_GROUP",
        "PIP_EDITABLE",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_SRC",
        "PIP_PYTHON",
        "NPM_CONFIG_GLOBALCONFIG",
    ];
    const ADDRESSES: [&str; 5] = [
        "PIP_INDEX_URL",
        "PIP_PYPI_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "NPM_CONFIG_REGISTRY",
    ];
    let of_manager = if needs.language == Language::Node { "NPM_" } else { "PIP_" };
    for (name, value) in directing(environment) {
        let upper = name.to_ascii_uppercase();
        if !upper.starts_with(of_manager) || matches!(value, "" | "/dev/null") {
            continue;
        }
        if FILES.contains(&upper.as_str()) {
            return Err(format!(
                "{name} names a file or a place of this run, which an environment that runs share cannot \
                 depend on; remove it, and write what it says into the files of the code"
            ));
        }
        let is_address = |it: &str| it.starts_with("https://") || it.starts_with("http://");
        if ADDRESSES.contains(&upper.as_str()) && !value.split_whitespace().all(is_address) {
            return Err(format!("{name} is no address of an index; set it to https://..."));
        }
    }
    let is_word = |value: &str| {
        !value.contains(|it: char| it.is_whitespace() || matches!(it, '"' | '\'' | '\\' | ';'))
    };
    let mut named = variables_in(&needs.files).into_iter();
    let odd = named.find(|name| environment.get(name).is_some_and(|value| !is_word(value)));
    match odd.filter(|_| needs.language == Language::Python) {
        Some(_) => {
            Err("a variable that the requirements files name is no single word without quotes; \
                        encode it as an address needs it"
                .to_owned())
        }
        None => Ok(()),
    }
}

/// The environment of package managers that install into the directory `place`.
pub fn environment_of_installation(place: &str, own: &Environment) -> Environment {
    let home = format!("{place}/{SCRATCH}/{HOME}");
    let mut environment = own.with_room(3, 2 * home.len() + 64);
    environment.replace("HOME", &home);
    environment.replace("XDG_CONFIG_HOME", &home);
    // Empty: the machine's own, as without the variable.
    environment.replace("XDG_CONFIG_DIRS", "");
    environment
}

/// The commands that install `files` and packages for Python into the directory `place`.
pub fn pip_commands(
    needs: &Needs<'_>,
    files: &PipFiles,
    interpreter: &str,
    place: &str,
    environment: &Environment,
) -> [Vec<String>; 2] {
    // Isolated (-I): a file of the vessel called like a module of Python is not taken for it.
    let venv = [interpreter, "-I", "-m", "venv", "--", place];
    let python = format!("{place}/bin/python");
    let install = [
        python.as_str(),
        "-I",
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--progress-bar",
        "off",
    ];
    // pip ignores all variables of its own then.
    let has_settings = directing(environment).keys().any(|name| name.starts_with("PIP_"));
    let isolated = (!has_settings).then(|| "--isolated".to_owned());
    let [requirements, constraints] = PIP_FILES.map(|name| format!("{place}/{SCRATCH}/{name}"));
    let given =
        [("-r", requirements, &files.requirements), ("-c", constraints, &files.constraints)];
    let given = given.into_iter().filter(|(_, _, text)| !text.is_empty());
    let given = given.flat_map(|(option, path, _)| [option.to_owned(), path]);
    let packages = needs.packages.iter().map(|package| package.requirement(Language::Python));
    let install = install.map(str::to_owned).into_iter().chain(isolated).chain(given);
    let install = install.chain(std::iter::once("--".to_owned())).chain(packages);
    [venv.map(str::to_owned).to_vec(), install.collect()]
}

/// The command that installs `manifest` in the directory `place`, its working directory. `npm` is the path of
/// that program.
pub fn npm_command(manifest: &Manifest, npm: &str, place: &str) -> Vec<String> {
    let cache = format!("{place}/{SCRATCH}/npm");
    // The .npmrc of the code cannot name another.
    let settings = format!("{place}/{SCRATCH}/{HOME}/.npmrc");
    let verb = if manifest.is_locked { "ci" } else { "install" };
    [
        npm,
        verb,
        "--prefix",
        place,
        "--omit=dev",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--cache",
        &cache,
        "--userconfig",
        &settings,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// `environment` with the programs of the directory `place` first in its PATH.
pub fn environment_with(language: Language, place: &str, own: &Environment) -> Environment {
    let programs = match language {
        Language::Node => format!("{place}/node_modules/.bin"),
        _ => format!("{place}/bin"),
    };
    let mut environment = own.with_room(2, 2 * place.len() + path_of(own).len() + 64);
    environment.replace("PATH", &format!("{programs}:{}", path_of(own)));
    if language == Language::Python {
        environment.replace("VIRTUAL_ENV", place);
    }
    environment
}

/// Why a package manager failed, by the end of what it said, if that is the machine's doing.
pub fn lack_of_machine(said: &str) -> Option<&'static str> {
    const KNOWN: [(&[&str], &str); 4] = [
        (
            &["ensurepip is not available", "No module named ensurepip", "No module named venv"],
            "this machine lacks the standard library's venv: `apt-get install python3-venv`",
        ),
        (
            &["No space left on device", "ENOSPC", "Disk quota exceeded", "EDQUOT"],
            "this machine has no room for them: make room, or set `packages_dir` to another place",
        ),
        (
            &["Read-only file system", "EROFS"],
            "this machine lets nothing be written there: set `packages_dir` to another place",
        ),
        (
            &[
                "Temporary failure in name resolution",
                "Name or service not known",
                "Network is unreachable",
                "No route to host",
                "Connection refused",
                "Connection timed out",
                "NewConnectionError",
                "ConnectTimeoutError",
                "ENOTFOUND",
                "EAI_AGAIN",
                "ECONNREFUSED",
                "ECONNRESET",
                "ENETUNREACH",
                "ETIMEDOUT",
            ],
            "this machine could not reach the package index: look at its network and proxy, and at \
             the vessel's PIP_INDEX_URL or npm_config_registry",
        ),
    ];
    let said_any = |words: &&[&str]| words.iter().any(|word| said.contains(word));
    KNOWN.iter().find(|(words, _)| said_any(words)).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Package {
        Package { name: name.to_owned(), version: None }
    }

    fn file(name: &str, content: &str) -> NeedsFile {
        NeedsFile { name: name.to_owned(), content: content.into() }
    }

    fn key(needs: &Needs<'_>, environment: &[(&str, &str)]) -> String {
        let environment = environment.iter().copied().collect();
        let (interpreter, salt) = ("/usr/bin/python3 1 2", b"salt".as_slice());
        needs.key(&Basis { interpreter, uid: 0, environment: &environment, salt })
    }

    fn pip(requirements: &str, constraints: &str) -> Plan {
        let (requirements, constraints) = (requirements.to_owned(), constraints.to_owned());
        Plan::Pip(PipFiles { requirements, constraints })
    }

    #[test]
    fn the_same_needs_have_one_key_and_others_have_another() {
        let (a, b) = (package("a"), package("b"));
        let needs = |packages| Needs { language: Language::Python, packages, files: Vec::new() };
        let both = [a.clone(), b.clone()];
        let first = key(&needs(&both), &[]);
        assert!(is_key(&first), "{first}");
        let otherwise = [b, a.clone(), a.clone()];
        assert_eq!(first, key(&needs(&otherwise), &[("HOME", "/w/1")]));
        let mut seen = std::collections::BTreeSet::from([first]);
        let mut other = |key: String| assert!(seen.insert(key));
        other(key(&needs(std::slice::from_ref(&a)), &[]));
        other(key(&Needs { language: Language::Node, ..needs(&both) }, &[]));
        other(key(&Needs { files: vec![file("requirements.txt", "x")], ..needs(&both) }, &[]));
        other(key(&Needs { files: vec![file("requirements.txt", "y")], ..needs(&both) }, &[]));
        other(key(&needs(&both), &[("PIP_INDEX_URL", "https://h/simple")]));
        other(key(&needs(&both), &[("PIP_INDEX_URL", "https://u:secret@h/simple")]));
        other(key(&needs(&both), &[("npm_config_registry", "https://h")]));
        let none = Environment::default();
        let salted = |salt: &[u8]| {
            needs(&both).key(&Basis { interpreter: "", uid: 0, environment: &none, salt })
        };
        assert_ne!(salted(b"one"), salted(b"other"));
    }

    #[test]
    fn a_variable_that_a_file_names_counts() {
        for (name, text) in [
            (PYTHON_FILE, "-i https://u:${TOKEN}@h/simple\nx\n"),
            (".npmrc", "//h/:_authToken=${TOKEN}\n"),
            (".npmrc", "//h/:_authToken=${TOKEN?}\n"),
        ] {
            let files = vec![file(name, text)];
            let needs = Needs { language: Language::Python, packages: &[], files };
            let with = |value: &str| key(&needs, &[("TOKEN", value), ("OTHER", value)]);
            assert_ne!(with("one"), with("two"), "{text}");
            assert_ne!(key(&needs, &[]), key(&needs, &[("TOKEN", "")]), "{text}");
            assert_eq!(key(&needs, &[]), key(&needs, &[("OTHER", "1"), ("HOME", "/w")]), "{text}");
        }
    }

    #[test]
    fn variables_that_name_files_of_a_run_are_refused() {
        let checked = |language, name: &str, value: &str| {
            let files = vec![file(PYTHON_FILE, "x @ https://${TOKEN}@h/x.whl")];
            let environment = [(name, value)].into_iter().collect();
            check_variables(&Needs { language, packages: &[], files }, &environment)
        };
        for (name, value) in [
            ("PIP_CONSTRAINT", "/w/c.txt"),
            ("PIP_REQUIREMENT", "r.txt"),
            ("PIP_CONFIG_FILE", "pip.conf"),
            ("PIP_FIND_LINKS", "https://h/x /w/wheels"),
            ("PIP_INDEX_URL", "file:///w/simple"),
            ("TOKEN", "x -e ."),
        ] {
            assert!(checked(Language::Python, name, value).is_err(), "{name}");
        }
        assert!(checked(Language::Node, "npm_config_globalconfig", "x").is_err());
        assert!(checked(Language::Node, "npm_config_registry", "file:///x").is_err());
        for (name, value) in [
            ("PIP_INDEX_URL", "https://h/simple"),
            ("PIP_CONFIG_FILE", "/dev/null"),
            ("TOKEN", "u:p%20w"),
        ] {
            assert_eq!(checked(Language::Python, name, value), Ok(()), "{name}");
        }
    }

    #[test]
    fn requirements_that_refer_to_others_are_read_first_and_put_together() {
        let plan = |files: Vec<NeedsFile>| {
            Needs { language: Language::Python, packages: &[], files }.plan()
        };
        assert_eq!(plan(Vec::new()), Ok(Plan::Nothing));
        assert_eq!(plan(vec![file(PYTHON_FILE, "# nothing\n")]), Ok(Plan::Nothing));
        assert_eq!(plan(vec![file(PYTHON_FILE, "requests\n")]), Ok(pip("requests\n", "")));
        // Each file is read once, however often it is named.
        let outer = file(PYTHON_FILE, &"-r base.txt\n".repeat(10_000));
        let unread = BTreeSet::from(["base.txt".to_owned()]);
        assert_eq!(plan(vec![outer.clone()]), Ok(Plan::Read(unread)));
        let base = file("base.txt", "a\n-r requirements.txt\n");
        assert_eq!(plan(vec![outer.clone(), base]), Ok(pip("a\n", "")));
        let circle = file("base.txt", "-r requirements.txt");
        assert_eq!(plan(vec![outer, circle]), Ok(Plan::Nothing));
        let outer = file(PYTHON_FILE, "-c pins.txt\n--pre\na\n");
        let pins = file("pins.txt", "a==1\n");
        assert_eq!(plan(vec![outer, pins.clone()]), Ok(pip("--pre\na\n", "a==1\n")));
        // Constraints alone install nothing.
        assert_eq!(plan(vec![file(PYTHON_FILE, "-c pins.txt\n"), pins]), Ok(Plan::Nothing));
    }

    #[test]
    fn pip_reads_no_settings_but_those_of_the_fleet() {
        let needs = Needs { language: Language::Python, packages: &[], files: Vec::new() };
        let files = PipFiles { requirements: "a\n".to_owned(), constraints: String::new() };
        let shown = |environment: &[(&str, &str)]| {
            let environment = environment.iter().copied().collect();
            pip_commands(&needs, &files, "python3", "/p/k", &environment)[1].join(" ")
        };
        let plain = shown(&[("HOME", "/w")]);
        assert!(plain.ends_with("--isolated -r /p/k/.installing/requirements.txt --"), "{plain}");
        assert!(!shown(&[("PIP_INDEX_URL", "https://h")]).contains("--isolated"));
        let own = [("HOME", "/w/1"), ("XDG_CONFIG_HOME", "/w/1/.config"), ("A", "1")];
        let environment = environment_of_installation("/p/k", &own.into_iter().collect());
        for name in ["HOME", "XDG_CONFIG_HOME"] {
            assert_eq!(environment.get(name), Some("/p/k/.installing/home"));
        }
        assert_eq!(environment.get("A"), Some("1"));
    }

    #[test]
    fn an_environment_comes_first_in_the_path() {
        let base = [("PATH", "/usr/bin"), ("A", "1")].into_iter().collect();
        let python = environment_with(Language::Python, "/p/k", &base);
        assert_eq!(python.get("PATH"), Some("/p/k/bin:/usr/bin"));
        assert_eq!((python.get("VIRTUAL_ENV"), python.get("A")), (Some("/p/k"), Some("1")));
        let node = environment_with(Language::Node, "/p/k", &base);
        assert_eq!(node.get("PATH"), Some("/p/k/node_modules/.bin:/usr/bin"));
    }

    #[test]
    fn what_the_machine_lacks_is_told_apart_from_faults_of_the_packages() {
        for (said, expected) in [
            ("The virtual environment was not created because ensurepip is not available.", "venv"),
            ("OSError: [Errno 28] No space left on device", "room"),
            ("npm error code EAI_AGAIN", "could not reach"),
            ("[Errno -3] Temporary failure in name resolution", "could not reach"),
        ] {
            assert!(lack_of_machine(said).is_some_and(|why| why.contains(expected)), "{said}");
        }
        assert_eq!(lack_of_machine("ERROR: No matching distribution found for x==9"), None);
    }
}
