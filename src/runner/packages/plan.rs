//! Decides, without I/O, what is installed for a vessel, under which key, and by which commands.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::manifest::{Manifest, manifest};
use super::requirements::{Requirements, requirements};
use crate::model::environment::Environment;
use crate::model::package::Package;
use crate::model::source::Language;
use crate::runner::resolve::path_of;

/// Bytes of a key, in hex twice as many letters.
const KEY_BYTES: usize = 16;
/// Variables that direct pip and npm begin like this, in either case.
const DIRECTING: [&str; 2] = ["pip_", "npm_config_"];
/// Where npm keeps what it downloads, in the environment's directory, until it is done.
pub const NPM_CACHE: &str = ".npm";
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
    Read(Vec<String>),
    Nothing,
    Pip,
    Npm(Manifest),
}

/// What a key depends on beside the needs.
pub struct Basis<'a> {
    /// Path, size and time of change of the interpreter's file.
    pub interpreter: &'a str,
    /// The user that owns the environment.
    pub uid: u32,
    pub environment: &'a Environment,
    /// Values that no hash gives away.
    pub secrets: &'a [String],
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
            Language::Python => {
                let mut names_any = !self.packages.is_empty();
                let mut unread = Vec::new();
                for file in &self.files {
                    let Requirements { names_packages, files } = requirements(file)?;
                    names_any |= names_packages;
                    unread.extend(files);
                }
                unread.retain(|name| self.files.iter().all(|file| file.name != *name));
                Ok(match (unread.is_empty(), names_any) {
                    (false, _) => Plan::Read(unread),
                    (true, true) => Plan::Pip,
                    (true, false) => Plan::Nothing,
                })
            }
        }
    }

    /// The name of the environment that these needs lead to. Each thing that changes what is installed
    /// changes it; the value of a secret does not.
    pub fn key(&self, basis: &Basis<'_>) -> String {
        let mut hash = Sha256::new();
        // Each part after its length, so that no two lists of parts are alike.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
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
        for (name, value) in directing(basis.environment) {
            let masked = basis.secrets.iter().filter(|secret| !secret.is_empty());
            let value = masked.fold(value.to_owned(), |value, secret| value.replace(secret, ""));
            add(name.as_bytes());
            add(value.as_bytes());
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

/// Whether `name` is that of an environment.
pub fn is_key(name: &str) -> bool {
    name.len() == 2 * KEY_BYTES
        && name.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

/// The variables that direct pip and npm, in the order of their names.
fn directing(environment: &Environment) -> BTreeMap<&str, &str> {
    let is_directing = |name: &str| {
        DIRECTING.iter().any(|prefix| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        })
    };
    environment.iter().filter(|(name, _)| is_directing(name)).collect()
}

/// A command of an installation. Its working directory is the environment for npm, else the work directory.
pub fn pip_commands(
    needs: &Needs<'_>,
    interpreter: &str,
    environment: &str,
    root: &str,
) -> [Vec<String>; 2] {
    // Isolated (-I): a file of the vessel called like a module of Python is not taken for it.
    let venv = [interpreter, "-I", "-m", "venv", "--", environment];
    let python = format!("{environment}/bin/python");
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
    let file = needs.files.first().map(|file| format!("{root}/{}", file.name));
    let file = file.into_iter().flat_map(|path| ["-r".to_owned(), path]);
    let packages = needs.packages.iter().map(|package| package.requirement(Language::Python));
    let install = install.map(str::to_owned).into_iter().chain(file);
    let install = install.chain(std::iter::once("--".to_owned())).chain(packages);
    [venv.map(str::to_owned).to_vec(), install.collect()]
}

/// See [`pip_commands`]. `npm` is the path of that program.
pub fn npm_command(manifest: &Manifest, npm: &str, environment: &str) -> Vec<String> {
    let cache = format!("{environment}/{NPM_CACHE}");
    let verb = if manifest.is_locked { "ci" } else { "install" };
    [
        npm,
        verb,
        "--prefix",
        environment,
        "--omit=dev",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--cache",
        &cache,
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

    fn key(needs: &Needs<'_>, environment: &[(&str, &str)], secrets: &[&str]) -> String {
        let own = |it: &&str| (*it).to_owned();
        let environment = environment.iter().copied().collect();
        let secrets: Vec<_> = secrets.iter().map(own).collect();
        needs.key(&Basis {
            interpreter: "/usr/bin/python3 1 2",
            uid: 0,
            environment: &environment,
            secrets: &secrets,
        })
    }

    #[test]
    fn the_same_needs_have_one_key_and_others_have_another() {
        let (a, b) = (package("a"), package("b"));
        let needs = |packages| Needs { language: Language::Python, packages, files: Vec::new() };
        let both = [a.clone(), b.clone()];
        let first = key(&needs(&both), &[], &[]);
        assert!(is_key(&first), "{first}");
        let otherwise = [b, a.clone(), a.clone()];
        assert_eq!(first, key(&needs(&otherwise), &[("HOME", "/w/1")], &[]));
        let mut seen = std::collections::BTreeSet::from([first]);
        let mut other = |key: String| assert!(seen.insert(key));
        other(key(&needs(std::slice::from_ref(&a)), &[], &[]));
        other(key(&Needs { language: Language::Node, ..needs(&both) }, &[], &[]));
        other(key(&Needs { files: vec![file("requirements.txt", "x")], ..needs(&both) }, &[], &[]));
        other(key(&Needs { files: vec![file("requirements.txt", "y")], ..needs(&both) }, &[], &[]));
        other(key(&needs(&both), &[("PIP_INDEX_URL", "https://h/simple")], &[]));
        other(key(&needs(&both), &[("npm_config_registry", "https://h")], &[]));
    }

    #[test]
    fn a_secret_changes_no_key() {
        let needs = Needs { language: Language::Python, packages: &[], files: Vec::new() };
        let with = |secret: &str| {
            let url = format!("https://u:{secret}@h/simple");
            key(&needs, &[("PIP_INDEX_URL", &url)], &[secret])
        };
        assert_eq!(with("one"), with("other"));
    }

    #[test]
    fn requirements_that_refer_to_others_are_read_first() {
        let plan = |files: Vec<NeedsFile>| {
            Needs { language: Language::Python, packages: &[], files }.plan()
        };
        assert_eq!(plan(Vec::new()), Ok(Plan::Nothing));
        assert_eq!(plan(vec![file(PYTHON_FILE, "# nothing\n")]), Ok(Plan::Nothing));
        assert_eq!(plan(vec![file(PYTHON_FILE, "requests\n")]), Ok(Plan::Pip));
        let outer = file(PYTHON_FILE, "-r base.txt\n");
        assert_eq!(plan(vec![outer.clone()]), Ok(Plan::Read(vec!["base.txt".to_owned()])));
        assert_eq!(plan(vec![outer.clone(), file("base.txt", "a")]), Ok(Plan::Pip));
        assert_eq!(plan(vec![outer, file("base.txt", "-r requirements.txt")]), Ok(Plan::Nothing));
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
