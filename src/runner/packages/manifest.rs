//! The `package.json` that npm gets: the code's own, with the packages of the fleet and without what
//! concerns the code alone.

use serde_json::{Map, Value};

use super::plan::{NODE_FILES, NeedsFile};
use crate::model::package::Package;

/// The keys of dependencies that are installed.
const INSTALLED: [&str; 2] = ["dependencies", "optionalDependencies"];
/// Where a dependency of this beginning comes from the code itself.
const LOCAL: [&str; 6] = ["file:", "link:", "workspace:", "./", "../", "/"];
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
    if let Some(local) = INSTALLED.iter().find_map(|key| local_dependency(root.get(*key)?)) {
        return Err(format!(
            "`{local}` of {name} comes from the code itself, which an environment that runs share \
             cannot have; name a package of the registry, or require the file by its path"
        ));
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
    let is_locked = others.iter().any(|file| file.name != ".npmrc");
    let others = others.into_iter().map(|file| (file.name.clone(), file.content.clone()));
    let files = std::iter::once((name.to_owned(), content)).chain(others).collect();
    Ok(Some(Manifest { files, is_locked }))
}

/// The name of the first dependency that comes from the code itself.
fn local_dependency(dependencies: &Value) -> Option<&str> {
    let mut entries = dependencies.as_object()?.iter();
    let is_local = |range: &Value| {
        range.as_str().is_some_and(|range| LOCAL.iter().any(|start| range.starts_with(start)))
    };
    entries.find(|(_, range)| is_local(range)).map(|(name, _)| name.as_str())
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
            (r#"{"workspaces": ["a"]}"#, "`workspaces`"),
            (r#"{"dependencies": "#, "package.json: "),
            ("[]", "is no JSON object"),
        ] {
            let error = manifest(&[file("package.json", own)], &[]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
