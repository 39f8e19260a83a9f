//! The audit: noting what was done, and listing it.

use std::net::IpAddr;

use serde::Serialize;

use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::AuditFilter;
use crate::model::access::Principal;
use crate::model::audit::{AuditClass, AuditEntry, shortened};
use crate::model::clock::Timestamp;
use crate::model::ids::RequestId;

#[derive(Serialize)]
struct AuditJson<'a> {
    id: RequestId,
    at: Timestamp,
    by: &'a str,
    session: bool,
    remote_addr: &'a str,
    action: &'a str,
    object: &'a str,
}

pub(super) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let query = &call.query;
    query.allow_only(&["by", "since", "before", "limit"])?;
    let page = admin.engine.audited(&AuditFilter {
        by: query.get("by").map(str::to_owned),
        since: query.parsed("since")?,
        before: query.parsed("before")?,
        limit: query.limit()?,
    });
    let shown: Vec<_> = page.entries.iter().map(AuditJson::from).collect();
    Reply::page(&shown, page.next_before.map(|last| last.to_string()))
}

/// A change that a request has made.
pub(super) struct Done {
    /// The id of the request.
    pub(super) id: RequestId,
    pub(super) by: Principal,
    pub(super) remote_addr: IpAddr,
    pub(super) action: &'static str,
    pub(super) class: AuditClass,
    pub(super) object: String,
}

impl AdminHandler {
    /// Notes in the audit what was done, durably.
    pub(super) fn note(&self, done: Done) {
        let Done { id, by, remote_addr, action, class, object } = done;
        self.engine.audit(AuditEntry {
            id,
            at: id.time(),
            by: self.name_of(&by),
            is_session: by.is_session,
            remote_addr: remote_addr.to_canonical().to_string(),
            action: action.to_owned(),
            object: shortened(&object),
            class,
        });
    }

    /// The name of what a path is about: looked up beforehand, since afterwards it may be gone.
    pub(super) fn object_of(&self, path: &str, segments: &[String]) -> String {
        let first = segments.first().map_or("", String::as_str);
        let engine = &self.engine;
        let named = match path.split('/').nth(3) {
            Some("fleets") => {
                let view = first.parse().ok().and_then(|id| engine.fleet(id).ok());
                view.map(|view| format!("{}/{}", view.project_name, view.fleet.name))
            }
            Some("projects") => {
                let project = first.parse().ok().and_then(|id| engine.project(id).ok());
                project.map(|project| project.name)
            }
            Some("tokens") => {
                let token = first.parse().ok().and_then(|id| engine.access_token(id));
                token.map(|token| token.name)
            }
            _ => None,
        };
        named.unwrap_or_else(|| first.to_owned())
    }
}

impl<'a> From<&'a AuditEntry> for AuditJson<'a> {
    fn from(entry: &'a AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at,
            by: &entry.by,
            session: entry.is_session,
            remote_addr: &entry.remote_addr,
            action: &entry.action,
            object: &entry.object,
        }
    }
}
