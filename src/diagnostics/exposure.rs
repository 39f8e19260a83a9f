//! The reach of the listeners, their encryption, and trust in proxies.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Facts;
use super::listening::bind_advice;
use crate::config::{HttpUrl, Reach, Settings};
use crate::listener::forwarding::Forwarding;
use crate::model::finding::Finding;
use crate::model::network::Networks;

const ADMIN: &str = "admin";
const HOOKS: &str = "hooks";
const SENDERS: &str = "senders";
const PROXIES: &str = "proxies";
const TLS: &str = "tls";

/// The checks of a running server.
pub(super) fn examine(facts: &Facts, is_container: bool) -> Vec<Finding> {
    let settings = &facts.settings;
    let has_tls = settings.tls.is_some();
    let public = settings.public_url.as_ref().and_then(|url| url.as_str().parse().ok());
    let mut findings = vec![
        admin(settings.admin_listen, is_container),
        senders(settings.hooks_listen, has_tls, public.as_ref()),
        proxies(
            &settings.trusted_proxies,
            &facts.forwarding,
            !has_tls && public.is_some_and(|url| url.is_https),
        ),
    ];
    findings.extend(settings.tls.as_ref().and_then(|files| key(&files.key)));
    findings
}

/// Whether a server could listen on the addresses in `settings`.
pub(super) fn free_addresses(settings: &Settings) -> Vec<Finding> {
    let addresses = [
        (HOOKS, "hooks_listen", settings.hooks_listen),
        (ADMIN, "admin_listen", settings.admin_listen),
    ];
    let tried = addresses.map(|(check, setting, address)| match TcpListener::bind(address) {
        Ok(_) => Finding::ok(check, format!("{address} is free")),
        Err(error) => {
            let what = format!("no server could listen on {address}: {error}");
            Finding::problem(check, what, bind_advice(&error, address, setting))
        }
    });
    tried.into()
}

fn admin(address: SocketAddr, is_container: bool) -> Finding {
    let ip = address.ip().to_canonical();
    if ip.is_loopback() {
        return Finding::ok(ADMIN, format!("{address}, for this machine alone"));
    }
    let what = format!(
        "{address} is open to the network without TLS: an eavesdropper there gets the token, and \
         with it everything that the server may do"
    );
    let remedy = "set `admin_listen` to 127.0.0.1:9001 and come by `ssh -L 9001:127.0.0.1:9001 HOST`, \
                  or put a proxy with TLS in front of that";
    // The host of a container decides about the reach.
    if is_container && ip.is_unspecified() || Reach::of_address(ip) == Reach::Network {
        return Finding::warning(ADMIN, what, remedy);
    }
    Finding::problem(ADMIN, what, remedy)
}

fn senders(address: SocketAddr, has_tls: bool, public: Option<&HttpUrl>) -> Finding {
    let scheme = if has_tls { "https" } else { "http" };
    let Some(public) = public else {
        if Reach::of_address(address.ip()) == Reach::Machine {
            let what = format!("{scheme}://{address} is no address that senders elsewhere can use");
            let remedy = "set `public_url` to what they do use, which webhook URLs then begin with";
            return Finding::warning(SENDERS, what, remedy);
        }
        if !has_tls {
            return in_clear(&format!("http://{address}"));
        }
        return Finding::ok(SENDERS, format!("https://{address}"));
    };
    if public.reach() == Reach::Machine {
        let what =
            format!("only this machine can reach {}, which webhook URLs begin with", public.host);
        let remedy = "set `public_url` to an address that senders elsewhere use";
        return Finding::warning(SENDERS, what, remedy);
    }
    if !public.is_https {
        return in_clear(&format!("http://{}", public.host));
    }
    Finding::ok(SENDERS, format!("{scheme}://{address}, known as {}", public.host))
}

fn in_clear(base: &str) -> Finding {
    let what = format!(
        "{base} is not encrypted: its URLs are secrets, and an eavesdropper on the way gets them"
    );
    Finding::warning(
        SENDERS,
        what,
        "set `tls_cert` and `tls_key`, or put a proxy with TLS in front",
    )
}

/// `is_behind_one`: senders use TLS and the listener does not, so that there must be a proxy.
fn proxies(trusted: &Networks, seen: &Forwarding, is_behind_one: bool) -> Finding {
    let believe = |address: IpAddr| format!("trusted_proxies = [\"{address}\"]");
    if trusted.has_everybody() {
        let what = "every address is a trusted proxy: any sender can claim any address";
        return Finding::problem(PROXIES, what, "name the proxy alone in `trusted_proxies`");
    }
    if let Some(address) = seen.not_believed() {
        let what = format!(
            "{address} says for whom it sends on (X-Forwarded-For), and is not believed: to `allow` \
             lists, rate limits and the log all its requests come from {address}"
        );
        let remedy = format!(
            "if that is your proxy: {}; if not, a sender claims a false address, without effect",
            believe(address)
        );
        return Finding::warning(PROXIES, what, remedy);
    }
    if is_behind_one && trusted.is_empty() {
        let what = "`public_url` has https and the listener has not, so there is a proxy in front, \
                    but none is trusted: to `allow` lists, rate limits and the log every request \
                    comes from it";
        let remedy = "trusted_proxies = [\"127.0.0.1\", \"::1\"], if it is on this machine";
        return Finding::warning(PROXIES, what, remedy);
    }
    if let Some(address) = seen.silent() {
        let what = format!(
            "{address} is trusted and does not say for whom it sends on: to `allow` lists, rate \
             limits and the log its requests come from itself"
        );
        let remedy = "have it set X-Forwarded-For; or take it out of `trusted_proxies`, if these \
                      were requests of its own";
        return Finding::warning(PROXIES, what, remedy);
    }
    match (trusted.is_empty(), seen.believed()) {
        (true, _) => Finding::ok(PROXIES, "none trusted, none seen"),
        (false, None) => Finding::ok(PROXIES, format!("{trusted} trusted, none seen yet")),
        (false, Some(address)) => Finding::ok(PROXIES, format!("{address} seen and trusted")),
    }
}

/// Whether other users may read the private key of the certificate.
fn key(path: &Path) -> Option<Finding> {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) => {
            let what = format!("{shown} cannot be read again at a reload: {error}");
            Some(Finding::warning(TLS, what, "let the server's user read it"))
        }
        Ok(found) if found.permissions().mode() & 0o007 != 0 => {
            let what = format!("every user may read the private key {shown}");
            Some(Finding::problem(TLS, what, format!("chmod o= {shown}")))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::Level::{self, Ok, Problem, Warning};

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_admin_listener_is_for_this_machine() {
        let level = |at: &str, is_container| admin(address(at), is_container).level;
        for (at, expected) in [
            ("127.0.0.1:9001", Ok),
            ("[::1]:9001", Ok),
            ("10.0.0.7:9001", Warning),
            ("[fd00::1]:9001", Warning),
            ("0.0.0.0:9001", Problem),
            ("[::]:9001", Problem),
            ("203.0.113.7:9001", Problem),
        ] {
            assert_eq!(level(at, false), expected, "{at}");
        }
        assert_eq!(level("0.0.0.0:9001", true), Warning);
    }

    #[test]
    fn senders_need_an_address_and_tls() {
        let level = |at: &str, has_tls, public: Option<&str>| {
            senders(address(at), has_tls, public.map(|url| url.parse().unwrap()).as_ref()).level
        };
        assert_eq!(level("127.0.0.1:9000", false, None), Warning);
        assert_eq!(level("0.0.0.0:443", true, None), Warning);
        assert_eq!(level("203.0.113.7:443", true, None), Ok);
        assert_eq!(level("203.0.113.7:80", false, None), Warning);
        assert_eq!(level("127.0.0.1:9000", false, Some("https://hooks.example.com")), Ok);
        assert_eq!(level("127.0.0.1:9000", false, Some("http://hooks.example.com")), Warning);
        assert_eq!(level("127.0.0.1:9000", false, Some("http://localhost:9000")), Warning);
    }

    #[test]
    fn proxies_are_trusted_when_they_are_there() {
        let level = |trusted: &str, peer: Option<(&str, &str)>, is_behind_one| -> Level {
            let trusted: Networks = trusted.parse().unwrap();
            let seen = Forwarding::default();
            if let Some((peer, header)) = peer {
                seen.note(peer.parse().unwrap(), [header].into_iter(), &trusted);
            }
            proxies(&trusted, &seen, is_behind_one).level
        };
        let named = |peer| Some((peer, "X-Forwarded-For"));
        assert_eq!(level("", None, false), Ok);
        assert_eq!(level("", None, true), Warning);
        assert_eq!(level("", named("127.0.0.1"), false), Warning);
        assert_eq!(level("127.0.0.1", named("127.0.0.1"), true), Ok);
        assert_eq!(level("127.0.0.1", Some(("127.0.0.1", "Host")), true), Warning);
        assert_eq!(level("127.0.0.1", None, true), Ok);
        assert_eq!(level("0.0.0.0/0", None, true), Problem);
    }
}
