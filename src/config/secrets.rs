//! Secrets: files in a directory of the operator (`secrets_dir`, or the credentials from systemd). They
//! are read at every start of a vessel, so a changed file counts from the next start on. The server keeps
//! no copy.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::model::limits::{ARGUMENT_BYTES_MAX, REDACTED_BYTES_MIN};
use crate::model::variable::{FixedValue, SecretName};
use crate::os::text_file::{MARK, NotText, without_mark};

/// The admin token, in the data directory and as a credential.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// Secrets with which a request is compared that none of its fleet's fits.
const SECRETS_TRIED_MAX: usize = 64;

/// The directory of secrets.
#[derive(Clone, Debug)]
pub struct SecretStore {
    directory: Option<PathBuf>,
}

/// The variables of a vessel with the values of secrets. Has no `Debug`, so that nothing prints it.
#[derive(Default)]
pub struct Resolved {
    pub variables: Vec<(String, String)>,
    /// The values of secrets among them, and the forms in which programs are likely to print them, for
    /// the redactor.
    pub secrets: Vec<String>,
}

/// Why a secret has no value. Names the secret, never its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "there is no directory of secrets: set `secrets_dir`, or let systemd load the credential \
         (LoadCredential=)"
    )]
    NoDirectory,
    #[error("there is no file {}: put the secret's value there, or let systemd do so (LoadCredential=)", .0.display())]
    Missing(PathBuf),
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    #[error("it is the admin token, which is for no fleet")]
    AdminToken,
    #[error(
        "{} is longer than the {ARGUMENT_BYTES_MAX} bytes that fit in a variable: let the program \
         read the file itself",
        .0.display()
    )]
    TooLong(PathBuf),
    #[error("{} contains a NUL, which no variable can hold", .0.display())]
    Nul(PathBuf),
    #[error("{} is not text in UTF-8: encode it, in base64 for example", .0.display())]
    NotUtf8(PathBuf),
    #[error("{}: {source}", path.display())]
    NotText { path: PathBuf, source: NotText },
}

impl SecretStore {
    /// The secrets in `directory`, which need not exist yet.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// Gives every variable its value.
    ///
    /// # Errors
    /// A message for the vessel's log that names the first secret without a value.
    pub fn resolve(&self, variables: &[(String, FixedValue)]) -> Result<Resolved, String> {
        let mut resolved = Resolved::default();
        for (variable, value) in variables {
            let value = match value {
                FixedValue::Literal(text) => text.clone(),
                FixedValue::Secret { secret } => {
                    let text = self.read(variable, secret).map_err(|error| {
                        format!("the secret `{}` of {variable}: {error}", secret.as_str())
                    })?;
                    add_forms(&text, &mut resolved.secrets);
                    text
                }
            };
            resolved.variables.push((variable.clone(), value));
        }
        Ok(resolved)
    }

    /// The value of a secret that goes into no variable.
    ///
    /// # Errors
    /// Why it has none.
    pub fn value(&self, secret: &SecretName) -> Result<String, SecretError> {
        self.read("", secret)
    }

    /// The secrets that have a value, by name; at most [`SECRETS_TRIED_MAX`].
    pub fn all(&self) -> Vec<(String, String)> {
        let Some(entries) = self.directory.as_deref().and_then(|it| fs::read_dir(it).ok()) else {
            return Vec::new();
        };
        let named = entries.filter_map(|entry| {
            let name = SecretName::try_from(entry.ok()?.file_name().into_string().ok()?).ok()?;
            let value = self.value(&name).ok()?;
            Some((name.as_str().to_owned(), value))
        });
        named.take(SECRETS_TRIED_MAX).collect()
    }

    /// Whether `secret` has a value for a variable of the name `variable`; the mode of its file.
    ///
    /// # Errors
    /// Why it has none.
    pub fn examine(&self, variable: &str, secret: &SecretName) -> Result<u32, SecretError> {
        self.read(variable, secret)?;
        let directory = self.directory.as_deref().ok_or(SecretError::NoDirectory)?;
        let path = directory.join(secret.as_str());
        match fs::metadata(&path) {
            Ok(found) => Ok(found.permissions().mode() & 0o777),
            Err(source) => Err(SecretError::Read { path, source }),
        }
    }

    /// The value of `secret`, for a variable of the name `variable`. A byte order mark at the
    /// beginning of its file and one line end (LF or CRLF) at the end are the editor's, not the
    /// secret's.
    fn read(&self, variable: &str, secret: &SecretName) -> Result<String, SecretError> {
        let directory = self.directory.as_deref().ok_or(SecretError::NoDirectory)?;
        // systemd puts it into the directory of the fleets' secrets.
        if secret.as_str() == ADMIN_TOKEN_FILE {
            return Err(SecretError::AdminToken);
        }
        let path = directory.join(secret.as_str());
        // NAME=value and the NUL that ends it.
        let bytes_max = ARGUMENT_BYTES_MAX.saturating_sub(variable.len() + 1);
        let bytes = read_file(&path, (MARK.len() + bytes_max + "\r\n".len() + 1) as u64)?;
        let mut bytes = without_mark(bytes)
            .map_err(|source| SecretError::NotText { path: path.clone(), source })?;
        if let Some(line) = bytes.strip_suffix(b"\n") {
            bytes.truncate(line.strip_suffix(b"\r").unwrap_or(line).len());
        }
        if bytes.len() > bytes_max {
            return Err(SecretError::TooLong(path));
        }
        if bytes.contains(&0) {
            return Err(SecretError::Nul(path));
        }
        String::from_utf8(bytes).map_err(|_| SecretError::NotUtf8(path))
    }
}

/// Adds `value` to `forms`, the text of its file with a byte order mark, each line of it, and each
/// of these without the blanks around it. Forms that are too short to be told from other text are
/// left to the redactor.
fn add_forms(value: &str, forms: &mut Vec<String>) {
    forms.push(value.to_owned());
    if value.len() >= REDACTED_BYTES_MIN {
        forms.push(format!("{MARK}{value}"));
    }
    let parts = std::iter::once(value).chain(value.split(['\r', '\n']));
    for part in parts.flat_map(|part| [part, part.trim()]) {
        if part.len() >= REDACTED_BYTES_MIN && part.len() < value.len() {
            forms.push(part.to_owned());
        }
    }
}

/// The first `bytes_max` bytes of a regular file. Links are followed: the operator may keep the values
/// elsewhere.
fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, SecretError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SecretError::Missing(path.to_owned()),
        _ => SecretError::Read { path: path.to_owned(), source },
    };
    // Opening a FIFO without a writer would block for ever.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(SecretError::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str) -> FixedValue {
        SecretName::try_from(name.to_owned()).unwrap().into()
    }

    fn resolve(store: &SecretStore, value: FixedValue) -> Result<String, String> {
        let resolved = store.resolve(&[("V".to_owned(), value)])?;
        Ok(resolved.variables[0].1.clone())
    }

    #[test]
    fn values_are_read_anew_and_lose_a_mark_and_one_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let store = SecretStore::new(Some(directory.path().to_owned()));
        for (content, value) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\r", "a\r"),
            ("a\n\r\n", "a\n"),
            ("a \r\n", "a "),
            ("\u{feff}a\r\n", "a"),
            ("\u{feff}", ""),
            ("a\n\n", "a\n"),
            ("\n", ""),
            ("", ""),
        ] {
            fs::write(directory.path().join("KEY"), content).unwrap();
            assert_eq!(resolve(&store, secret("KEY")).as_deref(), Ok(value));
        }
        let resolved = store.resolve(&[("A".into(), "x".into()), ("B".into(), secret("KEY"))]);
        let resolved = resolved.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(resolved.variables, [("A".into(), "x".into()), ("B".into(), String::new())]);
        assert_eq!(resolved.secrets, [""]);
    }

    #[test]
    fn lines_and_trimmed_forms_are_secret_as_well() {
        let mut forms = Vec::new();
        add_forms("  a secret \r\nwith lines\nshort", &mut forms);
        let expected = [
            "  a secret \r\nwith lines\nshort",
            "\u{feff}  a secret \r\nwith lines\nshort",
            "a secret \r\nwith lines\nshort",
            "  a secret ",
            "a secret",
            "with lines",
            "with lines",
        ];
        assert_eq!(forms, expected);
        forms.clear();
        add_forms("long enough", &mut forms);
        assert_eq!(forms, ["long enough", "\u{feff}long enough"]);
    }

    #[test]
    fn what_has_no_value_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = SecretStore::new(Some(directory.path().to_owned()));
        let at = |name: &str| directory.path().join(name);
        fs::write(at("NUL"), "a\0b").unwrap();
        fs::write(at("BYTES"), b"\xff").unwrap();
        fs::write(at("WIDE"), b"\xff\xfea\0b\0").unwrap();
        fs::write(at("FITS"), "\u{feff}".to_owned() + &"x".repeat(ARGUMENT_BYTES_MAX - 2) + "\r\n")
            .unwrap();
        fs::write(at("LONG"), "x".repeat(ARGUMENT_BYTES_MAX - 1)).unwrap();
        fs::create_dir(at("FOLDER")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("FIFO"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(resolve(&store, secret("FITS")).is_ok());
        fs::write(at("admin.token"), "x").unwrap();
        for (name, reason) in [
            ("admin.token", "for no fleet"),
            ("NONE", "there is no file"),
            ("NUL", "contains a NUL"),
            ("BYTES", "not text in UTF-8"),
            ("WIDE", "UTF-16"),
            ("LONG", "longer than the 131071 bytes"),
            ("FOLDER", "is not a file"),
            ("FIFO", "is not a file"),
        ] {
            let message = resolve(&store, secret(name)).unwrap_err();
            assert!(message.starts_with(&format!("the secret `{name}` of V: ")), "{message}");
            assert!(message.contains(reason), "{message}");
        }
        let message = resolve(&SecretStore::new(None), secret("KEY")).unwrap_err();
        assert!(message.contains("`KEY`") && message.contains("secrets_dir"), "{message}");
    }
}
