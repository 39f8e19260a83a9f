//! The webhooks of fleets: which token triggers which fleet, from which addresses and how often, and
//! when it was last used.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use crate::engine::EngineError;
use crate::engine::catalog::last_use::LastUse;
use crate::engine::catalog::{Catalog, ExpectedVersion, FleetEntry};
use crate::fleet_file::{FleetFile, FleetFileError, KeptText};
use crate::model::change::Change;
use crate::model::client_address::Client;
use crate::model::clock::Timestamp;
use crate::model::fleet::FleetVersion;
use crate::model::ids::FleetId;
use crate::model::rate_limit::{Bucket, TooSoon};
use crate::model::sender::Verification;
use crate::model::webhook::{
    HANDSHAKE_WINDOW, PreviousToken, Token, TokenHash, Webhook, WebhookSettings,
};

/// Last uses of webhooks that are stored per second: a hundredth of the accepts of one machine.
const USES_STORED_PER_SECOND: u32 = 64;

/// A webhook as its owner sees it: its row, and the version of the fleet with its settings.
#[derive(Clone, Debug)]
pub struct WebhookView {
    pub webhook: Webhook,
    pub current: Arc<FleetVersion>,
}

/// A webhook with the state that every accept updates under a shared lock: its last use and the rest
/// of its rate limit.
pub(super) struct WebhookEntry {
    webhook: Webhook,
    /// Stays when the settings, the URL or the pause change.
    bucket: Bucket,
    last_use: LastUse,
}

/// The number of last uses stored in the present second, over all webhooks. Stored last uses are best
/// effort: with thousands of webhooks in use, each accept would write one more row.
#[derive(Debug, Default)]
pub(super) struct LastUseBudget {
    second: AtomicI64,
    count: AtomicU32,
}

impl LastUseBudget {
    /// Whether one more may be stored. Two threads that see a second begin may exceed the bound a little.
    fn admit(&self, now: Timestamp) -> bool {
        let second = now.as_millis().div_euclid(1000);
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed) < USES_STORED_PER_SECOND
    }
}

/// Why a request to a webhook is refused before its body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmitError {
    /// No webhook has this token.
    UnknownToken,
    /// Its owner has paused the webhook.
    Paused,
    /// The webhook's `allow` list does not have the client's address.
    NotAllowed,
    TooSoon(TooSoon),
}

impl Catalog {
    /// The webhook of a fleet, if it has one.
    ///
    /// # Errors
    /// When there is no such fleet.
    pub fn webhook(&self, id: FleetId, now: Timestamp) -> Result<Option<WebhookView>, EngineError> {
        let FleetEntry { current, webhook, .. } = self.entry(id)?;
        let webhook = webhook.as_ref().map(|entry| entry.current(now));
        Ok(webhook.map(|webhook| WebhookView { webhook, current: Arc::clone(current) }))
    }

    fn existing_webhook(&self, id: FleetId, now: Timestamp) -> Result<WebhookView, EngineError> {
        self.webhook(id, now)?.ok_or_else(no_webhook)
    }

    /// Gives a fleet its webhook, and edits its settings with `edit`.
    ///
    /// # Errors
    /// When there is no such fleet, it has one, or `edit` fails.
    pub fn add_webhook(
        &mut self,
        id: FleetId,
        token: Token,
        edit: impl FnOnce(&mut WebhookSettings) -> Result<(), FleetFileError>,
        former: Option<KeptText>,
        now: Timestamp,
    ) -> Result<(WebhookView, Vec<Change>), EngineError> {
        if self.entry(id)?.webhook.is_some() {
            return Err(EngineError::Conflict(
                "the fleet has a webhook already; show it, or replace it with a new one".into(),
            ));
        }
        if self.fleet_of_token(&token.hash(), now).is_some() {
            return Err(EngineError::Conflict("a webhook of another fleet has this token".into()));
        }
        let webhook = Webhook {
            fleet_id: id,
            token,
            created_at: now,
            last_used_at: None,
            previous: None,
            paused_at: None,
            handshake_until: None,
        };
        let mut changes = self.edit_settings(id, edit, &ExpectedVersion::Any, former, now)?;
        self.set_webhook(webhook.clone());
        changes.push(Change::PutWebhook(webhook));
        Ok((self.existing_webhook(id, now)?, changes))
    }

    /// Edits the settings of a fleet's webhook with `edit`.
    ///
    /// # Errors
    /// When there is no such fleet, it has no webhook or is not as expected, or `edit` fails.
    pub fn edit_webhook_settings(
        &mut self,
        id: FleetId,
        edit: impl FnOnce(&mut WebhookSettings) -> Result<(), FleetFileError>,
        expected: &ExpectedVersion,
        former: Option<KeptText>,
        now: Timestamp,
    ) -> Result<(WebhookView, Vec<Change>), EngineError> {
        self.existing_webhook(id, now)?;
        let changes = self.edit_settings(id, edit, expected, former, now)?;
        Ok((self.existing_webhook(id, now)?, changes))
    }

    /// Makes the next version of a fleet if `edit` changes the settings of its webhook.
    fn edit_settings(
        &mut self,
        id: FleetId,
        edit: impl FnOnce(&mut WebhookSettings) -> Result<(), FleetFileError>,
        expected: &ExpectedVersion,
        former: Option<KeptText>,
        now: Timestamp,
    ) -> Result<Vec<Change>, EngineError> {
        let mut definition = self.entry(id)?.current.definition.clone();
        edit(&mut definition.webhook).map_err(|error| EngineError::Invalid(error.to_string()))?;
        let file = FleetFile { former, ..FleetFile::of(id, definition) };
        let (_, _, changes) = self.update_fleet(id, file, expected, now)?;
        Ok(changes)
    }

    /// Pauses a fleet's webhook, or lets it take requests again. A pause keeps the time when it began.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn pause_webhook(
        &mut self,
        id: FleetId,
        is_paused: bool,
        now: Timestamp,
    ) -> Result<(WebhookView, Vec<Change>), EngineError> {
        let mut view = self.existing_webhook(id, now)?;
        if view.webhook.paused_at.is_some() == is_paused {
            return Ok((view, Vec::new()));
        }
        view.webhook.paused_at = is_paused.then_some(now);
        // The row keeps its key.
        self.set_webhook(view.webhook.clone());
        let change = Change::PutWebhook(view.webhook.clone());
        Ok((view, vec![change]))
    }

    /// Lets the next handshake bring the secret of a fleet's sender, for [`HANDSHAKE_WINDOW`] from `now` on;
    /// or no longer.
    ///
    /// # Errors
    /// When there is no such fleet, it has no webhook, or no handshake of its sender brings a secret.
    pub fn expect_handshake(
        &mut self,
        id: FleetId,
        is_expected: bool,
        now: Timestamp,
    ) -> Result<(WebhookView, Vec<Change>), EngineError> {
        let mut view = self.existing_webhook(id, now)?;
        let verify = &view.current.definition.webhook.verify;
        let brings = verify.iter().flat_map(Verification::brought_secrets).next().is_some();
        if is_expected && !brings {
            return Err(EngineError::Conflict(
                "no handshake brings the secret of this fleet's sender: that is for \
                 `verify: {preset: asana, secret: NAME}`"
                    .into(),
            ));
        }
        view.webhook.handshake_until = is_expected.then(|| now.plus(HANDSHAKE_WINDOW));
        self.set_webhook(view.webhook.clone());
        let change = Change::PutWebhook(view.webhook.clone());
        Ok((view, vec![change]))
    }

    /// Takes a handshake that brings a secret: whether one is expected. The next one is not.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn take_handshake(
        &mut self,
        id: FleetId,
        now: Timestamp,
    ) -> Result<(bool, Vec<Change>), EngineError> {
        if self.existing_webhook(id, now)?.webhook.handshake_until.is_none() {
            return Ok((false, Vec::new()));
        }
        let (_, changes) = self.expect_handshake(id, false, now)?;
        Ok((true, changes))
    }

    /// Gives a fleet's webhook a new token. The old token works for another `grace`.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn replace_webhook(
        &mut self,
        id: FleetId,
        token: Token,
        grace: Duration,
        now: Timestamp,
    ) -> Result<(WebhookView, Vec<Change>), EngineError> {
        let WebhookView { webhook: old, current } = self.existing_webhook(id, now)?;
        let replaced = old.token.hash();
        let previous = (!grace.is_zero())
            .then(|| PreviousToken { token: old.token, valid_until: now.plus(grace) });
        let webhook = Webhook { token, created_at: now, previous, ..old };
        self.set_webhook(webhook.clone());
        let changes = vec![Change::RemoveWebhook(replaced), Change::PutWebhook(webhook.clone())];
        Ok((WebhookView { webhook, current }, changes))
    }

    /// Removes a fleet's webhook.
    ///
    /// # Errors
    /// When there is no such fleet, or it has no webhook.
    pub fn remove_webhook(&mut self, id: FleetId) -> Result<Vec<Change>, EngineError> {
        if self.entry(id)?.webhook.is_none() {
            return Err(no_webhook());
        }
        Ok(self.take_webhook(id))
    }

    /// Admits a request of `client` to the webhook of a token, and counts it against the rate limit.
    /// Returns the fleet.
    ///
    /// # Errors
    /// See [`AdmitError`].
    pub fn admit(
        &self,
        hash: &TokenHash,
        client: Client,
        now: Timestamp,
    ) -> Result<FleetId, AdmitError> {
        let (fleet, entry) = self.webhook_by_token(hash, now).ok_or(AdmitError::UnknownToken)?;
        if entry.webhook.paused_at.is_some() {
            return Err(AdmitError::Paused);
        }
        let WebhookSettings { allow, rate_limit, .. } = &fleet.current.definition.webhook;
        if !allow.is_empty() && (client.is_disputed || !allow.contains(client.address)) {
            return Err(AdmitError::NotAllowed);
        }
        if let Some(rate) = rate_limit {
            entry.bucket.take(*rate, now).map_err(AdmitError::TooSoon)?;
        }
        Ok(entry.webhook.fleet_id)
    }

    /// Whether a handshake of the webhook with this token comes with `method`.
    pub fn has_handshake_by(&self, hash: &TokenHash, method: &str, now: Timestamp) -> bool {
        self.webhook_by_token(hash, now).is_some_and(|(fleet, _)| {
            let verify = &fleet.current.definition.webhook.verify;
            verify.as_ref().is_some_and(|verify| verify.has_handshake_by(method))
        })
    }

    /// The fleet that a token triggers, and sometimes a change that stores the use.
    pub fn use_token(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Option<(Arc<FleetVersion>, Option<Change>)> {
        let (entry, webhook) = self.webhook_by_token(hash, now)?;
        Some((Arc::clone(&entry.current), webhook.note_use(now, &self.last_use_budget)))
    }

    /// The fleet of the webhook with this token.
    pub fn fleet_of_token(&self, hash: &TokenHash, now: Timestamp) -> Option<FleetId> {
        self.webhook_by_token(hash, now).map(|(entry, _)| entry.fleet.id)
    }

    /// The present token of the webhook that is answered under the name of its fleet.
    pub fn token_of_kept_path(&self, name: &str) -> Option<TokenHash> {
        let entry = self.fleets.get(&self.kept_paths.fleet(name)?)?;
        entry.webhook.as_ref().map(|webhook| webhook.webhook.token.hash())
    }

    /// The webhook of this token: its current one, or a replaced one within its grace.
    fn webhook_by_token(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Option<(&FleetEntry, &WebhookEntry)> {
        let entry = self.fleets.get(self.tokens.get(hash)?)?;
        let webhook = entry.webhook.as_ref()?;
        let is_current = webhook.webhook.token.hash() == *hash;
        let is_answered = is_current || webhook.webhook.previous_at(now).is_some();
        is_answered.then_some((entry, webhook))
    }

    /// Gives a fleet the webhook of this row, in the place of the one that it has.
    pub(super) fn set_webhook(&mut self, webhook: Webhook) {
        let former = self.take_entry(webhook.fleet_id);
        let Some(entry) = self.fleets.get_mut(&webhook.fleet_id) else { return };
        self.tokens.insert(webhook.token.hash(), webhook.fleet_id);
        if let Some(previous) = &webhook.previous {
            self.tokens.insert(previous.token.hash(), webhook.fleet_id);
        }
        let last_use = LastUse::new(webhook.last_used_at);
        entry.webhook = Some(WebhookEntry {
            webhook,
            bucket: former.map(|former| former.bucket).unwrap_or_default(),
            last_use,
        });
    }

    pub(super) fn take_webhook(&mut self, id: FleetId) -> Vec<Change> {
        let taken = self.take_entry(id);
        taken.map(|it| Change::RemoveWebhook(it.webhook.token.hash())).into_iter().collect()
    }

    /// Takes a fleet's webhook away. None of its tokens is known any more.
    fn take_entry(&mut self, id: FleetId) -> Option<WebhookEntry> {
        let taken = self.fleets.get_mut(&id)?.webhook.take()?;
        self.tokens.remove(&taken.webhook.token.hash());
        if let Some(previous) = &taken.webhook.previous {
            self.tokens.remove(&previous.token.hash());
        }
        Some(taken)
    }
}

impl WebhookEntry {
    /// The webhook with its last use, without a previous token whose grace has passed.
    fn current(&self, now: Timestamp) -> Webhook {
        let mut webhook = self.webhook.clone();
        webhook.last_used_at = self.last_use.latest();
        webhook.previous = self.webhook.previous_at(now).cloned();
        webhook.handshake_until = self.webhook.handshake_until_at(now);
        webhook
    }

    fn note_use(&self, now: Timestamp, budget: &LastUseBudget) -> Option<Change> {
        let is_stored = self.last_use.note(now, || budget.admit(now));
        is_stored.then(|| Change::PutWebhook(self.current(now)))
    }
}

fn no_webhook() -> EngineError {
    EngineError::NotFound("the fleet has no webhook; add one first".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_uses_per_second_are_bounded() {
        let budget = LastUseBudget::default();
        let at = |millis: i64| Timestamp::from_millis(1_700_000_000_000 + millis);
        let admitted = |millis| (0..1000).filter(|_| budget.admit(at(millis))).count();
        assert_eq!(admitted(0), USES_STORED_PER_SECOND as usize);
        assert_eq!(admitted(999), 0);
        assert_eq!(admitted(1000), USES_STORED_PER_SECOND as usize);
    }
}
