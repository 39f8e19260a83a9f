//! The proxies that have forwarded requests, and whether they were believed: an operator may have put a
//! proxy in front and not set `trusted_proxies`, or the other way round.

use std::net::IpAddr;
use std::sync::OnceLock;

use crate::model::client_address::names_client;
use crate::model::network::Networks;

/// The first of each kind that was seen since the server started.
#[derive(Debug, Default)]
pub struct Forwarding {
    /// Named a client, and is no trusted proxy.
    not_believed: OnceLock<IpAddr>,
    /// Is a trusted proxy, and named a client.
    believed: OnceLock<IpAddr>,
    /// Is a trusted proxy, and named none.
    silent: OnceLock<IpAddr>,
}

impl Forwarding {
    /// Takes note of a request that `peer` sent with headers of these names.
    pub fn note<'h>(
        &self,
        peer: IpAddr,
        names: impl Iterator<Item = &'h str>,
        trusted_proxies: &Networks,
    ) {
        let is_trusted = trusted_proxies.contains(peer);
        let is_known = match is_trusted {
            true => self.believed.get().is_some(),
            false => self.not_believed.get().is_some(),
        };
        if is_known {
            return;
        }
        let first = match (is_trusted, names_client(names)) {
            (true, true) => &self.believed,
            (true, false) => &self.silent,
            (false, true) => &self.not_believed,
            (false, false) => return,
        };
        // The first one stays.
        let _ = first.set(peer.to_canonical());
    }

    /// A peer that named clients and was not believed.
    pub fn not_believed(&self) -> Option<IpAddr> {
        self.not_believed.get().copied()
    }

    /// A trusted proxy that names its clients.
    pub fn believed(&self) -> Option<IpAddr> {
        self.believed.get().copied()
    }

    /// A trusted proxy that has named no client, when none of them has.
    pub fn silent(&self) -> Option<IpAddr> {
        self.silent.get().copied().filter(|_| self.believed.get().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_what_they_send() {
        let trusted: Networks = "192.0.2.1".parse().unwrap();
        let forwarding = Forwarding::default();
        let note = |peer: &str, names: &[&'static str]| {
            forwarding.note(peer.parse().unwrap(), names.iter().copied(), &trusted);
        };
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        note("198.51.100.1", &["Host"]);
        assert_eq!(forwarding.not_believed(), None);
        note("::ffff:127.0.0.1", &["Host", "x-forwarded-for"]);
        note("198.51.100.1", &["Forwarded"]);
        assert_eq!(forwarding.not_believed(), address("127.0.0.1"), "the first of them");
        note("192.0.2.1", &["Host"]);
        assert_eq!(forwarding.silent(), address("192.0.2.1"));
        note("192.0.2.1", &["FORWARDED"]);
        assert_eq!((forwarding.silent(), forwarding.believed()), (None, address("192.0.2.1")));
    }
}
