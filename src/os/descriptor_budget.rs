//! File descriptors (LimitNOFILE=): raises the limit of open files, and divides it. Vessels and the
//! database come first: a vessel can start however many clients connect.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::model::limits::{GIVEN_UP_CONNECTIONS, REJECTED_CONNECTIONS};

/// The listeners with their hand-offs, the database, the log, files of the moment, connections that were
/// turned away or have given way.
const BASE: usize = 64 + 2 * (REJECTED_CONNECTIONS + GIVEN_UP_CONNECTIONS);
/// For one worker: the pipes, the pidfd and the files of its vessel.
const PER_WORKER: usize = 8;
/// For one connection: its socket, and the file of a large body.
const PER_CONNECTION: usize = 2;
/// For one request under way: what wakes its connection's thread, and the file that its response is
/// read from.
const PER_REQUEST: usize = 2;

/// How much a server does at a time. Each of these takes descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    pub workers: usize,
    /// Connections to each listener.
    pub connections: usize,
    /// Requests under way at both listeners. A connection has one at most.
    pub requests: usize,
}

impl Concurrency {
    fn fixed(self) -> usize {
        self.workers.saturating_mul(PER_WORKER).saturating_add(BASE)
    }

    fn for_clients(self) -> usize {
        let connections = self.connections.saturating_mul(2);
        let requests = self.requests.min(connections);
        connections
            .saturating_mul(PER_CONNECTION)
            .saturating_add(requests.saturating_mul(PER_REQUEST))
    }

    /// The descriptors that all of it takes.
    pub fn needed(self) -> usize {
        self.fixed().saturating_add(self.for_clients())
    }

    /// The part of it for which `limit` descriptors are enough. Only connections give way, and a few are
    /// always left.
    pub fn within(self, limit: usize) -> Self {
        let left = limit.saturating_sub(self.fixed());
        if left >= self.for_clients() {
            return self;
        }
        // Either all requests can be under way, or one on each connection.
        let beside_all =
            left.saturating_sub(self.requests.saturating_mul(PER_REQUEST)) / (2 * PER_CONNECTION);
        let one_each = left / (2 * (PER_CONNECTION + PER_REQUEST));
        let least = self.connections.min(8);
        Self { connections: beside_all.max(one_each).clamp(least, self.connections), ..self }
    }
}

/// The limit of open files that the process has.
#[derive(Clone, Copy, Debug)]
pub struct OpenFileLimit {
    /// The limit that holds now.
    pub current: usize,
    /// The limit with which the process was started, if it differs. Vessels get it.
    pub given: Option<Rlimit>,
}

/// Raises the limit of open files to what `wanted` takes, as far as the hard limit allows.
pub fn raise_limit(wanted: Concurrency) -> OpenFileLimit {
    let given = getrlimit(Resource::Nofile);
    let needed = wanted.needed();
    if as_count(given.current) >= needed {
        return OpenFileLimit { current: as_count(given.current), given: None };
    }
    let raised = as_count(given.maximum).min(needed);
    let asked = Rlimit { current: Some(raised as u64), maximum: given.maximum };
    match setrlimit(Resource::Nofile, asked) {
        Ok(()) => OpenFileLimit { current: raised, given: Some(given) },
        Err(error) => {
            log::warn!(error:%; "the limit of open files cannot be raised");
            OpenFileLimit { current: as_count(given.current), given: None }
        }
    }
}

/// The files that the process may have open now.
pub fn open_file_limit() -> usize {
    as_count(getrlimit(Resource::Nofile).current)
}

fn as_count(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Concurrency = Concurrency { workers: 8, connections: 1024, requests: 137 };

    #[test]
    fn clients_share_what_vessels_leave() {
        assert_eq!(ASKED.within(usize::MAX), ASKED);
        let whole = ASKED.needed();
        assert_eq!(ASKED.within(whole), ASKED);
        for limit in [256, 300, 1024, 4096, whole - 1] {
            let granted = ASKED.within(limit);
            assert!(granted.fixed() + granted.for_clients() <= limit, "{limit}: {granted:?}");
            assert!((8..=ASKED.connections).contains(&granted.connections), "{granted:?}");
        }
        // Too few for anything; the server tries all the same.
        assert!(ASKED.within(64).connections == 8);
        assert_eq!(Concurrency { connections: 3, ..ASKED }.within(64).connections, 3);
    }
}
