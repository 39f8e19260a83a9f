//! Credentials: secrets that a request shows as they are.

use super::crypto;
use super::fields::{self, ClientState};
use super::presented::Presented;
use super::verify::Failure;
use crate::model::refusal::Reason;
use crate::model::sender::Credential;
use crate::model::variable::SecretName;

/// Compares a secret that is sent as it is.
pub(super) fn compare(
    credential: Credential<'_>,
    request: &Presented<'_>,
    secrets: &[(&SecretName, String)],
) -> Result<(), Failure> {
    let shown = shown(credential, request)?;
    // All secrets are compared, so that the time does not tell which one fits.
    let matches = secrets
        .iter()
        .filter(|(_, secret)| crypto::is_same_secret(secret.as_bytes(), &shown))
        .count();
    match matches {
        0 => Err(Failure::new(
            Reason::CredentialsMismatch,
            format!("{} is not the secret", describe(credential)),
        )),
        _ => Ok(()),
    }
}

fn describe(credential: Credential<'_>) -> String {
    match credential {
        Credential::Header(name) => name.to_owned(),
        Credential::Bearer => "the bearer token of Authorization".to_owned(),
        Credential::Basic => "user and password of Authorization".to_owned(),
        Credential::Query(name) => format!("the parameter `{name}`"),
        Credential::ClientState => "clientState".to_owned(),
    }
}

/// What `request` shows where the credential stands.
pub(super) fn shown(
    credential: Credential<'_>,
    request: &Presented<'_>,
) -> Result<Vec<u8>, Failure> {
    let missing = |detail: String| Failure::new(Reason::CredentialsMissing, detail);
    let authorization = |scheme: &str| -> Result<Vec<u8>, Failure> {
        let value = request
            .header("Authorization")
            .map_err(|why| missing(why.describe("Authorization")))?;
        let (given, rest) = value.split_at_checked(scheme.len()).unwrap_or((value, &[]));
        match rest.strip_prefix(b" ") {
            Some(rest) if given.eq_ignore_ascii_case(scheme.as_bytes()) => {
                Ok(rest.trim_ascii().to_vec())
            }
            _ => Err(missing(format!("Authorization is not of the scheme {scheme}"))),
        }
    };
    match credential {
        Credential::Header(name) => {
            request.header(name).map(<[u8]>::to_vec).map_err(|why| missing(why.describe(name)))
        }
        Credential::Bearer => authorization("Bearer"),
        Credential::Basic => {
            let text = authorization("Basic")?;
            data_encoding::BASE64
                .decode(&text)
                .map_err(|_| missing("Authorization is not base64".to_owned()))
        }
        Credential::Query(name) => {
            request.parameter(name).map_err(|why| missing(why.describe(&describe(credential))))
        }
        Credential::ClientState => match fields::client_state(request.body.open()) {
            ClientState::One(state) => Ok(state.into_bytes()),
            ClientState::Missing => {
                Err(missing("a notification in the body has no clientState".to_owned()))
            }
            ClientState::Different => Err(Failure::new(
                Reason::CredentialsMismatch,
                "the notifications in the body have different clientStates",
            )),
        },
    }
}
