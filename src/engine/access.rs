//! Named tokens of the admin API, and what their holders reach.

use crate::engine::catalog::{NewAccessToken, Reach};
use crate::engine::{Engine, EngineError};
use crate::model::access::{AccessToken, Principal, Scope};
use crate::model::ids::{RunId, TokenId};
use crate::model::server_proof::TokenHint;
use crate::model::webhook::{Token, TokenHash};

impl Engine {
    /// Every named token, by name.
    pub fn access_tokens(&self) -> Vec<AccessToken> {
        self.catalog().access_tokens()
    }

    /// One named token.
    pub fn access_token(&self, id: TokenId) -> Option<AccessToken> {
        self.catalog().access_token(id)
    }

    /// Makes a token. Its secret is known from here on to the caller alone.
    ///
    /// # Errors
    /// When its name is taken or no name, its project or fleet does not exist, or there are too many.
    pub fn create_access_token(
        &self,
        new: NewAccessToken,
    ) -> Result<(AccessToken, Token), EngineError> {
        let secret = self.new_token()?;
        let hash = secret.hash();
        let token = self.change(|catalog, now| catalog.create_access_token(new, hash, now))?;
        Ok((token, secret))
    }

    /// Revokes a token; when this returns it opens nothing any more.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn revoke_access_token(&self, id: TokenId) -> Result<AccessToken, EngineError> {
        self.change(|catalog, _| catalog.revoke_access_token(id))
    }

    /// The holder of the token with this hash; `None`: there is none, or it has expired. Takes note of
    /// the use.
    pub fn use_access_token(&self, hash: &TokenHash) -> Option<Principal> {
        let catalog = self.catalog();
        let (principal, change) = catalog.use_access_token(hash, self.clock.now())?;
        if let Some(change) = change {
            // Not awaited: it is of no consequence. The lock keeps it before a revocation.
            drop(self.store.commit_delayed(vec![change]));
        }
        Some(principal)
    }

    /// The holder of a token by its id; `None`: it was revoked, or has expired.
    pub fn holder_of(&self, id: TokenId) -> Option<Principal> {
        self.catalog().holder_of(id, self.clock.now())
    }

    /// The hash of the token that a client is about to send, by its hint.
    pub fn hinted_token(&self, hint: TokenHint) -> Option<TokenHash> {
        self.catalog().hinted_token(hint, self.clock.now())
    }

    /// What a scope contains by now.
    pub fn reach(&self, scope: Scope) -> Reach {
        self.catalog().reach(scope)
    }

    /// Whether a run is within `reach`. One that does not exist is within reach of everything alone.
    pub fn is_within(&self, run: RunId, reach: &Reach) -> bool {
        let has =
            || self.store.run(run).map(|it| reach.has_fleet(it.fleet_id, Some(it.project_id)));
        reach.is_everything() || has().unwrap_or(false)
    }
}
