//! Handshakes that bring a secret: they are taken only while the owner of the webhook expects one.

use std::sync::Arc;

use crate::config::secrets::{KeepError, SecretKeeper};
use crate::engine::catalog::WebhookView;
use crate::engine::{Engine, EngineError};
use crate::model::ids::FleetId;
use crate::model::variable::SecretName;

/// Why the secret of a handshake is not kept.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("its owner expects no handshake that brings a secret")]
    Unexpected,
    #[error(transparent)]
    NotKept(#[from] KeepError),
}

impl Engine {
    /// Lets the next handshake bring the secret of a fleet's sender within the next minutes, or no longer.
    ///
    /// # Errors
    /// When there is no such fleet, it has no webhook, or no handshake of its sender brings a secret.
    pub fn expect_handshake(
        &self,
        id: FleetId,
        is_expected: bool,
    ) -> Result<WebhookView, EngineError> {
        self.change(|catalog, now| catalog.expect_handshake(id, is_expected, now))
    }

    /// Keeps the secret that a handshake brings, durably, if its owner expects one. Of several at once one
    /// is taken.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub fn keep_brought_secret(
        &self,
        fleet: FleetId,
        name: &SecretName,
        value: &str,
    ) -> Result<(), HandshakeError> {
        let is_expected = self.change(|catalog, now| catalog.take_handshake(fleet, now));
        if !is_expected.unwrap_or(false) {
            return Err(HandshakeError::Unexpected);
        }
        self.secrets.set(name, value.as_bytes())?;
        log::info!(secret = name.as_str(); "a handshake brought a secret");
        Ok(())
    }

    /// The one writer of secrets.
    pub fn secrets(&self) -> &Arc<SecretKeeper> {
        &self.secrets
    }
}
