//! Whether the server works, as far as it can tell itself: it asks its webhook listener for its
//! health over the listener's own socket, as any client could, and has the committer make a commit.
//!
//! Whatever the listener answers will do: a full queue, a full disk or too many connections are for
//! people to see to, and no reason to restart. A listener without an accepting thread does not answer.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use crate::os::tls_roots::{is_tls_alert, unverified_tls_config};

/// See the module.
pub struct SelfCheck {
    hooks: SocketAddr,
    is_tls: bool,
    commits: Box<dyn Fn(Duration) -> bool + Send>,
    /// Whether the listener has ever answered. A socket may be out of the server's own reach, by a
    /// firewall or for being bound to a device; that is no reason to restart either.
    has_answered: bool,
    has_warned: bool,
}

impl SelfCheck {
    /// Of the webhook listener at `hooks`, and of what `commits` tells: whether a commit gets
    /// through within a time.
    pub fn new(
        hooks: SocketAddr,
        is_tls: bool,
        commits: impl Fn(Duration) -> bool + Send + 'static,
    ) -> Self {
        let (hooks, commits) = (reachable(hooks), Box::new(commits));
        Self { hooks, is_tls, commits, has_answered: false, has_warned: false }
    }

    /// Checks both, in about the time `within`.
    ///
    /// # Errors
    /// What does not work, for a person.
    pub fn run(&mut self, within: Duration) -> Result<(), String> {
        if !(self.commits)(within / 2) {
            return Err("the database makes no commits".to_owned());
        }
        match self.ask(within / 2) {
            Ok(()) => self.has_answered = true,
            Err(error) if self.has_answered => {
                return Err(format!("the webhook listener does not answer: {error}"));
            }
            Err(error) if !self.has_warned => {
                self.has_warned = true;
                log::warn!(
                    address:% = self.hooks, error:%;
                    "the server cannot reach its own webhook listener; the watchdog leaves it out until it can"
                );
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn ask(&self, within: Duration) -> Result<(), Error> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_global(Some(within))
            .tls_config(unverified_tls_config())
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), Fixed(self.hooks));
        let scheme = if self.is_tls { "https" } else { "http" };
        match agent.get(format!("{scheme}://localhost/healthz")).call() {
            // A listener without a free place tells a client of TLS no more than this.
            Err(error) if is_tls_alert(&error) => Ok(()),
            asked => asked.map(drop),
        }
    }
}

/// Resolves every name to one address.
#[derive(Debug)]
struct Fixed(SocketAddr);

impl Resolver for Fixed {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut resolved = self.empty();
        resolved.push(self.0);
        Ok(resolved)
    }
}

impl fmt::Debug for SelfCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfCheck").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

/// Where a listener on `address` can be reached from its own machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const WITHIN: Duration = Duration::from_millis(200);

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Answers the next connection with `answer`, and no other one.
    fn answer_once(listener: &TcpListener, answer: &'static [u8]) -> thread::JoinHandle<()> {
        let listener = listener.try_clone().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            let _ = stream.read(&mut [0; 512]);
        })
    }

    #[test]
    fn overload_is_an_answer_and_silence_is_none() {
        for is_tls in [false, true] {
            let (listener, address) = listener();
            let mut check = SelfCheck::new(address, is_tls, |_| true);
            let answer: &[u8] = match is_tls {
                true => &[21, 3, 3, 0, 2, 2, 80],
                false => b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
            };
            let answering = answer_once(&listener, answer);
            assert_eq!(check.run(WITHIN * 100), Ok(()));
            answering.join().unwrap();
            // The kernel still completes connections; no thread accepts them.
            assert!(check.run(WITHIN).unwrap_err().contains("does not answer"));
            drop(listener);
            assert!(check.run(WITHIN).is_err());
        }
    }

    #[test]
    fn a_listener_out_of_reach_is_left_out_until_it_has_answered() {
        let (absent, address) = listener();
        drop(absent);
        let mut check = SelfCheck::new(address, false, |_| true);
        assert_eq!(check.run(WITHIN), Ok(()));
        let listener = TcpListener::bind(address).unwrap();
        let answering = answer_once(&listener, b"HTTP/1.1 200 OK\r\n\r\nok");
        assert_eq!(check.run(WITHIN * 100), Ok(()));
        answering.join().unwrap();
        assert!(check.run(WITHIN).is_err());
    }

    #[test]
    fn without_commits_nothing_is_well() {
        let (_listener, address) = listener();
        let mut check = SelfCheck::new(address, false, |within| {
            assert_eq!(within, WITHIN / 2);
            false
        });
        assert_eq!(check.run(WITHIN), Err("the database makes no commits".to_owned()));
    }

    #[test]
    fn any_address_is_reached_on_this_machine() {
        for (listens, expected) in [
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("[fe80::1%3]:9", "[fe80::1%3]:9"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
