//! Packages that code needs beside itself: of PyPI and npm, installed into environments that runs share,
//! and of the system, which must be there. `plan` decides what is installed where; `cache` keeps what is
//! installed; `install` runs the package managers.

pub mod cache;
mod code_files;
pub(super) mod install;
pub mod machine;
mod manifest;
mod plan;
mod requirements;
mod size;

use std::path::{Path, PathBuf};

use cache::PackageCache;
use machine::interpreter;
use plan::{Basis, Needs, Plan};

use super::Launch;
use super::user::identity;
use crate::config::Settings;
use crate::model::fleet::Program;
use crate::model::source::{Language, Origin};

/// What is installed for a start of a vessel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackagesPreview {
    /// The packages of the fleet, as their package manager writes them.
    pub packages: Vec<String>,
    /// The file of the code that may name more, which only its root knows.
    pub file: Option<&'static str>,
    /// Where they are; `None` where the code's own files decide, or the interpreter is missing.
    pub directory: Option<PathBuf>,
    /// Whether they are installed already.
    pub is_installed: bool,
}

/// What is installed for `launch` in the work directory `work`, which need not exist. `None`: nothing.
pub(super) fn preview(
    launch: &Launch<'_>,
    work: &Path,
    settings: &Settings,
) -> Option<PackagesPreview> {
    let Program::Code(code) = launch.program else { return None };
    if launch.runs_elsewhere() {
        return None;
    }
    let file = match (&code.origin, code.language) {
        (Origin::File { .. }, _) | (_, Language::Bash) => None,
        (_, Language::Python) => Some(plan::PYTHON_FILE),
        (_, Language::Node) => Some(plan::NODE_FILES[0]),
    };
    let file = file.filter(|_| settings.install_packages);
    let needs = Needs { language: code.language, packages: &code.packages, files: Vec::new() };
    let is_nothing = needs.plan().is_ok_and(|plan| plan == Plan::Nothing);
    if is_nothing && file.is_none() {
        return None;
    }
    let cache = PackageCache::new(settings);
    let key = || {
        let user = launch.user.map(|name| identity(name, &settings.allowed_users)).transpose();
        let own = || rustix::process::geteuid().as_raw();
        let uid = user.ok()?.map_or_else(own, |it| it.uid);
        let environment = launch.environment;
        let of_key = interpreter(code, environment, work).ok()?.identity;
        // The values of secrets count, and a look at a start does not know them.
        let is_secret = |value: &&str| {
            launch
                .secrets
                .iter()
                .any(|secret| !secret.is_empty() && value.contains(secret.as_str()))
        };
        if plan::directing(environment).values().any(is_secret) {
            return None;
        }
        let salt = cache.salt();
        Some(needs.key(&Basis { interpreter: &of_key, uid, environment, salt }))
    };
    let key = file.is_none().then(key).flatten();
    Some(PackagesPreview {
        packages: code.packages.iter().map(|it| it.requirement(code.language)).collect(),
        file,
        is_installed: key.as_ref().is_some_and(|key| cache.is_complete(key)),
        directory: key.map(|key| cache.place(&key)),
    })
}
