//! The one writer of secrets.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::value::{InvalidValue, value_of};
use super::{ADMIN_TOKEN_FILE, SecretStore};
use crate::model::limits::BODY_INLINE_BYTES_MAX;
use crate::model::variable::{SecretName, SecretNameError};
use crate::os::private_file::{self, UNFINISHED};

/// Bytes of the content of a secret that the server keeps.
pub const KEPT_SECRET_BYTES_MAX: usize = 64 * 1024;
// The listener keeps such a body in memory: no value gets into the file of a body.
const _: () = assert!(KEPT_SECRET_BYTES_MAX <= BODY_INLINE_BYTES_MAX);
/// Secrets that the server keeps: some hundred fleets with several each.
pub const KEPT_SECRETS_MAX: usize = 1_000;

/// Sets and removes the secrets in the directory of a [`SecretStore`], one at a time.
pub struct SecretKeeper {
    store: SecretStore,
    turn: Mutex<()>,
}

/// Why a secret is not set or removed. Names the secret, never its content.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error(transparent)]
    Name(#[from] SecretNameError),
    #[error("`{ADMIN_TOKEN_FILE}` is the admin token, which is for no fleet; choose another name")]
    AdminToken,
    #[error("the value: {0}")]
    Value(#[from] InvalidValue),
    #[error("there is no secret `{0}`")]
    Missing(String),
    #[error(
        "`{0}` is a credential of systemd: change it where the unit's LoadCredential= says, and \
         restart the server"
    )]
    Credential(String),
    #[error("there are {KEPT_SECRETS_MAX} secrets already, which is the most; remove one first")]
    TooMany,
    #[error(
        "the server may not write {}: {source}; change the file there yourself, or let \
         `secrets_dir` name another directory",
        path.display()
    )]
    ReadOnly { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl SecretKeeper {
    /// A writer for `store`. Removes what a crash has left of a value that was being written.
    pub fn new(store: SecretStore) -> Self {
        for entry in fs::read_dir(&store.directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                // Nothing reads it, and the next start tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
        Self { store, turn: Mutex::default() }
    }

    /// The reader of the same secrets.
    pub fn store(&self) -> &SecretStore {
        &self.store
    }

    /// Makes `content` the file of the secret `name`, durably: readers and crashes see the old value or
    /// the new one.
    ///
    /// # Errors
    /// See [`KeepError`]. The old value stays.
    pub fn set(&self, name: &SecretName, content: &[u8]) -> Result<(), KeepError> {
        if !name.is_kept() {
            return Err(SecretNameError.into());
        }
        if value_of(content.to_vec(), KEPT_SECRET_BYTES_MAX)?.is_empty() {
            return Err(InvalidValue::Empty.into());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(name)?;
        self.make_directory()?;
        let is_new = !path.exists();
        if is_new && self.store.list().map_err(denied(&path))?.len() >= KEPT_SECRETS_MAX {
            return Err(KeepError::TooMany);
        }
        private_file::write(&path, content).map_err(denied(&path))
    }

    /// Removes the secret `name` durably.
    ///
    /// # Errors
    /// See [`KeepError`].
    pub fn remove(&self, name: &SecretName) -> Result<(), KeepError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(name)?;
        private_file::remove(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => KeepError::Missing(name.as_str().to_owned()),
            _ => denied(&path)(source),
        })
    }

    /// Whether the secret `name` is for the server to change.
    ///
    /// # Errors
    /// When it is a credential of systemd, or the admin token.
    pub fn check(&self, name: &SecretName) -> Result<(), KeepError> {
        self.path(name).map(drop)
    }

    /// The file of the secret `name`, if that is for the server to change.
    fn path(&self, name: &SecretName) -> Result<PathBuf, KeepError> {
        let is_credential = |directory: &PathBuf| directory.join(name.as_str()).exists();
        if name.as_str() == ADMIN_TOKEN_FILE {
            return Err(KeepError::AdminToken);
        }
        if self.store.credentials.as_ref().is_some_and(is_credential) {
            return Err(KeepError::Credential(name.as_str().to_owned()));
        }
        Ok(self.store.directory.join(name.as_str()))
    }

    /// Makes the directory when it is missing. The one in the data directory is private, also when an
    /// operator has made it.
    fn make_directory(&self) -> Result<(), KeepError> {
        let path = self.store.directory.as_path();
        let made = match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match self.store.is_private {
                    true => fs::set_permissions(path, Permissions::from_mode(0o700)),
                    false => Ok(()),
                }
            }
            made => made.and_then(|()| private_file::sync_parent(path)),
        };
        made.map_err(denied(path))
    }
}

/// The error for a file that cannot be changed: the operator's rights, or the disk.
fn denied(path: &Path) -> impl FnOnce(io::Error) -> KeepError {
    let path = path.to_owned();
    |source| match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            KeepError::ReadOnly { path, source }
        }
        _ => KeepError::File { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> SecretName {
        name.to_owned().try_into().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_is_kept_in_a_private_file_of_its_bytes() {
        let data_dir = tempfile::tempdir().unwrap();
        let directory = data_dir.path().join("secrets");
        let keeper = SecretKeeper::new(SecretStore::new(directory.clone(), true, None));
        assert!(keeper.store().list().unwrap().is_empty());
        keeper.set(&name("KEY"), b"\xef\xbb\xbfone\r\n").unwrap();
        assert_eq!(fs::read(directory.join("KEY")).unwrap(), b"\xef\xbb\xbfone\r\n");
        assert_eq!((mode(&directory), mode(&directory.join("KEY"))), (0o700, 0o600));
        assert_eq!(keeper.store().current(&name("KEY")).unwrap().into_text(), "one");
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        keeper.set(&name("KEY"), b"two").unwrap();
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(keeper.store().current(&name("KEY")).unwrap().into_text(), "two");
        keeper.remove(&name("KEY")).unwrap();
        assert!(matches!(keeper.remove(&name("KEY")), Err(KeepError::Missing(_))));
        assert!(keeper.store().current(&name("KEY")).is_err());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn a_value_that_cannot_be_used_changes_nothing() {
        let data_dir = tempfile::tempdir().unwrap();
        let store = SecretStore::new(data_dir.path().join("secrets"), true, None);
        let keeper = SecretKeeper::new(store);
        let most = vec![b'x'; KEPT_SECRET_BYTES_MAX];
        keeper.set(&name("KEY"), &most).unwrap();
        let long = vec![b'x'; KEPT_SECRET_BYTES_MAX + 1];
        for (content, expected) in [
            (&b""[..], InvalidValue::Empty),
            (b"\n", InvalidValue::Empty),
            (b"\xef\xbb\xbf\r\n", InvalidValue::Empty),
            (b"a\0b", InvalidValue::Nul),
            (b"\xff", InvalidValue::NotUtf8),
            (&long, InvalidValue::TooLong),
        ] {
            let refused = keeper.set(&name("KEY"), content);
            assert!(matches!(&refused, Err(KeepError::Value(why)) if *why == expected));
        }
        assert_eq!(keeper.store().current(&name("KEY")).unwrap().into_text().len(), most.len());
        let error = keeper.set(&name(ADMIN_TOKEN_FILE), b"x").unwrap_err();
        assert!(matches!(error, KeepError::AdminToken));
        let error = keeper.set(&name(&"x".repeat(65)), b"x").unwrap_err();
        assert!(matches!(error, KeepError::Name(_)));
        keeper.set(&name(&"x".repeat(64)), b"x").unwrap();
    }

    #[test]
    fn a_credential_of_systemd_goes_first_and_stays_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let credentials = scratch.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        fs::write(credentials.join("KEY"), "of systemd").unwrap();
        let directory = scratch.path().join("secrets");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("KEY"), "of the directory").unwrap();
        let store = SecretStore::new(directory, true, Some(credentials));
        let keeper = SecretKeeper::new(store);
        assert_eq!(keeper.store().current(&name("KEY")).unwrap().into_text(), "of systemd");
        let listed = keeper.store().list().unwrap();
        assert!(matches!(&listed[..], [secret] if secret.is_credential));
        assert!(matches!(keeper.set(&name("KEY"), b"x"), Err(KeepError::Credential(_))));
        assert!(matches!(keeper.remove(&name("KEY")), Err(KeepError::Credential(_))));
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_value() {
        let data_dir = tempfile::tempdir().unwrap();
        let directory = data_dir.path().join("secrets");
        let store = SecretStore::new(directory.clone(), true, None);
        SecretKeeper::new(store.clone()).set(&name("KEY"), b"old").unwrap();
        fs::write(directory.join("KEY~new"), "torn").unwrap();
        assert_eq!(store.current(&name("KEY")).unwrap().into_text(), "old");
        assert_eq!(store.list().unwrap().len(), 1);
        let keeper = SecretKeeper::new(store);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "it is removed at the start");
        assert_eq!(keeper.store().current(&name("KEY")).unwrap().into_text(), "old");
    }

    #[test]
    fn the_number_of_secrets_is_bounded() {
        let data_dir = tempfile::tempdir().unwrap();
        let directory = data_dir.path().join("secrets");
        fs::create_dir(&directory).unwrap();
        for number in 0..KEPT_SECRETS_MAX {
            fs::write(directory.join(format!("K{number}")), "x").unwrap();
        }
        let keeper = SecretKeeper::new(SecretStore::new(directory, true, None));
        assert!(matches!(keeper.set(&name("ONE_MORE"), b"x"), Err(KeepError::TooMany)));
        keeper.set(&name("K0"), b"y").unwrap();
    }
}
