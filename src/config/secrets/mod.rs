//! Secrets: files of the directory `secrets_dir`, which the server keeps ([`SecretKeeper`]), and the
//! credentials from systemd. They are read at every use, so a changed secret counts from the next request
//! and the next start of a vessel on. The server holds no copy.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, OFlags};

use crate::config::Settings;
use crate::model::clock::Timestamp;
use crate::model::limits::ARGUMENT_BYTES_MAX;
use crate::model::variable::{FixedValue, SECRETS_DIRECTORY, SecretName};

mod keeper;
mod value;

pub use keeper::{KEPT_SECRET_BYTES_MAX, KeepError, SecretKeeper};
pub use value::{InvalidValue, Secret};
use value::{add_forms, read_max, value_of};

/// The admin token, in the data directory and as a credential.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
/// What shows in the place of a secret.
pub const MASK: &str = "••••";
/// Secrets with which a request is compared that none of its fleet's fits.
const SECRETS_TRIED_MAX: usize = 64;

/// The reader of secrets.
#[derive(Clone, Debug)]
pub struct SecretStore {
    /// May not exist yet.
    directory: PathBuf,
    /// Whether it is the directory within the data directory rather than one of the operator's.
    is_private: bool,
    /// The credentials from systemd, which go first.
    credentials: Option<PathBuf>,
    /// Whether it gives [`MASK`] in the place of every value.
    is_masked: bool,
}

/// The variables of a vessel with the values of secrets. Has no `Debug`, so that nothing prints it.
#[derive(Default)]
pub struct Resolved {
    pub variables: Vec<(String, String)>,
    /// The secrets that words of its command refer to, with their values.
    pub references: Vec<(SecretName, String)>,
    /// The values of secrets among all these, and the forms in which programs are likely to print them, for
    /// the redactor.
    pub secrets: Vec<String>,
}

/// A secret that has a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSecret {
    pub name: SecretName,
    /// When its file was written.
    pub set_at: Timestamp,
    /// The mode of its file.
    pub mode: u32,
    pub is_credential: bool,
}

/// Why a secret has no value. Names the secret, never its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "there is no file {}: set it with `boathook secret set {name}`, or let systemd load it \
         (LoadCredential=)",
        path.display()
    )]
    Missing { name: String, path: PathBuf },
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    #[error("it is the admin token, which is for no fleet")]
    AdminToken,
    #[error("{}: {source}", path.display())]
    Invalid { path: PathBuf, source: InvalidValue },
}

impl SecretStore {
    /// The secrets in `directory`, which need not exist yet, and `credentials`. `is_private`: no other
    /// user has business in the directory.
    pub fn new(directory: PathBuf, is_private: bool, credentials: Option<PathBuf>) -> Self {
        Self { directory, is_private, credentials, is_masked: false }
    }

    /// The secrets of a server with `settings`.
    pub fn of(settings: &Settings) -> Self {
        let is_private = settings.secrets_dir == settings.data_dir.join(SECRETS_DIRECTORY);
        Self::new(settings.secrets_dir.clone(), is_private, settings.credentials_dir.clone())
    }

    /// The same secrets, each with [`MASK`] in the place of its value.
    pub fn masked(&self) -> Self {
        Self { is_masked: true, ..self.clone() }
    }

    /// Where the server keeps them.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether no other user has business in the directory.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// Whether the server may change what is in the directory.
    pub fn is_writable(&self) -> bool {
        rustix::fs::access(&self.directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
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

    /// Gives each secret that words of a command refer to its value.
    ///
    /// # Errors
    /// A message for the vessel's log that names the first secret without a value.
    pub fn resolve_references(
        &self,
        secrets: impl IntoIterator<Item = SecretName>,
        resolved: &mut Resolved,
    ) -> Result<(), String> {
        for secret in secrets {
            let value = self
                .read("", &secret)
                .map_err(|error| format!("the secret `{}`: {error}", secret.as_str()))?;
            add_forms(&value, &mut resolved.secrets);
            resolved.references.push((secret, value));
        }
        Ok(())
    }

    /// The present value of a secret that goes into no variable. Never empty: a signature that is made
    /// with an empty secret can be made by anyone.
    ///
    /// # Errors
    /// Why it has none.
    pub fn current(&self, secret: &SecretName) -> Result<Secret, SecretError> {
        let value = self.read("", secret)?;
        if value.is_empty() {
            let path = self.directory.join(secret.as_str());
            return Err(SecretError::Invalid { path, source: InvalidValue::Empty });
        }
        Ok(Secret::new(value))
    }

    /// The secrets that have a value, by name; at most [`SECRETS_TRIED_MAX`].
    pub fn all(&self) -> Vec<(String, String)> {
        let kept = self.list().unwrap_or_default().into_iter();
        let named = kept.filter_map(|KeptSecret { name, .. }| {
            let value = self.current(&name).ok()?;
            Some((name.as_str().to_owned(), value.into_text()))
        });
        named.take(SECRETS_TRIED_MAX).collect()
    }

    /// Whether `secret` has a value for a variable of the name `variable`.
    ///
    /// # Errors
    /// Why it has none.
    pub fn examine(&self, variable: &str, secret: &SecretName) -> Result<(), SecretError> {
        self.read(variable, secret).map(drop)
    }

    /// Every secret that has a file, by name.
    ///
    /// # Errors
    /// When a directory cannot be read. One that does not exist has no secrets.
    pub fn list(&self) -> io::Result<Vec<KeptSecret>> {
        let mut found: Vec<KeptSecret> = Vec::new();
        if let Some(credentials) = &self.credentials {
            add_files(credentials, true, &mut found)?;
        }
        add_files(&self.directory, false, &mut found)?;
        // Stable: of two with one name the credential stays.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|later, earlier| later.name == earlier.name);
        Ok(found)
    }

    /// The value of `secret`, for a variable of the name `variable`.
    fn read(&self, variable: &str, secret: &SecretName) -> Result<String, SecretError> {
        // systemd puts it into the directory of the fleets' secrets.
        if secret.as_str() == ADMIN_TOKEN_FILE {
            return Err(SecretError::AdminToken);
        }
        // NAME=value and the NUL that ends it.
        let bytes_max = ARGUMENT_BYTES_MAX.saturating_sub(variable.len() + 1);
        let (path, content) = self.content(secret, read_max(bytes_max))?;
        let value = value_of(content, bytes_max);
        let value = value.map_err(|source| SecretError::Invalid { path, source })?;
        Ok(if self.is_masked { MASK.to_owned() } else { value })
    }

    /// The file of `secret` and its first `bytes_max` bytes.
    fn content(
        &self,
        secret: &SecretName,
        bytes_max: u64,
    ) -> Result<(PathBuf, Vec<u8>), SecretError> {
        for directory in self.credentials.iter().chain([&self.directory]) {
            let path = directory.join(secret.as_str());
            if let Some(content) = read_file(&path, bytes_max)? {
                return Ok((path, content));
            }
        }
        let name = secret.as_str().to_owned();
        Err(SecretError::Missing { path: self.directory.join(&name), name })
    }
}

/// Adds the secrets whose files are in `directory`.
fn add_files(directory: &Path, is_credential: bool, found: &mut Vec<KeptSecret>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().filter(|name| name != ADMIN_TOKEN_FILE);
        let Some(name) = name.and_then(|name| SecretName::try_from(name).ok()) else { continue };
        // Follows links. A file that is gone by now is none.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_file() {
            let set_at = metadata.modified().map(timestamp)?;
            let mode = metadata.permissions().mode() & 0o777;
            found.push(KeptSecret { name, set_at, mode, is_credential });
        }
    }
    Ok(())
}

fn timestamp(time: SystemTime) -> Timestamp {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// The first `bytes_max` bytes of a regular file; `None` when there is none. Links are followed: the
/// operator may keep the values elsewhere.
fn read_file(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, SecretError> {
    let failed = |source: io::Error| SecretError::Read { path: path.to_owned(), source };
    // Opening a FIFO without a writer would block for ever.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(SecretError::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
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

    fn store(directory: &Path) -> SecretStore {
        SecretStore::new(directory.to_owned(), true, None)
    }

    #[test]
    fn values_are_read_anew_at_every_use() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        for (content, value) in [("a\n", "a"), ("\u{feff}b\r\n", "b"), ("", "")] {
            fs::write(directory.path().join("KEY"), content).unwrap();
            assert_eq!(resolve(&store, secret("KEY")).as_deref(), Ok(value));
        }
        let resolved = store.resolve(&[("A".into(), "x".into()), ("B".into(), secret("KEY"))]);
        let resolved = resolved.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(resolved.variables, [("A".into(), "x".into()), ("B".into(), String::new())]);
        assert_eq!(resolved.secrets, [""]);
        let error = store.current(&"KEY".to_owned().try_into().unwrap()).unwrap_err();
        assert!(error.to_string().contains("it is empty"), "{error}");
    }

    #[test]
    fn a_list_names_files_that_may_be_secrets() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["B", "A", ADMIN_TOKEN_FILE, "C~new", "two words"] {
            fs::write(directory.path().join(name), "x").unwrap();
        }
        fs::create_dir(directory.path().join("FOLDER")).unwrap();
        let listed = store(directory.path()).list().unwrap();
        let names: Vec<&str> = listed.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(names, ["A", "B"]);
        assert!(store(&directory.path().join("NONE")).list().unwrap().is_empty());
    }

    #[test]
    fn what_has_no_value_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
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
    }
}
