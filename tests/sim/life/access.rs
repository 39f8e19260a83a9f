//! Making and revoking tokens, and the audit of what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use boathook::internals::{
    AuditClass, AuditEntry, AuditFilter, NewAccessToken, RequestId, Role, Scope, Timestamp,
};

use super::Life;

/// Tokens at a time.
const TOKENS_MAX: usize = 8;

/// What a server must know of tokens, and must have in its audit.
#[derive(Default)]
pub(super) struct Access {
    /// By name, when they expire.
    tokens: BTreeMap<String, Option<Timestamp>>,
    audit: BTreeSet<RequestId>,
    names: u32,
}

impl Life {
    pub(super) fn edit_access(&mut self) {
        match self.random.u8(..3) {
            0 if self.access.tokens.len() < TOKENS_MAX => self.create_token(),
            1 => self.revoke_token(),
            _ => self.audit(),
        }
    }

    fn create_token(&mut self) {
        self.access.names += 1;
        let name = format!("token {}", self.access.names);
        let life = self.random.bool().then(|| Duration::from_secs(self.random.u64(1..200_000)));
        let expires_at = life.map(|life| self.machine.now().plus(life));
        let new = NewAccessToken {
            name: name.clone(),
            role: Role::Reader,
            scope: Scope::Everything,
            expires_in: life,
            created_by: "sim".to_owned(),
        };
        self.note(format!("{name} until {expires_at:?}"));
        let outcome = self.call(|engine| engine.create_access_token(new));
        if let Some(Err(error)) = &outcome.result {
            panic!("{error}");
        }
        if outcome.result.is_some() || outcome.is_durable() {
            self.access.tokens.insert(name, expires_at);
        }
    }

    fn revoke_token(&mut self) {
        let tokens = self.engine().access_tokens();
        if tokens.is_empty() {
            return;
        }
        let token = &tokens[self.random.usize(..tokens.len())];
        self.note(format!("{} is revoked", token.name));
        let outcome = self.call(|engine| engine.revoke_access_token(token.id));
        if outcome.result.is_some() || outcome.is_durable() {
            self.access.tokens.remove(&token.name);
        }
    }

    fn audit(&mut self) {
        let now = self.machine.now();
        let class = AuditClass::ALL[self.random.usize(..2)];
        let entry = AuditEntry {
            id: RequestId::arriving(now),
            at: now,
            by: "sim".to_owned(),
            is_session: false,
            remote_addr: "192.0.2.1".to_owned(),
            action: "delete fleet".to_owned(),
            object: "default/site".to_owned(),
            class,
        };
        let id = entry.id;
        let outcome = self.call(|engine| engine.audit(entry));
        if outcome.result.is_some() || outcome.is_durable() {
            self.access.audit.insert(id);
        }
    }

    /// The tokens and the audit that a server must have.
    pub(super) fn check_access(&self) {
        let (engine, now) = (self.engine(), self.machine.now());
        let tokens = engine.access_tokens();
        let known: BTreeMap<String, Option<Timestamp>> =
            tokens.iter().map(|token| (token.name.clone(), token.expires_at)).collect();
        assert_eq!(known, self.access.tokens, "every token that was made and not revoked");
        for token in tokens {
            let opens = engine.holder_of(token.id).is_some();
            assert_eq!(opens, token.expires_at.is_none_or(|at| now < at), "{}", token.name);
        }
        let limit = self.access.audit.len() + 1;
        let page = engine.audited(&AuditFilter { limit, ..AuditFilter::default() });
        let ids: Vec<RequestId> = page.entries.iter().map(|entry| entry.id).collect();
        assert!(
            ids.iter().eq(self.access.audit.iter().rev()),
            "all that was done, the latest first"
        );
    }
}
