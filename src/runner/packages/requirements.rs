//! Reads the requirements files of pip (pip's "Requirements File Format"), strictly: a line that is not known
//! here is refused. Nothing is installed from the code itself, and pip gets only what was read here.
//!
//! No error shows a line, for the file is one that a repository has chosen.

use super::plan::NeedsFile;
use crate::model::package::Package;
use crate::model::source::Language;

/// Lines of one file: more than the longest list of pinned packages with their hashes has.
const LINES_MAX: usize = 50_000;
/// What addresses of packages begin with.
const ADDRESSES: [&str; 5] = ["https://", "http://", "git+https://", "git+http://", "git+ssh://"];
/// Ends of names that pip takes for files in its working directory.
const ARCHIVES: [&str; 12] = [
    ".whl",
    ".zip",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tbz",
    ".tar.xz",
    ".txz",
    ".tar.lz",
    ".tlz",
    ".tar.lzma",
];
const LOCAL: &str = "installs from the code itself, which an environment that runs share cannot; name what \
                     it needs, and set PYTHONPATH for the code";
const UNKNOWN: &str = "is no requirement or option that can be installed here; write it as `name==version`, \
                       `name @ https://...`, or one option with one value";
const LEADS_OUT: &str = "leads out of the code; name a file beside it";
const FAR: &str = "names a file elsewhere, whose content is not known here; put it into the code";

/// A line of a requirements file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A package.
    Requirement(String),
    /// An option for the whole installation.
    Option(String),
    /// Another file, relative to the root of the code.
    Include { path: String, is_constraint: bool },
}

/// What follows an option.
#[derive(Clone, Copy)]
enum Value {
    None,
    Word,
    /// The address of an index or a page.
    Address,
    File {
        is_constraint: bool,
    },
}

/// The options that are passed on, with their short forms.
const OPTIONS: [(&str, &str, Value); 12] = [
    ("-r", "--requirement", Value::File { is_constraint: false }),
    ("-c", "--constraint", Value::File { is_constraint: true }),
    ("-i", "--index-url", Value::Address),
    ("", "--extra-index-url", Value::Address),
    ("-f", "--find-links", Value::Address),
    ("", "--trusted-host", Value::Word),
    ("", "--no-binary", Value::Word),
    ("", "--only-binary", Value::Word),
    ("", "--pre", Value::None),
    ("", "--no-index", Value::None),
    ("", "--prefer-binary", Value::None),
    ("", "--require-hashes", Value::None),
];

/// Reads `file`.
///
/// # Errors
/// The first line that cannot be installed into an environment that several runs share.
pub fn requirements(file: &NeedsFile) -> Result<Vec<Line>, String> {
    let text = text_of(&file.content).map_err(|why| format!("{}: {why}", file.name))?;
    let mut lines = Vec::new();
    for (number, line) in joined(text) {
        let line = without_comment(&line);
        if line.is_empty() {
            continue;
        }
        let read = if line.starts_with('-') { option(&line, &file.name) } else { package(&line) };
        let read = read.map_err(|why| format!("line {number} of {}: {why}", file.name))?;
        lines.push(read);
    }
    Ok(lines)
}

/// The text of a file, without what pip and this program could take for different lines.
fn text_of(content: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(content).map_err(|_| "is not UTF-8; save it as that")?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.lines().count() > LINES_MAX {
        return Err(format!("has more than {LINES_MAX} lines"));
    }
    let is_plain = |letter: char| {
        matches!(letter, '\n' | '\t')
            || !letter.is_control() && !matches!(letter, '\u{2028}' | '\u{2029}')
    };
    match text.lines().all(|line| line.chars().all(is_plain)) {
        true => Ok(text),
        false => Err("has control characters; remove them".to_owned()),
    }
}

/// The lines with their numbers. A backslash at the end of a line joins it with the next one, but for
/// comments.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, mut whole) = begun.take().unwrap_or((index + 1, String::new()));
        let is_comment = line.trim_start().starts_with('#');
        if is_comment {
            whole.push(' ');
        }
        match line.strip_suffix('\\').filter(|_| !is_comment) {
            Some(part) => {
                whole.push_str(part);
                begun = Some((number, whole));
            }
            None => {
                whole.push_str(line);
                lines.push((number, whole));
            }
        }
    }
    lines.extend(begun);
    lines
}

/// The words of a line, one space between them. A comment begins the line, or stands after white space.
fn without_comment(line: &str) -> String {
    let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
    words.collect::<Vec<_>>().join(" ")
}

fn option(line: &str, file: &str) -> Result<Line, String> {
    let (name, value) = match line.strip_prefix("--") {
        Some(_) => line.split_once(['=', ' ']).unwrap_or((line, "")),
        None => line.split_at_checked(2).unwrap_or((line, "")),
    };
    let value = value.trim();
    if name == "-e" || name.starts_with("--e") && "--editable".starts_with(name) {
        return Err(LOCAL.to_owned());
    }
    let mut options = OPTIONS.iter();
    let known =
        options.find(|(short, long, _)| name == *long || !short.is_empty() && name == *short);
    let (_, long, expected) = known.ok_or(UNKNOWN)?;
    let is_plain = !value.is_empty() && !value.starts_with('-') && is_plain(value);
    match expected {
        Value::None if value.is_empty() => Ok(Line::Option((*long).to_owned())),
        Value::Word if is_plain && !value.contains(['$', '/']) => {
            Ok(Line::Option(format!("{long}={value}")))
        }
        Value::Address if is_address(value, &ADDRESSES[..2]) => {
            Ok(Line::Option(format!("{long}={value}")))
        }
        Value::Address => Err(format!("{long} takes an address: https://...")),
        Value::File { .. } if value.contains(':') => Err(FAR.to_owned()),
        Value::File { is_constraint } if is_plain && !value.contains('$') => {
            let path = beside(file, value).ok_or(LEADS_OUT)?;
            Ok(Line::Include { path, is_constraint: *is_constraint })
        }
        _ => Err(UNKNOWN.to_owned()),
    }
}

/// A requirement (PEP 508), with its hashes.
fn package(line: &str) -> Result<Line, String> {
    let (requirement, hashes) =
        line.split_once(" --").map_or((line, None), |(it, more)| (it, Some(more)));
    let is_hash = |word: &str| {
        let digest = ["sha256:", "sha384:", "sha512:"].iter().find_map(|it| word.strip_prefix(it));
        digest.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let hashes_are_plain = hashes.is_none_or(|hashes| {
        hashes.split(" --").all(|it| it.strip_prefix("hash=").is_some_and(is_hash))
    });
    let (what, marker) = requirement.split_once(';').unwrap_or((requirement, ""));
    let what = what.trim();
    if is_requirement(what) && is_marker(marker) && hashes_are_plain {
        return Ok(Line::Requirement(line.to_owned()));
    }
    Err(if is_local(what) { LOCAL } else { UNKNOWN }.to_owned())
}

/// Whether `text` names a package by name and version, or by its address.
fn is_requirement(text: &str) -> bool {
    let named = |name: &str, version: &str| {
        let version = version.trim();
        let version =
            version.strip_prefix('(').and_then(|it| it.strip_suffix(')')).unwrap_or(version);
        let version = (!version.is_empty()).then(|| version.trim().to_owned());
        let package = Package { name: name.replace(' ', ""), version };
        package.fault_of_name(Language::Python).is_none()
            && package.fault_of_version(Language::Python).is_none()
    };
    if is_address(text, &ADDRESSES) {
        return true;
    }
    if let Some((name, address)) = text.split_once('@') {
        return named(name, "") && is_address(address.trim(), &ADDRESSES);
    }
    let end = match text.find(']') {
        Some(end) => end + 1,
        None => text.find(['<', '>', '=', '!', '~', '(', ' ']).unwrap_or(text.len()),
    };
    let (name, version) = text.split_at_checked(end).unwrap_or((text, ""));
    named(name, version) && !is_archive(text)
}

/// Whether pip would look for a file called `text`.
fn is_archive(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let name = text.split('[').next().unwrap_or(&text).trim();
    ARCHIVES.iter().any(|end| name.ends_with(end) || text.ends_with(end))
}

/// Whether an author who wrote `text` meant a place in the code.
fn is_local(text: &str) -> bool {
    let place = text.split_once('@').map_or(text, |(_, place)| place.trim());
    let is_place = |text: &str| {
        text.starts_with(['.', '/', '~']) || text.to_ascii_lowercase().starts_with("file:")
    };
    is_place(text)
        || is_place(place)
        || !text.contains("://") && (text.contains('/') || is_archive(text))
}

fn is_address(text: &str, schemes: &[&str]) -> bool {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(|rest| !rest.is_empty() && is_plain(rest) && !rest.contains(';'))
}

/// One word that no reader of options takes apart.
fn is_plain(text: &str) -> bool {
    !text.contains(|it: char| it.is_whitespace() || matches!(it, '"' | '\'' | '\\' | '`'))
}

/// A condition on the machine.
fn is_marker(text: &str) -> bool {
    let is_known = |it: char| it.is_ascii_alphanumeric() || " '\"._-<>=!()~,+*".contains(it);
    text.chars().all(is_known) && !text.split(' ').any(|word| word.starts_with('-'))
}

/// The path of `included`, which the file `including` names; `None` when it leads elsewhere.
fn beside(including: &str, included: &str) -> Option<String> {
    if included.starts_with(['/', '~']) {
        return None;
    }
    let above = including.rsplit_once('/').map_or("", |(above, _)| above);
    let mut parts: Vec<&str> = above.split('/').filter(|part| !part.is_empty()).collect();
    for part in included.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str) -> Result<Vec<Line>, String> {
        requirements(&NeedsFile { name: name.to_owned(), content: content.into() })
    }

    fn include(path: &str, is_constraint: bool) -> Line {
        Line::Include { path: path.to_owned(), is_constraint }
    }

    #[test]
    fn packages_options_and_included_files_are_found() {
        let text = "\u{feff}# comment \\\n\nrequests==2.0 # pinned\r\nnumpy \\\n  >=1\n-r base.txt\n\
                    --constraint=c/pins.txt\ngit+https://example.com/x.git#egg=x\n\
                    x[a, b] @ https://u:${TOKEN}@example.com/x.whl ; python_version < \"3.9\"\n\
                    y==1.0 --hash=sha256:00 --hash=sha256:ff\n-i https://h/simple\n--pre\n\
                    z (>=1,<2); sys_platform == 'linux'\n--no-binary :all:\n";
        let shown: Vec<String> = read("requirements.txt", text)
            .unwrap()
            .into_iter()
            .map(|line| match line {
                Line::Requirement(text) | Line::Option(text) => text,
                Line::Include { path, is_constraint } => format!("{path} {is_constraint}"),
            })
            .collect();
        let expected = [
            "requests==2.0",
            "numpy >=1",
            "base.txt false",
            "c/pins.txt true",
            "git+https://example.com/x.git#egg=x",
            "x[a, b] @ https://u:${TOKEN}@example.com/x.whl ; python_version < \"3.9\"",
            "y==1.0 --hash=sha256:00 --hash=sha256:ff",
            "--index-url=https://h/simple",
            "--pre",
            "z (>=1,<2); sys_platform == 'linux'",
            "--no-binary=:all:",
        ];
        assert_eq!(shown, expected);
        let found = read("sub/requirements.txt", "-r../base.txt\n-c ./pins.txt\n");
        assert_eq!(found, Ok(vec![include("base.txt", false), include("sub/pins.txt", true)]));
    }

    #[test]
    fn the_code_itself_is_not_installed_in_any_spelling() {
        for line in [
            "-e .",
            "-e.",
            "-e \".\"",
            "-e ${D}",
            "-e git+https://h/y.git#egg=y",
            "--editable=./lib",
            "--edit .",
            ".",
            ".[dev]",
            "./lib",
            "../lib",
            "~/lib",
            "/srv/lib",
            "file:///srv/lib",
            "FILE:///srv/lib",
            "lib @ file:///srv/lib",
            "wheels/x-1-py3-none-any.whl",
            "x-1-py3-none-any.whl",
            "x-1.zip",
            "x.tar",
            "x.tar.gz[extra]",
            "x.tgz ; python_version > '3'",
            "x.tar.bz2",
            "x.tbz",
            "x.tar.xz",
            "x.txz",
            "x.tar.lz",
            "x.tlz",
            "X.TAR.LZMA",
            "lib/sub",
        ] {
            let error = read("requirements.txt", &format!("requests\n{line}\n")).unwrap_err();
            assert!(
                error.starts_with("line 2 of requirements.txt: installs from"),
                "{line}: {error}"
            );
        }
        for line in ["-r /etc/passwd", "-r ../x.txt", "-c .."] {
            let error = read("requirements.txt", line).unwrap_err();
            assert!(error.contains("leads out of the code"), "{error}");
        }
    }

    #[test]
    fn a_line_that_is_not_known_is_refused_and_never_shown() {
        for line in [
            "root:$6$secret:19000:0:99999:7:::",
            "--no-index -e .",
            "--pre -e .",
            "--target=/x",
            "--global-option=x",
            "--index /x",
            "-i/x",
            "-f wheels",
            "--find-links=file:///wheels",
            "-i https://h/simple -e .",
            "-i file:///simple",
            "-r ${FILE}",
            "-r a.txt -e .",
            "-r https://h/more.txt",
            "-r file:///etc/passwd",
            "${REQUIREMENT}",
            "x==${VERSION}",
            "requests -e .",
            "requests; python_version > '3' -e .",
            "requests --config-settings=x=y",
            "requests --hash=sha256:../x",
            "x @ git+file:///srv/lib",
            "x @ svn+https://h/x",
            "a b c",
        ] {
            let error = read("requirements.txt", &format!("requests\n{line}\n")).unwrap_err();
            assert!(error.starts_with("line 2 of requirements.txt: "), "{line}: {error}");
            assert!(!error.contains(line) && !error.contains("secret"), "{error}");
        }
        for text in ["a\u{b}-e .", "a\r-e .\n", "a\u{2028}-e ."] {
            let error = read("requirements.txt", text).unwrap_err();
            assert!(error.contains("control characters"), "{text:?}: {error}");
        }
        let latin = NeedsFile { name: "r.txt".to_owned(), content: vec![0xff, 0xfe, b'a', 0] };
        assert!(requirements(&latin).unwrap_err().contains("is not UTF-8"));
        let many = "a\n".repeat(LINES_MAX + 1);
        assert!(read("r.txt", &many).unwrap_err().contains("more than 50000 lines"));
    }
}
