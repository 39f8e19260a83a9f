//! The token that opens the admin API: whose it is, and where clients find it.

use std::io;
use std::path::Path;

use super::StartError;
use crate::model::webhook::Token;
use crate::os::text_file;
use crate::store::write_private_file;

/// The admin token: the one in the file `credential`, which is the operator's; else the one in the
/// file at `path`, or a new one when that is missing, empty or torn. The file at `path` holds it in
/// any case: clients on this machine look for it there.
pub(super) fn admin_token(path: &Path, credential: Option<&Path>) -> Result<Token, StartError> {
    let given = match credential {
        Some(credential) => read_file(credential)?
            .map(|text| {
                let token = Token::parse(text.trim());
                token.ok_or_else(|| StartError::Credential(credential.to_owned()))
            })
            .transpose()?,
        None => None,
    };
    let stored = match read_file(path) {
        // A power cut can leave anything in our own file.
        Err(StartError::File { source, .. }) if source.kind() == io::ErrorKind::InvalidData => None,
        read => read?.and_then(|text| Token::parse(text.trim())),
    };
    let token = match given.or_else(|| stored.clone()) {
        Some(token) => token,
        None => Token::random()?,
    };
    if stored.as_ref() != Some(&token) {
        write_private_file(path, &format!("{}\n", token.reveal())).map_err(|source| {
            StartError::File { action: "cannot write", path: path.to_owned(), source }
        })?;
    }
    Ok(token)
}

/// The text of a file, if there is one.
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
