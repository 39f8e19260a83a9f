//! The client of a request: the peer of its connection, or the address that a trusted proxy names. Any
//! client can send `X-Forwarded-For` and `Forwarded`; only entries that a trusted proxy has appended count.

use std::net::{IpAddr, SocketAddr};

use crate::model::network::Networks;

/// The header that most proxies append the address of their peer to.
const X_FORWARDED_FOR: &str = "X-Forwarded-For";
/// Its standard form (RFC 7239).
const FORWARDED: &str = "Forwarded";

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// IPv4 addresses within IPv6 ones are given as IPv4.
    pub address: IpAddr,
    /// Whether `X-Forwarded-For` and `Forwarded` name different clients. A proxy writes one of
    /// them and passes on the other, which the sender may have invented. `address` is the proxy's in this
    /// case, and no allow list may admit it.
    pub is_disputed: bool,
}

/// The client of a request that `peer` sent with `headers` (in the order received).
///
/// From right to left, as far as the addresses are those of trusted proxies; the first other
/// address is the client's. An entry that is no address ends the walk at the proxy that wrote it.
pub fn client_of<'h>(
    peer: IpAddr,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    trusted_proxies: &Networks,
) -> Client {
    let peer = peer.to_canonical();
    let peer_alone = Client { address: peer, is_disputed: false };
    if !trusted_proxies.contains(peer) {
        return peer_alone;
    }
    // Several lines of one header are one list (RFC 9110 5.3).
    let (mut x_forwarded_for, mut forwarded) = (Vec::new(), Vec::new());
    for (name, value) in headers {
        if name.eq_ignore_ascii_case(X_FORWARDED_FOR) {
            x_forwarded_for.push(value);
        } else if name.eq_ignore_ascii_case(FORWARDED) {
            forwarded.push(value);
        }
    }
    // A header without elements names no client.
    let walk =
        |hops: Vec<Option<IpAddr>>| (!hops.is_empty()).then(|| walk(peer, hops, trusted_proxies));
    let x_forwarded_for = walk(x_forwarded_for_hops(&x_forwarded_for));
    let forwarded = walk(forwarded_hops(&forwarded));
    match (x_forwarded_for, forwarded) {
        (Some(one), Some(other)) if one != other => Client { is_disputed: true, ..peer_alone },
        (Some(address), _) | (None, Some(address)) => Client { address, is_disputed: false },
        (None, None) => peer_alone,
    }
}

/// Whether a request with headers of these names says whom it was sent on for.
pub fn names_client<'h>(mut names: impl Iterator<Item = &'h str>) -> bool {
    names.any(|name| {
        name.eq_ignore_ascii_case(X_FORWARDED_FOR) || name.eq_ignore_ascii_case(FORWARDED)
    })
}

/// The first address from the right that is not a trusted proxy's; the left-most one when all are.
fn walk(peer: IpAddr, hops: Vec<Option<IpAddr>>, trusted_proxies: &Networks) -> IpAddr {
    let mut reached = peer;
    for hop in hops.into_iter().rev() {
        let Some(address) = hop else { break };
        reached = address;
        if !trusted_proxies.contains(address) {
            break;
        }
    }
    reached
}

/// The elements of `X-Forwarded-For`, `None` for what is no address. Empty elements of a list are
/// ignored (RFC 9110 5.6.1.2).
fn x_forwarded_for_hops(lines: &[&[u8]]) -> Vec<Option<IpAddr>> {
    let elements = lines.iter().flat_map(|line| line.split(|byte| *byte == b','));
    let elements = elements.filter(|element| !element.trim_ascii().is_empty());
    elements.map(|entry| std::str::from_utf8(entry).ok().and_then(parse_address)).collect()
}

/// The `for` of every element of `Forwarded`, `None` for what names no address: obfuscated
/// identifiers, `unknown`, elements without one or with two, and what is malformed.
fn forwarded_hops(lines: &[&[u8]]) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    for line in lines {
        match split_quoted(line, b',') {
            Some(elements) => {
                let elements = elements.into_iter().filter(|it| !it.trim_ascii().is_empty());
                hops.extend(elements.map(forwarded_for));
            }
            // A quote that does not close hides where its elements end.
            None => hops.push(None),
        }
    }
    hops
}

/// The address in the `for` of one element (RFC 7239 section 4).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_quoted(element, b';')? {
        let pair = pair.trim_ascii();
        let Some((name, value)) = std::str::from_utf8(pair).ok()?.split_once('=') else {
            // Empty ones between semicolons are allowed, other things without a value are not.
            if pair.is_empty() {
                continue;
            }
            return None;
        };
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?;
    match value.strip_prefix('"').map(|quoted| quoted.strip_suffix('"')) {
        // No address needs an escape within its quotes.
        Some(quoted) => parse_address(quoted?),
        // A colon or bracket outside of quotes is not a token's, and yet proxies send it.
        None => parse_address(value),
    }
}

/// Splits at `separator` outside of quoted strings (RFC 9110 5.6.4); `None` when a quote does not
/// close.
fn split_quoted(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut in_quotes, mut is_escaped) = (false, false);
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_quotes => is_escaped = true,
            b'"' => in_quotes = !in_quotes,
            byte if *byte == separator && !in_quotes => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!in_quotes).then_some(parts)
}

/// An address, with or without a port: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse().ok().or_else(with_port).or_else(bracketed)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUSTED: &str = "10.0.0.0/8,192.0.2.1,::1";

    fn client(peer: &str, headers: &[(&str, &str)]) -> Client {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        client_of(peer.parse().unwrap(), headers, &TRUSTED.parse().unwrap())
    }

    #[track_caller]
    fn expect(peer: &str, headers: &[(&str, &str)], address: &str) {
        let expected = Client { address: address.parse().unwrap(), is_disputed: false };
        assert_eq!(client(peer, headers), expected, "{headers:?} from {peer}");
    }

    #[test]
    fn headers_of_untrusted_peers_are_ignored() {
        let says = [("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=198.51.100.7")];
        expect("203.0.113.9", &says, "203.0.113.9");
        expect("::ffff:203.0.113.9", &says, "203.0.113.9");
        expect("10.1.2.3", &says, "198.51.100.7");
        expect("::ffff:10.1.2.3", &says, "198.51.100.7");
        expect("::1", &says, "198.51.100.7");
        expect("10.1.2.3", &[], "10.1.2.3");
    }

    #[test]
    fn the_right_most_untrusted_address_wins() {
        for (value, address) in [
            ("198.51.100.7", "198.51.100.7"),
            (" 1.2.3.4 ,\t198.51.100.7 ", "198.51.100.7"),
            ("1.2.3.4, 198.51.100.7, 10.9.9.9, 192.0.2.1", "198.51.100.7"),
            ("10.0.0.5, 10.0.0.6", "10.0.0.5"),
            ("198.51.100.7:4711", "198.51.100.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("198.51.100.7, ::ffff:10.0.0.6", "198.51.100.7"),
            // A malformed entry ends the walk at the proxy that wrote it.
            ("198.51.100.7, unknown", "10.1.2.3"),
            // Empty elements are none.
            ("198.51.100.7, , 10.0.0.6", "198.51.100.7"),
            ("198.51.100.7,", "198.51.100.7"),
            (",198.51.100.7,\t,", "198.51.100.7"),
            ("", "10.1.2.3"),
            (" , ", "10.1.2.3"),
            ("198.51.100.777", "10.1.2.3"),
            ("198.51.100.7:port", "10.1.2.3"),
            ("[198.51.100.7]", "10.1.2.3"),
            ("for=198.51.100.7", "10.1.2.3"),
            ("\"198.51.100.7\"", "10.1.2.3"),
        ] {
            expect("10.1.2.3", &[("x-forwarded-FOR", value)], address);
        }
        let lines = [("X-Forwarded-For", "1.2.3.4"), ("A", "b"), ("X-Forwarded-For", "10.0.0.6")];
        expect("10.1.2.3", &lines, "1.2.3.4");
    }

    #[test]
    fn the_standard_form_is_read_too() {
        for (value, address) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=\"198.51.100.7:4711\"", "198.51.100.7"),
            ("for=198.51.100.7:4711", "198.51.100.7"),
            ("for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=\"[2001:db8:cafe::17]\"", "2001:db8:cafe::17"),
            ("proto=https;for=198.51.100.7;by=203.0.113.43", "198.51.100.7"),
            ("for=1.2.3.4, for=198.51.100.7;host=\"a,b;for=5.6.7.8\"", "198.51.100.7"),
            ("for=198.51.100.7, for=10.0.0.6;host=\"a\\\"b,c\"", "198.51.100.7"),
            ("for=198.51.100.7;", "198.51.100.7"),
            // Obfuscated, unknown, missing, twice, malformed.
            ("for=198.51.100.7, for=_hidden", "10.1.2.3"),
            ("for=198.51.100.7, for=\"_SEVKISEK:8\"", "10.1.2.3"),
            ("for=198.51.100.7, for=unknown", "10.1.2.3"),
            ("for=198.51.100.7, proto=http", "10.1.2.3"),
            ("for=198.51.100.7;for=5.6.7.8", "10.1.2.3"),
            ("for=198.51.100.7, for=10.0.0.6;nonsense", "10.1.2.3"),
            ("for=\"198.51.100.7", "10.1.2.3"),
            ("for=\"198.51.100.7\", host=\"open", "10.1.2.3"),
            ("for = 198.51.100.7", "10.1.2.3"),
            ("for=\"\"", "10.1.2.3"),
            // Empty elements are none.
            ("for=198.51.100.7, ", "198.51.100.7"),
            ("for=198.51.100.7,, for=10.0.0.6", "198.51.100.7"),
            (",", "10.1.2.3"),
            ("for=", "10.1.2.3"),
            ("", "10.1.2.3"),
        ] {
            expect("10.1.2.3", &[("forwarded", value)], address);
        }
        let lines = [("Forwarded", "for=1.2.3.4"), ("Forwarded", "for=10.0.0.6")];
        expect("10.1.2.3", &lines, "1.2.3.4");
    }

    #[test]
    fn headers_that_name_different_clients_make_the_client_disputed() {
        let disputed = client(
            "10.1.2.3",
            &[("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=10.9.9.9")],
        );
        assert_eq!(disputed, Client { address: "10.1.2.3".parse().unwrap(), is_disputed: true });
        let agreed = [("X-Forwarded-For", "198.51.100.7"), ("Forwarded", "for=198.51.100.7")];
        expect("10.1.2.3", &agreed, "198.51.100.7");
        let empty = [("X-Forwarded-For", ""), ("Forwarded", "for=198.51.100.7")];
        expect("10.1.2.3", &empty, "198.51.100.7");
    }

    #[test]
    fn bytes_that_are_no_text_are_no_address() {
        let headers = [("X-Forwarded-For", &b"1.2.3.4, \xff\xfe"[..]), ("X", b"y")];
        let peer = "10.1.2.3".parse().unwrap();
        let found = client_of(peer, headers.into_iter(), &TRUSTED.parse().unwrap());
        assert_eq!(found, Client { address: peer, is_disputed: false });
    }
}
