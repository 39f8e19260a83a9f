//! What this machine has for packages: interpreters, package managers, packages of the system. Reads, and
//! asks `dpkg-query`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::model::environment::Environment;
use crate::model::source::{Code, Language};
use crate::runner::reason::Reason;
use crate::runner::resolve::{interpreter_of, path_of, search};

/// Where `dpkg-query` is looked for.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The interpreter that an environment is made for.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub path: PathBuf,
    /// Changes whenever the file behind the path does.
    pub identity: String,
}

/// The interpreter of `code`, by the PATH in `environment` and from the directory `work`.
///
/// # Errors
/// Why there is none.
pub(super) fn interpreter(
    code: &Code,
    environment: &Environment,
    work: &Path,
) -> Result<Interpreter, Reason> {
    let path = search(&interpreter_of(code), path_of(environment), work)?;
    let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let found = fs::metadata(&real).map(|it| (it.size(), it.mtime(), it.mtime_nsec()));
    let identity = format!("{} {:?}", real.display(), found.ok());
    Ok(Interpreter { path, identity })
}

/// The path of npm.
///
/// # Errors
/// Why there is none.
pub(super) fn npm(environment: &Environment, work: &Path) -> Result<PathBuf, Reason> {
    search("npm", path_of(environment), work).map_err(|Reason { what, .. }| {
        Reason::new(
            format!("this machine lacks npm, which installs the packages of NODE: {what}"),
            "apt-get install npm",
        )
    })
}

/// What keeps packages for `code` from being installed on this machine, with `environment`, which has at
/// least PATH. `None` also when that cannot be told.
pub fn lack_for(code: &Code, environment: &Environment) -> Option<Reason> {
    // Stands for a run's work directory.
    let unknown = Path::new("/nonexistent");
    // The interpreter's absence is judged elsewhere.
    let interpreter = interpreter(code, environment, unknown).ok()?;
    match code.language {
        Language::Bash => None,
        Language::Node => npm(environment, unknown).err(),
        Language::Python => lack_of_venv(&fs::canonicalize(interpreter.path).ok()?),
    }
}

/// What the standard library beside the interpreter at the real path `python` lacks for `python -m venv`.
/// Debian has that in a package of its own.
pub(super) fn lack_of_venv(python: &Path) -> Option<Reason> {
    let name = python.file_name()?.to_str()?;
    let library = python.parent()?.parent()?.join("lib").join(name);
    let is_there = |part: &str| library.join(part).is_file();
    (is_there("os.py") && !is_there("ensurepip/__init__.py")).then(|| {
        Reason::new(
            format!(
                "this machine cannot make an environment for packages of {name}: {} lacks ensurepip",
                library.display()
            ),
            format!("apt-get install {name}-venv"),
        )
    })
}

/// Which of the Debian packages `names` are not installed, with the command that installs them. `None`:
/// all are.
pub fn missing_system_packages(names: &[String]) -> Option<Reason> {
    if names.is_empty() {
        return None;
    }
    let mut command = Command::new("dpkg-query");
    command.args(["--show", "--showformat", "${db:Status-Status} ${Package}\n", "--"]);
    command.args(names).env_clear().env("PATH", SYSTEM_PATH).env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    match command.output() {
        Ok(answered) => {
            let missing = not_installed(names, &String::from_utf8_lossy(&answered.stdout));
            (!missing.is_empty()).then(|| {
                let missing = missing.join(" ");
                let what = format!("system_packages: not installed on this machine: {missing}");
                Reason::new(what, format!("apt-get install {missing}"))
            })
        }
        Err(error) => Some(Reason::new(
            format!(
                "system_packages: this machine cannot tell whether {} is installed: dpkg-query: \
                 {error}",
                names.join(", ")
            ),
            "install it by the machine's own means, and remove `system_packages`",
        )),
    }
}

/// The names that are not among the installed packages of `answer`.
fn not_installed<'n>(names: &'n [String], answer: &str) -> Vec<&'n str> {
    let installed: Vec<&str> =
        answer.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    let is_missing = |name: &&str| !installed.contains(&name.split(':').next().unwrap_or(name));
    names.iter().map(String::as_str).filter(is_missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_pass() {
        let names = ["jq", "curl", "libc6:amd64", "gone"].map(str::to_owned);
        let answer = "installed jq\nconfig-files curl\ninstalled libc6\nnot-installed gone\n";
        assert_eq!(not_installed(&names, answer), ["curl", "gone"]);
        assert_eq!(not_installed(&names, ""), ["jq", "curl", "libc6:amd64", "gone"]);
        assert_eq!(missing_system_packages(&[]), None);
    }

    #[test]
    fn a_standard_library_without_ensurepip_is_named_with_its_package() {
        let directory = tempfile::tempdir().unwrap();
        let (bin, library) =
            (directory.path().join("bin"), directory.path().join("lib/python3.99"));
        let python = bin.join("python3.99");
        fs::create_dir_all(&bin).unwrap();
        fs::write(&python, "").unwrap();
        assert_eq!(lack_of_venv(&python), None, "an unknown layout");
        fs::create_dir_all(&library).unwrap();
        fs::write(library.join("os.py"), "").unwrap();
        let lack = lack_of_venv(&python).unwrap().to_string();
        assert!(lack.contains("apt-get install python3.99-venv"), "{lack}");
        fs::create_dir(library.join("ensurepip")).unwrap();
        fs::write(library.join("ensurepip/__init__.py"), "").unwrap();
        assert_eq!(lack_of_venv(&python), None);
    }
}
