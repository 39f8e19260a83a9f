//! The name in the EHLO to a mail server. Many servers refuse clients that greet as `localhost` or with a
//! name without a domain (RFC 5321 4.1.1.1).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use lettre::transport::smtp::extension::ClientId;

use crate::model::mail::MailServer;

/// The name from the settings, else the machine's own with its domain, else its address.
pub(super) fn client_id(server: &MailServer) -> ClientId {
    if let Some(hello) = &server.hello {
        return parsed(hello);
    }
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    match full_name(hostname.trim(), &hosts) {
        Some(name) => ClientId::Domain(name),
        None => literal(own_address(server).unwrap_or(Ipv4Addr::LOCALHOST.into())),
    }
}

/// `hello` is a name or, in brackets, an address; the settings are checked already.
fn parsed(hello: &str) -> ClientId {
    let address = hello.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = address.map(|it| it.strip_prefix("IPv6:").unwrap_or(it));
    match address.and_then(|address| address.parse().ok()) {
        Some(address) => literal(address),
        None => ClientId::Domain(hello.to_owned()),
    }
}

fn literal(address: IpAddr) -> ClientId {
    match address.to_canonical() {
        IpAddr::V4(address) => ClientId::Ipv4(address),
        IpAddr::V6(address) => ClientId::Ipv6(address),
    }
}

/// `hostname` with its domain: as it is, or from the line of `hosts` that names it.
fn full_name(hostname: &str, hosts: &str) -> Option<String> {
    let is_full =
        |name: &&str| name.trim_matches('.').contains('.') && !name.starts_with("localhost.");
    if is_full(&hostname) {
        return Some(hostname.to_owned());
    }
    hosts.lines().find_map(|line| {
        let mut names = line.split('#').next()?.split_whitespace().skip(1);
        let is_named = !hostname.is_empty() && names.clone().any(|name| name == hostname);
        names.find(is_full).filter(|_| is_named).map(str::to_owned)
    })
}

/// The address from which this machine reaches `server`. Sends nothing.
fn own_address(server: &MailServer) -> Option<IpAddr> {
    let unspecified: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
    unspecified.into_iter().find_map(|any| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((server.host.as_str(), server.port)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_its_name_with_a_domain() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1\tbox.example.com box # boxy.example.com\n";
        for (hostname, hosts, expected) in [
            ("mail.example.com", "", Some("mail.example.com")),
            ("box", hosts, Some("box.example.com")),
            ("boxy", hosts, None),
            ("box", "127.0.1.1 box", None),
            ("localhost", "127.0.0.1 localhost localhost.localdomain", None),
            ("localhost.localdomain", "", None),
            ("", hosts, None),
        ] {
            assert_eq!(full_name(hostname, hosts).as_deref(), expected, "{hostname}");
        }
    }

    #[test]
    fn a_setting_is_a_name_or_an_address_in_brackets() {
        for (hello, shown) in [
            ("mail.example.com", "mail.example.com"),
            ("[192.0.2.7]", "[192.0.2.7]"),
            ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
            ("[2001:db8::1]", "[IPv6:2001:db8::1]"),
        ] {
            assert_eq!(parsed(hello).to_string(), shown);
        }
    }
}
