//! The token of the admin API: where it comes from, and where clients find it.

use std::io;
use std::path::Path;

use super::{ADMIN_TOKEN_FILE, StartError};
use crate::config::credentials_directory;
use crate::model::webhook::Token;
use crate::os::{private_file, text_file};

/// The admin token: the operator's, if systemd hands over a credential with one; else the one in the
/// file `admin.token` of `data_dir`, or a new one when that is missing, empty or torn. The file holds
/// it in any case: clients on this machine look for it there.
pub(super) fn admin_token(data_dir: &Path) -> Result<Token, StartError> {
    let credential = credentials_directory().map(|it| it.join(ADMIN_TOKEN_FILE));
    let given = match &credential {
        Some(credential) => read_file(credential)?
            .map(|text| {
                let token = Token::parse(text.trim());
                token.ok_or_else(|| StartError::Credential(credential.clone()))
            })
            .transpose()?,
        None => None,
    };
    let path = &data_dir.join(ADMIN_TOKEN_FILE);
    let stored = match read_file(path) {
        // A power cut can leave any bytes in the file.
        Err(StartError::File { source, .. }) if source.kind() == io::ErrorKind::InvalidData => None,
        read => read?.and_then(|text| Token::parse(text.trim())),
    };
    let token = match given.or_else(|| stored.clone()) {
        Some(token) => token,
        None => Token::random()?,
    };
    if stored.as_ref() != Some(&token) {
        private_file::write(path, format!("{}\n", token.reveal()).as_bytes()).map_err(
            |source| StartError::File { action: "cannot write", path: path.to_owned(), source },
        )?;
    }
    Ok(token)
}

/// The text of the file at `path`; `None` when there is none.
fn read_file(path: &Path) -> Result<Option<String>, StartError> {
    match text_file::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            let path = path.to_owned();
            Err(StartError::File { action: "cannot read", path, source })
        }
    }
}
