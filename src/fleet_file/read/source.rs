//! A vessel's `source`: its program in the form of the hosted system. Unsupported parts of that form are
//! refused by name, with the alternative.

use std::io;

use super::packages;
use super::vessel::{PATH_BYTES_MAX, check_argument};
use crate::config::HttpUrl;
use crate::fleet_file::cursor::{Cursor, Fields};
use crate::fleet_file::{FleetFileError, keys};
use crate::model::archive::{Archive, ArchiveKind, ArchivedFile};
use crate::model::fleet::Program;
use crate::model::source::{Argument, CloneLocation, Code, GitSource, Language, Origin};

/// Bytes of a file's name (NAME_MAX of Linux), less what the name of its temporary copy adds.
const FILE_NAME_BYTES_MAX: usize = 150;
/// Bytes of a git repository's URL or of the name of a branch: more than any host has.
const GIT_NAME_BYTES_MAX: usize = 1_000;

const SOURCE_KEYS: &[&str] = &[
    "type",
    "language",
    "version",
    "file",
    "file_to_run",
    "git",
    "arguments",
    "environment",
    "packages",
    "system_packages",
    "blueprint",
    "inputs",
];

/// The program that `cursor` describes, and where its `environment` stands.
pub fn source<'a>(cursor: &Cursor<'a>) -> Result<(Program, Option<Cursor<'a>>), FleetFileError> {
    let fields = cursor.fields(SOURCE_KEYS)?;
    check_type(cursor, &fields)?;
    let language = language(cursor, &fields)?;
    let version = match fields.get("version") {
        Some(version) if !version.is_null() => Some(self::version(version, language)?),
        _ => None,
    };
    let origin = origin(cursor, &fields)?;
    let file_to_run = match (fields.get("file_to_run"), &origin) {
        (Some(file), _) => relative_path(file)?,
        (None, Origin::File { name, .. }) => name.clone(),
        (None, Origin::Archive { .. }) => {
            let message = "missing; name the file of the archive that is to be run";
            return Err(cursor.missing("file_to_run", message));
        }
        (None, Origin::Git(_)) => {
            let message = "missing; name the file of the repository that is to be run, with the \
                           directory that the repository is cloned into";
            return Err(cursor.missing("file_to_run", message));
        }
    };
    let arguments = match fields.get("arguments") {
        Some(arguments) => self::arguments(arguments)?,
        None => Vec::new(),
    };
    let packages = match fields.get("packages") {
        Some(packages) => packages::packages(packages, language)?,
        None => Vec::new(),
    };
    let system_packages = match fields.get("system_packages") {
        Some(packages) => packages::system_packages(packages)?,
        None => Vec::new(),
    };
    let code =
        Code { language, version, origin, file_to_run, arguments, packages, system_packages };
    Ok((Program::Code(Box::new(code)), fields.get("environment").cloned()))
}

fn check_type(source: &Cursor<'_>, fields: &Fields<'_>) -> Result<(), FleetFileError> {
    let kind = fields.get("type").ok_or_else(|| source.missing("type", "missing; write CODE"))?;
    match kind.text()? {
        "CODE" => {}
        "BLUEPRINT" => {
            return Err(kind.invalid(
                "blueprints are programs of the hosted system, which this server does not have; \
                 write CODE with a program of your own, or `command` or `run` instead of `source`",
            ));
        }
        _ => return Err(kind.invalid("expected CODE")),
    }
    for key in ["blueprint", "inputs"] {
        if let Some(value) = fields.get(key) {
            return Err(value.invalid_key("belongs to a BLUEPRINT, which is not supported"));
        }
    }
    Ok(())
}

fn language(source: &Cursor<'_>, fields: &Fields<'_>) -> Result<Language, FleetFileError> {
    const KNOWN: [Language; 3] = [Language::Bash, Language::Python, Language::Node];
    match fields.get("language") {
        Some(cursor) => keys::word(cursor, &KNOWN.map(|language| (language.word(), language))),
        None => {
            let message =
                format!("missing; {}", keys::expected_word("", &KNOWN.map(Language::word)));
            Err(source.missing("language", &message))
        }
    }
}

/// Python has a program per version (`python3.9`). For the others `PATH` leads to one version, and `fleet
/// apply` warns that it may be another one.
fn version(cursor: &Cursor<'_>, language: Language) -> Result<String, FleetFileError> {
    let version = cursor.text()?;
    let number =
        |part: &str| matches!(part.len(), 1..=3) && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = version.split('.').count();
    let parts_max = if language == Language::Python { 2 } else { 3 };
    if parts > parts_max || !version.split('.').all(number) {
        return Err(cursor.invalid(match language {
            Language::Python => "expected a version of Python such as \"3.9\" or \"3\"",
            Language::Bash | Language::Node => "expected a version such as \"18\" or \"5.2\"",
        }));
    }
    Ok(version.to_owned())
}

fn origin(source: &Cursor<'_>, fields: &Fields<'_>) -> Result<Origin, FleetFileError> {
    match (fields.get("file"), fields.get("git")) {
        (Some(file), None) => {
            let inner = file.fields(&["name", "content", "archive"])?;
            let name = inner.get("name").ok_or_else(|| file.missing("name", "missing"))?;
            match (inner.get("content"), inner.get("archive")) {
                (Some(content), None) => {
                    Ok(Origin::File { name: file_name(name)?, content: file_content(content)? })
                }
                (None, Some(archive)) => self::archive(name, archive),
                (Some(_), Some(archive)) => {
                    Err(archive.invalid_key("a file has either `content` or `archive`"))
                }
                (None, None) if ArchiveKind::of(name.text()?).is_some() => Err(file.missing(
                    "archive",
                    "missing; `boathook fleet apply` sends the archive of this name that lies beside \
                     the fleet file",
                )),
                (None, None) => Err(file.missing("content", "missing")),
            }
        }
        (None, Some(git)) => Ok(Origin::Git(self::git(git)?)),
        (Some(_), Some(git)) => {
            Err(git.invalid_key("a source has either `file` or `git`; remove one of them"))
        }
        (None, None) => {
            Err(source.invalid_key("no code; add `file` (a name and its content) or `git`"))
        }
    }
}

/// An archive, looked through: no start should find out that it cannot be unpacked.
fn archive(name: &Cursor<'_>, archive: &Cursor<'_>) -> Result<Origin, FleetFileError> {
    let named = file_name(name)?;
    let kind = ArchiveKind::of(&named).ok_or_else(|| {
        name.invalid("no name of an archive; it ends in .zip, .tar.gz, .tgz or .tar")
    })?;
    let read = Archive::from_base64(archive.text()?);
    let read = read.ok_or_else(|| archive.invalid("expected the archive in base64"))?;
    let mut look = |file: ArchivedFile<'_>| io::copy(file.content, &mut io::sink()).map(drop);
    read.unpack(kind, &mut look)
        .map_err(|error| archive.invalid(format!("the archive {named} {error}")))?;
    Ok(Origin::Archive { name: named, archive: read })
}

fn file_name(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let name = cursor.text()?;
    if name.contains('/') {
        let message =
            "expected a file name without directories: it is put into the run's directory";
        return Err(cursor.invalid(message));
    }
    if name.len() > FILE_NAME_BYTES_MAX {
        let message = format!("longer than {FILE_NAME_BYTES_MAX} bytes; shorten it");
        return Err(cursor.invalid(message));
    }
    relative_path(cursor)
}

fn file_content(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let content = cursor.text()?;
    if content.contains('\0') {
        return Err(cursor.invalid("contains a NUL, which no program's text can; remove it"));
    }
    Ok(content.to_owned())
}

/// A path that stays below the directory it starts from, and that no interpreter takes for an
/// option.
fn relative_path(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let path = cursor.text()?;
    let message = if path.starts_with('/') {
        "expected a path relative to the run's directory; remove the leading `/`"
    } else if path.starts_with('-') {
        "begins with `-` and would be taken for an option; rename it"
    } else if path.split('/').any(|part| part == "..") {
        "`..` leads out of the run's directory; write the path without"
    } else if path.split('/').any(|part| matches!(part, "" | ".")) {
        "expected the path of a file, such as script.sh or repo/script.sh"
    } else if path.chars().any(char::is_control) {
        "contains a control character; rename it"
    } else if path.len() > PATH_BYTES_MAX {
        "longer than Linux allows a path to be; shorten it"
    } else {
        return Ok(path.to_owned());
    };
    Err(cursor.invalid(message))
}

fn arguments(cursor: &Cursor<'_>) -> Result<Vec<Argument>, FleetFileError> {
    if cursor.is_null() {
        return Ok(Vec::new());
    }
    let mut arguments = Vec::new();
    for item in cursor.sequence()? {
        arguments.push(argument(&item)?);
    }
    Ok(arguments)
}

/// An argument: `{key: --a, value: b}`, `{name: --a, value: b}`, or `--a: b`.
fn argument(item: &Cursor<'_>) -> Result<Argument, FleetFileError> {
    const KEYS: [&str; 3] = ["key", "name", "value"];
    let text = |cursor: Option<&Cursor<'_>>| {
        let Some(cursor) = cursor.filter(|cursor| !cursor.is_null()) else { return Ok(None) };
        let text = cursor.text()?;
        check_argument(text).map_err(|message| cursor.invalid(message))?;
        Ok(Some(text.to_owned()))
    };
    if let [(key, value)] = item.mapping()?.as_slice()
        && key.starts_with('-')
    {
        check_argument(key).map_err(|message| value.invalid_key(message))?;
        return Ok(Argument { key: Some((*key).to_owned()), value: text(Some(value))? });
    }
    let fields = item.fields(&KEYS)?;
    if let (Some(_), Some(name)) = (fields.get("key"), fields.get("name")) {
        return Err(name.invalid_key("means the same as `key`; remove one of them"));
    }
    let key = text(fields.get("key").or(fields.get("name")))?;
    let argument = Argument { key, value: text(fields.get("value"))? };
    if argument == (Argument { key: None, value: None }) {
        return Err(item.invalid("expected a `key`, a `value` or both, as in {key: --all}"));
    }
    Ok(argument)
}

fn git(cursor: &Cursor<'_>) -> Result<GitSource, FleetFileError> {
    let fields = cursor.fields(&["repository", "checkout_point", "clone_location"])?;
    let written = fields.get("repository").ok_or_else(|| {
        cursor.missing("repository", "missing; write owner/repo, or a URL of https, ssh or file")
    })?;
    let checkout_point = match fields.get("checkout_point") {
        Some(point) if !point.is_null() => Some(checkout_point(point)?),
        _ => None,
    };
    let clone_location = match fields.get("clone_location") {
        Some(location) if !location.is_null() => clone_location(location)?,
        _ => CloneLocation::default(),
    };
    let git = GitSource { repository: repository(written)?, checkout_point, clone_location };
    // A checkout called `.git` would become the repository of git commands beside it.
    if matches!(git.name(), "" | "." | ".." | ".git") || git.name().starts_with('-') {
        return Err(written.invalid("the URL does not end in a repository's name; complete it"));
    }
    Ok(git)
}

fn repository(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    const EXPECTED: &str = "expected owner/repo for a repository of GitHub, or a URL such as \
                            https://example.com/repo.git, ssh://git@example.com/repo.git or \
                            file:///srv/repo.git";
    let written = cursor.text()?;
    if written.len() > GIT_NAME_BYTES_MAX {
        return Err(cursor.invalid(format!("longer than {GIT_NAME_BYTES_MAX} bytes; shorten it")));
    }
    if written.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Err(cursor.invalid(EXPECTED));
    }
    let Some((scheme, rest)) = written.split_once("://") else {
        let word = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let parts: Vec<_> = written.split('/').collect();
        let is_github = matches!(parts.as_slice(), [owner, repo] if word(owner) && word(repo));
        return if is_github { Ok(written.to_owned()) } else { Err(cursor.invalid(EXPECTED)) };
    };
    let (authority, _) = rest.split_once('/').ok_or_else(|| cursor.invalid(EXPECTED))?;
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let is_host = format!("https://{host}").parse::<HttpUrl>().is_ok();
    match scheme {
        "https" if !user.is_empty() => Err(cursor.invalid(
            "a user or password in a URL would be stored and shown; remove it, and give git what it \
             needs through variables (GIT_CONFIG_COUNT and the like) whose values are secrets",
        )),
        "ssh" if user.contains(':') => Err(cursor.invalid(
            "a password in a URL would be stored and shown; remove it and let ssh use a key",
        )),
        "https" | "ssh" if is_host && !user.starts_with('-') => Ok(written.to_owned()),
        "file" if authority.is_empty() => Ok(written.to_owned()),
        "http" | "git" => {
            Err(cursor.invalid("expected https, ssh or file: this protocol proves nothing"))
        }
        _ => Err(cursor.invalid(EXPECTED)),
    }
}

/// A name that git takes for a branch or tag (git-check-ref-format(1)), or a commit id. No option, pattern
/// or pair of names passes.
fn checkout_point(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let point = cursor.text()?;
    if point.starts_with('-') {
        return Err(cursor.invalid("begins with `-` and would be taken for an option"));
    }
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with(".lock")
            && part.bytes().all(|byte| byte > b' ' && byte != 0x7f && !b"~^:?*[\\+".contains(&byte))
    };
    let is_name = point.len() <= GIT_NAME_BYTES_MAX
        && point.split('/').all(part)
        && !point.contains("..")
        && !point.contains("@{")
        && !point.ends_with('.')
        && point != "@";
    if !is_name {
        return Err(cursor.invalid("expected a branch, a tag or a whole commit id"));
    }
    Ok(point.to_owned())
}

fn clone_location(cursor: &Cursor<'_>) -> Result<CloneLocation, FleetFileError> {
    const KNOWN: [CloneLocation; 2] = [CloneLocation::RepoName, CloneLocation::Cwd];
    keys::word(cursor, &KNOWN.map(|location| (location.word(), location)))
}
