//! The `package.json` that npm gets: the code's own, with the packages of the fleet and without what
//! concerns the code alone.

use serde_json::{Map, Value};

use super::plan::{NODE_FILES, NeedsFile};
use crate::model::package::Package;
use crate::model::source::Language;

/// The keys of dependencies that are installed.
const INSTALLED: [&str; 2] = ["dependencies", "optionalDependencies"];
/// The keys of all dependencies that npm looks at.
const LOOKED_AT: [&str; 4] =
    ["dependencies", "optionalDependencies", "peerDependencies", "devDependencies"];
/// What the addresses of dependencies begin with. npm takes anything else with a `/` for a path, or for a
/// repository of GitHub.
const ADDRESSES: [&str; 9] = [
    "https://",
    "http://",
    "git+https://",
    "git+http://",
    "git+ssh://",
    "git://",
    "github:",
    "gitlab:",
    "bitbucket:",
];
/// Ends of names that npm takes for files.
const ARCHIVES: [&str; 3] = [".tgz", ".tar.gz", ".tar"];
/// Keys that concern the code. npm would run its scripts, which expect the files of the code.
const OF_CODE: [&str; 4] = ["scripts", "bin", "files", "main"];

/// What npm is given.
#[derive(Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Name and content of each file.
    pub files: Vec<(String, Vec<u8>)>,
    /// Whether a lock file says exactly what is installed.
    pub is_locked: bool,
}

/// The manifest for code with these `files` and `packages`; `None` when nothing is to be installed.
///
/// # Errors
/// What cannot be installed into an environment that several runs share.
pub fn manifest(files: &[NeedsFile], packages: &[Package]) -> Result<Option<Manifest>, String> {
    let [name, ..] = NODE_FILES;
    let own = files.iter().find(|file| file.name == name);
    let mut root = match own {
        None => Map::new(),
        Some(file) => match serde_json::from_slice(&file.content) {
            Ok(Value::Object(root)) => root,
            Ok(_) => return Err(format!("{name} is no JSON object")),
            Err(error) => return Err(format!("{name}: {error}")),
        },
    };
    if root.contains_key("workspaces") {
        return Err(format!(
            "`workspaces` of {name} are directories of the code, which an environment that runs \
             share cannot have; name what they need in `dependencies`"
        ));
    }
    if let Some(local) = LOOKED_AT.iter().find_map(|key| local_dependency(root.get(*key)?)) {
        return Err(format!("`{local}` of {name} {LOCAL}"));
    }
    if root.get("overrides").is_some_and(|overrides| !are_remote(overrides)) {
        return Err(format!("`overrides` of {name} {LOCAL}"));
    }
    OF_CODE.iter().for_each(|key| {
        root.remove(*key);
    });
    root.insert("private".to_owned(), Value::Bool(true));
    if !packages.is_empty() {
        let dependencies = root.entry("dependencies").or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(dependencies) = dependencies else {
            return Err(format!("`dependencies` of {name} is no JSON object"));
        };
        for package in packages {
            dependencies.insert(package.name.clone(), Value::String(package.range().to_owned()));
        }
    }
    let is_empty = |key: &&str| match root.get(*key) {
        Some(Value::Object(entries)) => entries.is_empty(),
        _ => true,
    };
    if INSTALLED.iter().all(is_empty) {
        return Ok(None);
    }
    let content = serde_json::to_vec_pretty(&root).map_err(|error| error.to_string())?;
    // A lock file does not know the packages of the fleet.
    let counts = |file: &&NeedsFile| {
        own.is_some() && file.name != name && (packages.is_empty() || file.name == ".npmrc")
    };
    let others: Vec<_> = files.iter().filter(counts).collect();
    for file in &others {
        check_other(file)?;
    }
    let is_locked = others.iter().any(|file| file.name != ".npmrc");
    let others = others.into_iter().map(|file| (file.name.clone(), file.content.clone()));
    let files = std::iter::once((name.to_owned(), content)).chain(others).collect();
    Ok(Some(Manifest { files, is_locked }))
}

const LOCAL: &str = "comes from the code itself, which an environment that runs share cannot have; name a package \
                     of the registry, or require the file by its path";

/// The name of the first dependency that is neither of the registry nor of an address.
fn local_dependency(dependencies: &Value) -> Option<&str> {
    let mut entries = dependencies.as_object()?.iter();
    let is_remote = |range: &Value| range.as_str().is_some_and(is_remote);
    entries.find(|(_, range)| !is_remote(range)).map(|(name, _)| name.as_str())
}

/// Whether `spec` names a version, a tag, an alias, an address or a repository of GitHub.
fn is_remote(spec: &str) -> bool {
    let spec = spec.trim();
    if ADDRESSES.iter().any(|start| spec.starts_with(start)) {
        return true;
    }
    if let Some(alias) = spec.strip_prefix("npm:") {
        let at = alias.rfind('@').filter(|at| *at > 0).unwrap_or(alias.len());
        let (name, range) = alias.split_at_checked(at).unwrap_or((alias, ""));
        let package = Package { name: name.to_owned(), version: None };
        return package.fault_of_name(Language::Node).is_none()
            && is_remote(range.strip_prefix('@').unwrap_or(range));
    }
    if let Some((owner, repository)) = spec.split_once('/') {
        let is_word = |text: &str, more: &str| {
            text.starts_with(|it: char| it.is_ascii_alphanumeric())
                && text.chars().all(|it| it.is_ascii_alphanumeric() || more.contains(it))
        };
        return is_word(owner, "-") && is_word(repository, "._-#");
    }
    let lower = spec.to_ascii_lowercase();
    !spec.starts_with(['.', '$'])
        && spec != "~"
        && !spec.contains([':', '\\'])
        && !ARCHIVES.iter().any(|end| lower.ends_with(end))
}

/// The same for all of `overrides`, which may refer to a dependency as `$name`.
fn are_remote(overrides: &Value) -> bool {
    match overrides {
        Value::Object(entries) => entries.values().all(are_remote),
        Value::String(spec) => spec.starts_with('$') || is_remote(spec),
        _ => false,
    }
}

/// Refuses a lock file or settings that lead to files.
fn check_other(file: &NeedsFile) -> Result<(), String> {
    let name = &file.name;
    if name != ".npmrc" {
        let lock: Value =
            serde_json::from_slice(&file.content).map_err(|error| format!("{name}: {error}"))?;
        return match is_remote_lock(&lock) {
            true => Ok(()),
            false => Err(format!("a package of {name} {LOCAL}")),
        };
    }
    let text = std::str::from_utf8(&file.content).map_err(|_| format!("{name} is not UTF-8"))?;
    let keys = text.lines().map(|line| line.split('=').next().unwrap_or("").trim());
    let mut keys = keys.map(|key| key.trim_matches(['"', '\'']));
    // A key with a variable hides what it is.
    let leads_elsewhere = |key: &str| {
        !key.starts_with("//")
            && (["config", "prefix", "workspace", "${"].iter().any(|part| key.contains(part)))
    };
    match keys.any(leads_elsewhere) {
        true => {
            Err(format!("{name} names other settings or places; write the settings themselves"))
        }
        false => Ok(()),
    }
}

/// Whether all packages of a lock file come from a registry or an address. The depth of JSON is bounded.
fn is_remote_lock(lock: &Value) -> bool {
    let is_place = |key: &str| {
        key.is_empty() || key.starts_with("node_modules/") && !key.split('/').any(|it| it == "..")
    };
    let fetched = |text: &str| ADDRESSES.iter().any(|start| text.starts_with(start));
    match lock {
        Value::Object(entries) => entries.iter().all(|(key, value)| match (key.as_str(), value) {
            ("resolved", Value::String(address)) => fetched(address),
            ("link", Value::Bool(is_link)) => !is_link,
            ("version", Value::String(version)) => is_remote(version),
            ("packages", Value::Object(places)) => {
                places.iter().all(|(place, value)| is_place(place) && is_remote_lock(value))
            }
            (_, value) => is_remote_lock(value),
        }),
        Value::Array(values) => values.iter().all(is_remote_lock),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> NeedsFile {
        NeedsFile { name: name.to_owned(), content: content.into() }
    }

    fn package(name: &str, version: &str) -> Package {
        Package { name: name.to_owned(), version: Some(version.to_owned()) }
    }

    fn names(manifest: &Manifest) -> Vec<&str> {
        manifest.files.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn npm_gets_the_packages_without_the_scripts_of_the_code() {
        let own = r#"{"name": "x", "scripts": {"postinstall": "node build.js"}, "dependencies": {"a": "^1"}}"#;
        let files =
            [file("package.json", own), file("package-lock.json", "{}"), file(".npmrc", "x=y")];
        let locked = manifest(&files, &[]).unwrap().unwrap();
        assert_eq!(names(&locked), ["package.json", "package-lock.json", ".npmrc"]);
        assert!(locked.is_locked);
        let text = String::from_utf8(locked.files[0].1.clone()).unwrap();
        assert!(text.contains("\"a\": \"^1\"") && !text.contains("postinstall"), "{text}");
        let more = manifest(&files, &[package("b", "==2.0.0")]).unwrap().unwrap();
        assert_eq!(names(&more), ["package.json", ".npmrc"]);
        assert!(!more.is_locked);
        let text = String::from_utf8(more.files[0].1.clone()).unwrap();
        assert!(text.contains("\"a\": \"^1\"") && text.contains("\"b\": \"2.0.0\""), "{text}");
    }

    #[test]
    fn nothing_is_installed_for_code_without_dependencies() {
        assert_eq!(manifest(&[], &[]), Ok(None));
        let own = r#"{"name": "x", "dependencies": {}, "devDependencies": {"a": "1"}}"#;
        assert_eq!(manifest(&[file("package.json", own)], &[]), Ok(None));
        // Settings alone are no needs.
        assert_eq!(manifest(&[file(".npmrc", "x=y")], &[]), Ok(None));
        let alone = manifest(&[], &[package("b", "1")]).unwrap().unwrap();
        assert_eq!(names(&alone), ["package.json"]);
    }

    #[test]
    fn what_comes_from_the_code_is_refused_by_name() {
        for (own, expected) in [
            (r#"{"dependencies": {"lib": "file:./lib"}}"#, "`lib` of package.json"),
            (r#"{"optionalDependencies": {"lib": "../lib"}}"#, "`lib` of package.json"),
            (r#"{"dependencies": {"lib": "~/lib"}}"#, "`lib` of package.json"),
            (r#"{"dependencies": {"lib": "."}}"#, "`lib` of package.json"),
            (r#"{"dependencies": {"lib": ".."}}"#, "`lib` of package.json"),
            (r#"{"dependencies": {"lib": "/srv/lib"}}"#, "`lib` of package.json"),
            (r#"{"dependencies": {"lib": "a/b/c"}}"#, "`lib` of package.json"),
            (r#"{"dependencies": {"lib": "lib.TGZ"}}"#, "`lib` of package.json"),
            (r#"{"dependencies": {"lib": "FILE:lib"}}"#, "`lib` of package.json"),
            (r#"{"dependencies": {"lib": "npm:file:../lib"}}"#, "`lib` of package.json"),
            (r#"{"peerDependencies": {"lib": "link:lib"}}"#, "`lib` of package.json"),
            (r#"{"dependencies": {"lib": 1}}"#, "`lib` of package.json"),
            (r#"{"overrides": {"a": {"lib": "file:/srv/lib"}}}"#, "`overrides` of package.json"),
            (r#"{"workspaces": ["a"]}"#, "`workspaces`"),
            (r#"{"dependencies": "#, "package.json: "),
            ("[]", "is no JSON object"),
        ] {
            let error = manifest(&[file("package.json", own)], &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn dependencies_of_registries_and_addresses_pass() {
        for spec in [
            "",
            "*",
            "1.2.3",
            "^4",
            "~1.2",
            ">=1 <2 || 3.x",
            "latest",
            "npm:other@^1",
            "npm:@a/b@1",
            "https://h/x.tgz",
            "git+ssh://git@h/x.git",
            "github:a/b",
            "a/b",
            "a/b#v1.0",
        ] {
            assert!(is_remote(spec), "{spec}");
        }
    }

    #[test]
    fn lock_files_and_settings_that_lead_to_files_are_refused() {
        let own = file("package.json", r#"{"dependencies": {"a": "^1"}}"#);
        let with = |name: &str, content: &str| manifest(&[own.clone(), file(name, content)], &[]);
        for lock in [
            r#"{"packages": {"node_modules/a": {"resolved": "file:../../a.tgz"}}}"#,
            r#"{"packages": {"node_modules/a": {"resolved": "lib", "link": true}}}"#,
            r#"{"packages": {"../a": {"version": "1.0.0"}}}"#,
            r#"{"dependencies": {"a": {"version": "file:a"}}}"#,
        ] {
            assert!(
                with("package-lock.json", lock).unwrap_err().contains("from the code itself"),
                "{lock}"
            );
        }
        let sound = r#"{"name": "x", "version": "1.0.0", "packages": {"": {"dependencies": {"a": "^1"}},
            "node_modules/a": {"version": "1.0.0", "resolved": "https://h/a.tgz", "integrity": "sha512-x"}}}"#;
        assert!(with("package-lock.json", sound).unwrap().unwrap().is_locked);
        for settings in ["userconfig=/w/x", "globalconfig = x", "prefix=/w", "${A}config=x"] {
            assert!(with(".npmrc", settings).unwrap_err().contains("other settings"), "{settings}");
        }
        assert!(
            with(
                ".npmrc",
                "registry=https://h/
//h/:_authToken=${TOKEN}
"
            )
            .is_ok()
        );
    }
}
