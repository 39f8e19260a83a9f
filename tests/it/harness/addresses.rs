//! Clients of many addresses: connections from a chosen address, and a network of the test's own
//! that has addresses enough.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// Tells a test that it runs in its own network.
const MARK: &str = "BOATHOOK_TEST_NETWORK";

/// Connects to `address` from the address `from`.
pub fn connect_from(from: IpAddr, address: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = address.parse().map_err(io::Error::other)?;
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// Runs the test `name` again in a network of its own, whose loopback has `addresses` as well.
/// Returns whether this is that run; the first one has nothing more to do then. Skips, and says so,
/// where no network can be made.
pub fn in_own_network(name: &str, addresses: &[String]) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", script]);
        command
    };
    let can = unshare("ip link set lo up").output().is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: it takes unshare(1) and ip(8), and the right to make a network");
        return false;
    }
    let mut script = "set -e; ip link set lo up".to_owned();
    for address in addresses {
        script.push_str(&format!("; ip address add {address} dev lo"));
    }
    script.push_str("; exec \"$0\" --exact \"$1\" --nocapture");
    let own = std::env::current_exe().expect("this program");
    let status = unshare(&script).arg(own).arg(name).env(MARK, "1").status().expect("unshare");
    assert!(status.success(), "{name} failed in its own network");
    false
}
