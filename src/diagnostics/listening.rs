//! Advice for each errno of bind(2).

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;

/// The first port without privilege, where the kernel does not tell (ip(7),
/// ip_unprivileged_port_start).
const UNPRIVILEGED_PORT_MIN: u16 = 1024;

/// The remedy when `address`, the value of `setting`, could not be bound.
pub fn bind_advice(error: &io::Error, address: SocketAddr, setting: &str) -> String {
    let (ip, port) = (address.ip(), address.port());
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => format!(
            "another process listens there: `ss -ltnp 'sport = :{port}'` shows it (systemd, where a \
             socket unit is on); end it, or set `{setting}` to another port"
        ),
        Some(Errno::ACCESS) if port < unprivileged_port_min() => format!(
            "port {port} is for privileged processes: use the socket units, put a proxy in front, \
             give the server the capability CAP_NET_BIND_SERVICE, or set `{setting}` to a port from \
             {}",
            unprivileged_port_min()
        ),
        Some(Errno::ACCESS | Errno::PERM) => format!(
            "the system's security policy (SELinux, AppArmor, a sandbox) forbids it: allow port \
             {port} there, or set `{setting}` to another one"
        ),
        Some(Errno::ADDRNOTAVAIL) if ip.is_loopback() && ip.is_ipv6() => {
            format!("IPv6 is off on this machine: set `{setting}` to 127.0.0.1:{port}")
        }
        Some(Errno::ADDRNOTAVAIL) => format!(
            "{ip} is no address of this machine (yet): `ip address` lists its addresses; set \
             `{setting}` to one of them, or to {}:{port} for all of them",
            all_addresses(ip)
        ),
        Some(Errno::AFNOSUPPORT) => format!(
            "{} is off on this machine or in the server's sandbox: set `{setting}` to an address of \
             the other kind",
            if ip.is_ipv6() { "IPv6" } else { "IPv4" }
        ),
        Some(Errno::INVAL) if is_link_local(ip) => format!(
            "a link-local address belongs to one interface: set `{setting}` to [{ip}%NUMBER]:{port} \
             with the number that `ip address` shows for it"
        ),
        Some(Errno::MFILE | Errno::NFILE) => {
            "too many files are open: raise the limit (`ulimit -n`, LimitNOFILE=)".to_owned()
        }
        _ => format!("check `{setting}`"),
    }
}

/// The unspecified address of the kind of `ip`.
fn all_addresses(ip: IpAddr) -> &'static str {
    if ip.is_ipv6() { "[::]" } else { "0.0.0.0" }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn unprivileged_port_min() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(UNPRIVILEGED_PORT_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_advice_of_its_own() {
        let port_min = unprivileged_port_min();
        let privileged = format!("0.0.0.0:{}", port_min.saturating_sub(1));
        let mut cases = vec![
            (Errno::ADDRINUSE, "127.0.0.1:9000", "another process listens there"),
            (Errno::ACCESS, "127.0.0.1:65000", "security policy"),
            (Errno::PERM, "127.0.0.1:65000", "security policy"),
            (Errno::ADDRNOTAVAIL, "192.0.2.7:9000", "0.0.0.0:9000"),
            (Errno::ADDRNOTAVAIL, "[2001:db8::1]:9000", "[::]:9000"),
            (Errno::ADDRNOTAVAIL, "[::1]:9000", "IPv6 is off"),
            (Errno::AFNOSUPPORT, "[::]:9000", "IPv6 is off"),
            (Errno::INVAL, "[fe80::1]:9000", "[fe80::1%NUMBER]:9000"),
            (Errno::MFILE, "127.0.0.1:9000", "LimitNOFILE="),
        ];
        if port_min > 0 {
            cases.push((Errno::ACCESS, &privileged, "CAP_NET_BIND_SERVICE"));
        }
        for (errno, address, expected) in cases {
            let advice = bind_advice(&errno.into(), address.parse().unwrap(), "hooks_listen");
            assert!(advice.contains(expected), "{errno} {address}: {advice}");
            assert_eq!(advice.contains("another process"), errno == Errno::ADDRINUSE, "{advice}");
        }
    }
}
