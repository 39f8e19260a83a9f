//! Programs in the form that the hosted system has them: a file or a git repository, the language
//! that runs it, and its arguments. Plain data; a fleet file is where it is checked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::archive::Archive;
use crate::model::expansion::{Reference, references};
use crate::model::package::Package;
use crate::model::variable::SecretName;

/// A program of the type CODE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    pub language: Language,
    /// The version of the language, if a certain one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub origin: Origin,
    /// The file that the interpreter runs, relative to the run's work directory. References in it
    /// expand.
    pub file_to_run: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<Argument>,
    /// Packages of the language that are installed before it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Package>,
    /// Debian packages that the machine must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system_packages: Vec<String>,
}

/// The languages that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Language {
    Bash,
    Python,
    Node,
}

/// Where the code comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A file that is written into the run's work directory whenever the vessel starts.
    File { name: String, content: String },
    /// An archive that is unpacked into the run's work directory whenever the vessel starts.
    Archive { name: String, archive: Archive },
    /// A repository that is fetched whenever the vessel starts.
    Git(GitSource),
}

/// A git repository, and what of it goes where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSource {
    /// `owner/repo` of GitHub, or a URL.
    pub repository: String,
    /// A branch, a tag or a whole commit id; `None`: the repository's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout_point: Option<String>,
    #[serde(default)]
    pub clone_location: CloneLocation,
}

/// The place of a repository within the run's work directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CloneLocation {
    /// A directory named like the repository.
    #[default]
    RepoName,
    /// The work directory itself.
    Cwd,
}

/// One argument, or two: a key and its value. References in them expand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Code {
    /// The words whose references expand: the file to run, and the arguments.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.file_to_run.as_str()).chain(self.argument_words())
    }

    /// The arguments, keys and values in their order.
    pub fn argument_words(&self) -> impl Iterator<Item = &str> {
        let given = self.arguments.iter().flat_map(|argument| [&argument.key, &argument.value]);
        given.flatten().map(String::as_str)
    }

    /// The secrets that its words refer to, each once.
    pub fn secrets(&self) -> BTreeSet<SecretName> {
        let references = self.words().flat_map(references);
        let secrets = references.filter_map(|reference| match reference {
            Reference::Secret(secret) => Some(secret),
            Reference::Variable(_) => None,
        });
        secrets.collect()
    }
}

impl Language {
    /// The word of fleet files.
    pub fn word(self) -> &'static str {
        match self {
            Language::Bash => "BASH",
            Language::Python => "PYTHON",
            Language::Node => "NODE",
        }
    }
}

impl Language {
    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Language::Bash => "Bash",
            Language::Python => "Python",
            Language::Node => "Node.js",
        }
    }
}

impl CloneLocation {
    /// The word of fleet files.
    pub fn word(self) -> &'static str {
        match self {
            CloneLocation::RepoName => "REPO_NAME",
            CloneLocation::Cwd => "CWD",
        }
    }
}

impl GitSource {
    /// The URL that git is given.
    pub fn url(&self) -> String {
        match self.repository.contains("://") {
            true => self.repository.clone(),
            false => format!("https://github.com/{}", self.repository),
        }
    }

    /// Where the repository goes, relative to the run's work directory; `None`: right into it.
    pub fn directory(&self) -> Option<&str> {
        match self.clone_location {
            CloneLocation::RepoName => Some(self.name()),
            CloneLocation::Cwd => None,
        }
    }

    /// The repository's name, as `git clone` derives it: the last part of its path, without
    /// `.git`. Empty when there is none.
    pub fn name(&self) -> &str {
        let path = match self.repository.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => &self.repository,
        };
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix("/.git").unwrap_or(path).trim_end_matches('/');
        let name = path.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".git").unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_a_url_and_a_name() {
        for (repository, url, name) in [
            ("owner/repo", "https://github.com/owner/repo", "repo"),
            ("https://example.com/a/b.git", "https://example.com/a/b.git", "b"),
            ("https://example.com/a/b/", "https://example.com/a/b/", "b"),
            ("ssh://git@example.com:22/b.git", "ssh://git@example.com:22/b.git", "b"),
            ("file:///srv/b/.git", "file:///srv/b/.git", "b"),
            ("file:///", "file:///", ""),
        ] {
            let mut source = GitSource {
                repository: repository.to_owned(),
                checkout_point: None,
                clone_location: CloneLocation::RepoName,
            };
            assert_eq!((source.url().as_str(), source.directory()), (url, Some(name)));
            source.clone_location = CloneLocation::Cwd;
            assert_eq!(source.directory(), None);
        }
    }
}
