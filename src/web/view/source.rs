//! A vessel's `source`, with the keys that it has in a fleet file.

use serde::Serialize;

use crate::model::archive::Archive;
use crate::model::package::Package;
use crate::model::source::{Argument, Code, GitSource, Language, Origin};

#[derive(Serialize)]
pub(super) struct SourceJson<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    language: Language,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<&'a GitSource>,
    file_to_run: &'a str,
    arguments: &'a [Argument],
    #[serde(skip_serializing_if = "<[Package]>::is_empty")]
    packages: &'a [Package],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system_packages: Vec<SystemPackageJson<'a>>,
}

#[derive(Serialize)]
struct SystemPackageJson<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct FileJson<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<&'a Archive>,
}

impl<'a> From<&'a Code> for SourceJson<'a> {
    fn from(code: &'a Code) -> Self {
        let (file, git) = match &code.origin {
            Origin::File { name, content } => {
                (Some(FileJson { name, content: Some(content), archive: None }), None)
            }
            Origin::Archive { name, archive } => {
                (Some(FileJson { name, content: None, archive: Some(archive) }), None)
            }
            Origin::Git(git) => (None, Some(git)),
        };
        Self {
            kind: "CODE",
            language: code.language,
            version: code.version.as_deref(),
            file,
            git,
            file_to_run: &code.file_to_run,
            arguments: &code.arguments,
            packages: &code.packages,
            system_packages: code
                .system_packages
                .iter()
                .map(|name| SystemPackageJson { name })
                .collect(),
        }
    }
}
