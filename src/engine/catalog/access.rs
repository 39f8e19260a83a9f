//! The named tokens of the admin API: which secret is which, what its holder may do, and when it was
//! last used. Secrets are looked up by their hashes; how long that takes tells nothing about them.

use std::collections::HashMap;
use std::time::Duration;

use crate::engine::EngineError;
use crate::engine::catalog::Catalog;
use crate::engine::catalog::last_use::LastUse;
use crate::model::access::{AccessToken, Principal, Role, Scope};
use crate::model::change::Change;
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, ProjectId, TokenId};
use crate::model::name::{checked_name, is_same_name};
use crate::model::server_proof::TokenHint;
use crate::model::webhook::TokenHash;

/// Named tokens: several for each of a hundred people and machines.
const ACCESS_TOKENS_MAX: usize = 1_000;
/// Longest life of a token that expires: longer ones are meant to last.
const EXPIRES_IN_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// What a new token is to be.
#[derive(Clone, Debug)]
pub struct NewAccessToken {
    pub name: String,
    pub role: Role,
    pub scope: Scope,
    /// `None`: it does not expire.
    pub expires_in: Option<Duration>,
    /// The name of the token that makes it.
    pub created_by: String,
}

/// See the module.
#[derive(Default)]
pub(super) struct AccessTokens {
    by_hash: HashMap<TokenHash, Entry>,
    by_id: HashMap<TokenId, TokenHash>,
    by_hint: HashMap<TokenHint, TokenHash>,
}

/// A token with the state that every use updates under a shared lock.
struct Entry {
    token: AccessToken,
    last_use: LastUse,
}

impl AccessTokens {
    pub(super) fn new(rows: impl IntoIterator<Item = (TokenHash, AccessToken)>) -> Self {
        let mut tokens = Self::default();
        rows.into_iter().for_each(|(hash, token)| tokens.insert(hash, token));
        tokens
    }

    fn insert(&mut self, hash: TokenHash, token: AccessToken) {
        self.by_id.insert(token.id, hash);
        self.by_hint.insert(TokenHint::of(hash.as_bytes()), hash);
        let last_use = LastUse::new(token.last_used_at);
        self.by_hash.insert(hash, Entry { token, last_use });
    }

    fn remove(&mut self, id: TokenId) -> Option<(TokenHash, AccessToken)> {
        let hash = self.by_id.remove(&id)?;
        self.by_hint.remove(&TokenHint::of(hash.as_bytes()));
        self.by_hash.remove(&hash).map(|entry| (hash, entry.token))
    }

    fn by_id(&self, id: TokenId) -> Option<&Entry> {
        self.by_hash.get(self.by_id.get(&id)?)
    }
}

impl Catalog {
    /// The same with these tokens.
    pub fn with_access_tokens(
        self,
        rows: impl IntoIterator<Item = (TokenHash, AccessToken)>,
    ) -> Self {
        Self { access: AccessTokens::new(rows), ..self }
    }

    /// Every named token, by name.
    pub fn access_tokens(&self) -> Vec<AccessToken> {
        let mut tokens: Vec<_> = self.access.by_hash.values().map(Entry::current).collect();
        tokens.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        tokens
    }

    /// Adds a token whose secret has this hash.
    ///
    /// # Errors
    /// When its name is taken or no name, its project or fleet does not exist, or there are too many.
    pub fn create_access_token(
        &mut self,
        new: NewAccessToken,
        hash: TokenHash,
        now: Timestamp,
    ) -> Result<(AccessToken, Vec<Change>), EngineError> {
        let NewAccessToken { name, role, scope, expires_in, created_by } = new;
        let name =
            checked_name(&name).map_err(|error| EngineError::Invalid(format!("name: {error}")))?;
        if let Some(same) =
            self.access.by_hash.values().find(|entry| is_same_name(&entry.token.name, &name))
        {
            let state = if same.token.is_expired(now) { ", which has expired" } else { "" };
            return Err(EngineError::Conflict(format!(
                "there is a token {name:?} already{state}; revoke it first, or choose another name"
            )));
        }
        if self.access.by_hash.len() >= ACCESS_TOKENS_MAX {
            return Err(EngineError::Conflict(format!(
                "there are {ACCESS_TOKENS_MAX} tokens; revoke some that have expired or are unused"
            )));
        }
        match scope {
            Scope::Fleet(fleet) => {
                self.entry(fleet)?;
            }
            Scope::Project(project) => {
                let known = self.project(project);
                known.ok_or_else(|| {
                    EngineError::NotFound(format!("there is no project {project}"))
                })?;
            }
            Scope::Everything => {}
        }
        if expires_in.is_some_and(|life| life.is_zero() || life > EXPIRES_IN_MAX) {
            return Err(EngineError::Invalid(
                "a token expires after at least a second and at most 100 years".to_owned(),
            ));
        }
        let token = AccessToken {
            id: TokenId::random(),
            name,
            role,
            scope,
            created_at: now,
            created_by,
            expires_at: expires_in.map(|life| now.plus(life)),
            last_used_at: None,
        };
        self.access.insert(hash, token.clone());
        Ok((token.clone(), vec![Change::PutAccessToken { hash, token }]))
    }

    /// Removes a token: it opens nothing any more.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn revoke_access_token(
        &mut self,
        id: TokenId,
    ) -> Result<(AccessToken, Vec<Change>), EngineError> {
        let removed = self.access.remove(id);
        let (hash, token) = removed
            .ok_or_else(|| EngineError::NotFound(format!("there is no token {id} any more")))?;
        Ok((token, vec![Change::RemoveAccessToken(hash)]))
    }

    /// The holder of the token whose secret has this hash, and sometimes a change that stores the use.
    pub fn use_access_token(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Option<(Principal, Option<Change>)> {
        let entry = self.access.by_hash.get(hash).filter(|entry| !entry.token.is_expired(now))?;
        let token = entry.note_use(now);
        Some((entry.principal(), token.map(|token| Change::PutAccessToken { hash: *hash, token })))
    }

    /// The holder of a token by its id, unless it was revoked or has expired.
    pub fn holder_of(&self, id: TokenId, now: Timestamp) -> Option<Principal> {
        let entry = self.access.by_id(id).filter(|entry| !entry.token.is_expired(now))?;
        Some(entry.principal())
    }

    /// A token by its id.
    pub fn access_token(&self, id: TokenId) -> Option<AccessToken> {
        self.access.by_id(id).map(Entry::current)
    }

    /// The hash of the token that a client is about to send, by its hint.
    pub fn hinted_token(&self, hint: TokenHint, now: Timestamp) -> Option<TokenHash> {
        let hash = self.access.by_hint.get(&hint)?;
        let entry = self.access.by_hash.get(hash)?;
        (!entry.token.is_expired(now)).then_some(*hash)
    }

    /// What a scope contains.
    pub fn reach(&self, scope: Scope) -> Reach {
        let project_of = |id: &FleetId| self.fleets.get(id).map(|entry| entry.fleet.project_id);
        match scope {
            Scope::Everything => Reach::Everything,
            Scope::Fleet(fleet) => Reach::Fleet { fleet, project: project_of(&fleet) },
            Scope::Project(project) => {
                let fleets = self.fleets.keys().filter_map(|id| Some((*id, project_of(id)?)));
                Reach::Project { project, fleets: fleets.collect() }
            }
        }
    }
}

impl Entry {
    fn principal(&self) -> Principal {
        let AccessToken { id, role, scope, .. } = self.token;
        Principal { token: Some(id), role, scope, is_session: false }
    }

    /// The token with its last use.
    fn current(&self) -> AccessToken {
        AccessToken { last_used_at: self.last_use.latest(), ..self.token.clone() }
    }

    /// Notes a use. Returns the row when it has to be stored again: that is once in a while.
    fn note_use(&self, now: Timestamp) -> Option<AccessToken> {
        self.last_use.note(now, || true).then(|| self.current())
    }
}

/// What a principal sees: the fleets of its scope, and what is theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Not even what everybody sees: of a request without a principal.
    #[default]
    Nothing,
    Everything,
    Project {
        project: ProjectId,
        /// The projects of all fleets.
        fleets: HashMap<FleetId, ProjectId>,
    },
    Fleet {
        fleet: FleetId,
        /// `None`: the fleet is gone.
        project: Option<ProjectId>,
    },
}

impl Reach {
    /// Whether nothing is out of reach.
    pub fn is_everything(&self) -> bool {
        *self == Self::Everything
    }

    /// Whether it has a fleet, or what a fleet has left. `recorded` is the project that a run of the
    /// fleet names; the fleet's own counts as long as the fleet exists.
    pub fn has_fleet(&self, fleet: FleetId, recorded: Option<ProjectId>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Project { project, fleets } => {
                fleets.get(&fleet).copied().or(recorded) == Some(*project)
            }
            Self::Fleet { fleet: own, .. } => fleet == *own,
        }
    }

    /// Whether it has a project, or a fleet of the project.
    pub fn has_project(&self, id: ProjectId) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Project { project, .. } => *project == id,
            Self::Fleet { project, .. } => *project == Some(id),
        }
    }

    /// Whether it has all that a token of this scope reaches.
    pub fn has_scope(&self, scope: Scope) -> bool {
        match (self, scope) {
            (Self::Everything, _) => true,
            (Self::Project { project, .. }, Scope::Project(other)) => *project == other,
            (_, Scope::Fleet(fleet)) => self.has_fleet(fleet, None),
            _ => false,
        }
    }

    /// The one fleet that it has, if that is all.
    pub fn only_fleet(&self) -> Option<FleetId> {
        match self {
            Self::Fleet { fleet, .. } => Some(*fleet),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis((1_700_000_000 + seconds) * 1000)
    }

    fn token(expires_at: Option<Timestamp>) -> AccessToken {
        AccessToken {
            id: TokenId::random(),
            name: "ci".to_owned(),
            role: Role::Operator,
            scope: Scope::Everything,
            created_at: at(0),
            created_by: "admin.token".to_owned(),
            expires_at,
            last_used_at: None,
        }
    }

    #[test]
    fn uses_are_stored_once_a_minute() {
        let tokens = AccessTokens::new([(hash(1), token(None))]);
        let entry = &tokens.by_hash[&hash(1)];
        let stored = |seconds| entry.note_use(at(seconds)).map(|token| token.last_used_at);
        assert_eq!(stored(0), Some(Some(at(0))));
        assert_eq!((stored(1), stored(59)), (None, None));
        assert_eq!(entry.current().last_used_at, Some(at(59)));
        assert_eq!(stored(60), Some(Some(at(60))));
        // A clock that was put back.
        assert_eq!(stored(-3600), Some(Some(at(-3600))));
    }

    fn hash(byte: u8) -> TokenHash {
        TokenHash::from_slice(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_removed_token_is_found_in_no_way() {
        let kept = token(None);
        let gone = AccessToken { id: TokenId::random(), ..token(None) };
        let mut tokens = AccessTokens::new([(hash(1), kept.clone()), (hash(2), gone.clone())]);
        assert_eq!(tokens.remove(gone.id), Some((hash(2), gone.clone())));
        assert_eq!(tokens.remove(gone.id), None);
        assert_eq!(tokens.by_hash.len(), 1);
        assert!(tokens.by_id(gone.id).is_none() && tokens.by_id(kept.id).is_some());
        assert_eq!(tokens.by_hint.len(), 1);
    }

    #[test]
    fn a_project_has_the_fleets_that_are_in_it_now() {
        let (project, other) = (ProjectId::random(), ProjectId::random());
        let (own, moved, deleted) = (FleetId::random(), FleetId::random(), FleetId::random());
        let fleets = HashMap::from([(own, project), (moved, other)]);
        let reach = Reach::Project { project, fleets };
        assert!(reach.has_fleet(own, None) && reach.has_fleet(own, Some(other)));
        assert!(!reach.has_fleet(moved, Some(project)), "its new project counts");
        assert!(reach.has_fleet(deleted, Some(project)) && !reach.has_fleet(deleted, None));
        assert!(!reach.has_fleet(deleted, Some(other)));
        assert!(reach.has_scope(Scope::Fleet(own)) && !reach.has_scope(Scope::Fleet(moved)));
        assert!(reach.has_scope(Scope::Project(project)) && !reach.has_scope(Scope::Everything));

        let reach = Reach::Fleet { fleet: own, project: Some(project) };
        assert!(reach.has_fleet(own, None) && !reach.has_fleet(moved, Some(project)));
        assert!(reach.has_project(project) && !reach.has_scope(Scope::Project(project)));
        assert!(!Reach::Nothing.has_fleet(own, Some(project)));
    }

    #[test]
    fn a_token_expires_at_its_time() {
        let token = token(Some(at(60)));
        assert!(!token.is_expired(at(59)) && token.is_expired(at(60)));
    }
}
