//! Packages that code needs: of its language, or of this machine's distribution. Names and versions are of
//! forms that no package manager takes for an option, a path or an address.

use serde::{Deserialize, Serialize};

use crate::model::source::Language;

/// Packages of a vessel: more than a program of one's own names itself.
pub const PACKAGES_MAX: usize = 200;
/// Bytes of a name or a version: npm's bound of names.
const TEXT_BYTES_MAX: usize = 214;
/// What a version specifier of Python begins with (PEP 440), the longest first.
const SPECIFIERS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];

/// A package of PyPI or of npm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    /// As the fleet file has it; `None`: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Package {
    /// The package as people and the package manager of `language` write it: `requests==2.0`,
    /// `lodash@^4`.
    pub fn requirement(&self, language: Language) -> String {
        match (&self.version, language) {
            (None, _) => self.name.clone(),
            (Some(_), Language::Node) => format!("{}@{}", self.name, self.range()),
            // A bare version is that version.
            (Some(version), _) if version.starts_with(|it: char| it.is_ascii_digit()) => {
                format!("{}=={version}", self.name)
            }
            (Some(version), _) => format!("{}{version}", self.name),
        }
    }

    /// The version for npm.
    pub fn range(&self) -> &str {
        match self.version.as_deref() {
            None => "*",
            // The form of Python, which files of the hosted system use for both.
            Some(version) => version.strip_prefix("==").map_or(version, str::trim_start),
        }
    }

    /// What is wrong with the name, for a package of `language`.
    pub fn fault_of_name(&self, language: Language) -> Option<&'static str> {
        let is_name = match language {
            Language::Node => is_npm_name(&self.name),
            Language::Python | Language::Bash => is_python_name(&self.name),
        };
        let expected = match language {
            Language::Node => {
                "expected the name of a package of npm, such as lodash or @scope/name"
            }
            _ => "expected the name of a package of PyPI, such as requests or requests[socks]",
        };
        (!is_name || self.name.len() > TEXT_BYTES_MAX).then_some(expected)
    }

    /// What is wrong with the version, for a package of `language`.
    pub fn fault_of_version(&self, language: Language) -> Option<&'static str> {
        let version = self.version.as_deref()?;
        let is_version = match language {
            Language::Node => is_npm_range(self.range()),
            Language::Python | Language::Bash => is_python_version(version),
        };
        let expected = match language {
            Language::Node => "expected a version of npm, such as 4.17.21 or ^4",
            _ => "expected a version of Python's form, such as ==2.0 or \">=2,<3\"",
        };
        (!is_version || version.len() > TEXT_BYTES_MAX).then_some(expected)
    }
}

/// Whether a Debian package may have this `name`, with or without its architecture (Debian Policy 5.6.7).
pub fn is_debian_name(name: &str) -> bool {
    let (base, architecture) = name.split_once(':').unwrap_or((name, "any"));
    let is_word = |text: &str, more: &str| {
        text.len() > 1
            && text.starts_with(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit())
            && text
                .chars()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || more.contains(it))
    };
    name.len() <= TEXT_BYTES_MAX && is_word(base, "+-.") && is_word(architecture, "-")
}

/// PEP 508, with extras.
fn is_python_name(name: &str) -> bool {
    let (name, extras) = match name.split_once('[') {
        None => (name, None),
        Some((name, rest)) => (name, Some(rest.strip_suffix(']').unwrap_or("["))),
    };
    let is_word = |word: &str| {
        word.starts_with(|it: char| it.is_ascii_alphanumeric())
            && word.ends_with(|it: char| it.is_ascii_alphanumeric())
            && word.chars().all(|it| it.is_ascii_alphanumeric() || "._-".contains(it))
    };
    is_word(name) && extras.is_none_or(|extras| extras.split(',').map(str::trim).all(is_word))
}

fn is_python_version(version: &str) -> bool {
    version.split(',').map(str::trim).all(|part| {
        let mut specifiers = SPECIFIERS.iter();
        let number = match specifiers.find_map(|specifier| part.strip_prefix(specifier)) {
            Some(number) => number.trim_start(),
            None if !version.contains(',') => part,
            None => "",
        };
        number.starts_with(|it: char| it.is_ascii_alphanumeric())
            && number.chars().all(|it| it.is_ascii_alphanumeric() || ".*+!_-".contains(it))
    })
}

fn is_npm_name(name: &str) -> bool {
    let (scope, name) = match name.strip_prefix('@') {
        None => (None, name),
        Some(scoped) => match scoped.split_once('/') {
            Some((scope, name)) => (Some(scope), name),
            None => return false,
        },
    };
    let is_word = |word: &str| {
        word.starts_with(|it: char| it.is_ascii_alphanumeric())
            && word.chars().all(|it| it.is_ascii_alphanumeric() || "._~-".contains(it))
    };
    is_word(name) && scope.is_none_or(is_word)
}

/// A range or a tag. No address and no path: these have a `:` or a `/`.
fn is_npm_range(range: &str) -> bool {
    range.starts_with(|it: char| it.is_ascii_alphanumeric() || "^~<>=*".contains(it))
        && range.chars().all(|it| it.is_ascii_alphanumeric() || ".^~<>=|*+- ".contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        let version = (!version.is_empty()).then(|| version.to_owned());
        Package { name: name.to_owned(), version }
    }

    #[test]
    fn packages_are_written_as_their_managers_read_them() {
        use Language::{Node, Python};
        for (name, version, language, expected) in [
            ("requests", "", Python, "requests"),
            ("requests", "==2.0", Python, "requests==2.0"),
            ("requests", "2.0", Python, "requests==2.0"),
            ("requests[socks]", ">=2, <3", Python, "requests[socks]>=2, <3"),
            ("lodash", "", Node, "lodash"),
            ("lodash", "^4.1", Node, "lodash@^4.1"),
            ("@a/b", "==1.2.3", Node, "@a/b@1.2.3"),
        ] {
            let package = package(name, version);
            assert_eq!(package.requirement(language), expected);
            assert_eq!(package.fault_of_name(language), None, "{name}");
            assert_eq!(package.fault_of_version(language), None, "{version}");
        }
    }

    #[test]
    fn options_paths_and_addresses_are_no_packages() {
        for name in
            ["", "-r", "--index-url", "./x", "/x", "a b", "x.", "git+https://h/x", "a;b", "a["]
        {
            for language in [Language::Python, Language::Node] {
                let is_dotted = name == "x." && language == Language::Node;
                let fault = package(name, "").fault_of_name(language);
                assert_eq!(fault.is_some(), !is_dotted, "{name} {language:?}");
            }
        }
        for version in
            [" ", "-x", "==", "1; import os", "file:../x", "https://h/x.tgz", "1,2", "a/b"]
        {
            let fault = |language| package("x", version).fault_of_version(language);
            assert!(fault(Language::Python).is_some(), "{version}");
            assert!(fault(Language::Node).is_some(), "{version}");
        }
    }

    #[test]
    fn debian_packages_have_their_own_names() {
        for (name, expected) in [
            ("jq", true),
            ("libstdc++6", true),
            ("libc6:amd64", true),
            ("g", false),
            ("JQ", false),
            ("-o", false),
            ("a b", false),
            ("", false),
        ] {
            assert_eq!(is_debian_name(name), expected, "{name}");
        }
    }
}
