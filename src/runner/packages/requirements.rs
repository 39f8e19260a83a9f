//! Reads the requirements files of pip, as far as it takes to know which files count and that nothing is
//! installed from the code itself (pip's "Requirements File Format").

use super::plan::NeedsFile;

/// What a requirements file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Whether it names a package, or an option that may.
    pub names_packages: bool,
    /// The files that it includes, relative to the root of the code.
    pub files: Vec<String>,
}

/// Reads `file`.
///
/// # Errors
/// The first line that cannot be installed into an environment that several runs share.
pub fn requirements(file: &NeedsFile) -> Result<Requirements, String> {
    let text = String::from_utf8_lossy(&file.content);
    let text = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut found = Requirements::default();
    for line in text.lines() {
        let line = without_comment(line);
        let refused = |why: &str| {
            format!("`{}` of {}: {why}", line.chars().take(100).collect::<String>(), file.name)
        };
        if line.is_empty() {
            continue;
        }
        if let Some(included) =
            value_of(line, "-r", "--requirement").or_else(|| value_of(line, "-c", "--constraint"))
        {
            if !included.contains("://") {
                let path = beside(&file.name, included).ok_or_else(|| {
                    refused("leads out of the code; name a file beside it, or a URL")
                })?;
                found.files.push(path);
            }
            found.names_packages |= included.contains("://");
            continue;
        }
        let requirement = value_of(line, "-e", "--editable").unwrap_or(line);
        if is_local(requirement) {
            return Err(refused(
                "installs from the code itself, which an environment that runs share cannot; name \
                 what it needs, and set PYTHONPATH for the code",
            ));
        }
        found.names_packages |= !requirement.starts_with('-');
    }
    Ok(found)
}

/// A comment begins the line, or stands after white space.
fn without_comment(line: &str) -> &str {
    let line = match line.trim_start().starts_with('#') {
        true => "",
        false => line.split(" #").next().unwrap_or(line),
    };
    line.split("\t#").next().unwrap_or(line).trim()
}

/// The value of the option `short` or `long`, if the line is that option.
fn value_of<'l>(line: &'l str, short: &str, long: &str) -> Option<&'l str> {
    if let Some(rest) = line.strip_prefix(long) {
        return rest.strip_prefix('=').or_else(|| rest.strip_prefix(' ')).map(str::trim);
    }
    let rest = line.strip_prefix(short).filter(|_| !line.starts_with("--"))?;
    Some(rest.trim_start().trim_start_matches('='))
}

/// Whether pip takes `requirement` for a path.
fn is_local(requirement: &str) -> bool {
    let first = requirement.split([';', ' ']).next().unwrap_or(requirement);
    let place = requirement.split_once('@').map_or(first, |(_, place)| place.trim());
    let is_path = |text: &str| {
        text == "."
            || text.starts_with(['/', '~'])
            || text.starts_with("./")
            || text.starts_with("..")
            || text.starts_with(".[")
            || text.starts_with("file:")
    };
    let is_archive = |text: &str| {
        [".whl", ".zip", ".tar.gz", ".tgz"].iter().any(|end| text.ends_with(end))
            && !text.contains("://")
    };
    let has_directory = first.contains('/') && !requirement.contains("://");
    is_path(first)
        || is_path(place)
        || is_archive(first)
        || (has_directory && !first.starts_with('-'))
}

/// The path of `included`, which the file `including` names; `None` when it leads elsewhere.
fn beside(including: &str, included: &str) -> Option<String> {
    if included.starts_with('/') {
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

    fn read(name: &str, content: &str) -> Result<Requirements, String> {
        requirements(&NeedsFile { name: name.to_owned(), content: content.into() })
    }

    #[test]
    fn packages_and_included_files_are_found() {
        let text = "# comment\n\nrequests==2.0 # pinned\nnumpy \\\n  >=1\n-r base.txt\n--constraint=c/pins.txt\n\
                    -r https://example.com/more.txt\ngit+https://example.com/x.git#egg=x\n\
                    x @ https://example.com/x.whl\n--hash=sha256:00\n-e git+https://h/y.git#egg=y\n";
        let found = read("requirements.txt", text).unwrap();
        assert!(found.names_packages);
        assert_eq!(found.files, ["base.txt", "c/pins.txt"]);
        let found = read("sub/requirements.txt", "-r../base.txt\n-c ./pins.txt\n").unwrap();
        assert_eq!(found.files, ["base.txt", "sub/pins.txt"]);
        assert!(!found.names_packages);
        assert_eq!(read("requirements.txt", "-i https://h/simple\n"), Ok(Requirements::default()));
    }

    #[test]
    fn the_code_itself_is_not_installed() {
        for line in [
            "-e .",
            "--editable=./lib",
            ".",
            ".[dev]",
            "./lib",
            "../lib",
            "/srv/lib",
            "file:///srv/lib",
            "lib @ file:///srv/lib",
            "wheels/x-1-py3-none-any.whl",
            "x-1-py3-none-any.whl",
            "lib/sub",
        ] {
            let error = read("requirements.txt", &format!("requests\n{line}\n")).unwrap_err();
            assert!(error.contains(line) && error.contains("from the code itself"), "{error}");
        }
        for line in ["-r /etc/passwd", "-r ../x.txt", "-c .."] {
            let error = read("requirements.txt", line).unwrap_err();
            assert!(error.contains("leads out of the code"), "{error}");
        }
    }
}
