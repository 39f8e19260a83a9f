//! Whether the server works, as far as it can tell itself: it asks its webhook listener for its
//! health over the listener's own socket, as any client could, and has the committer make a commit.
//!
//! Whatever the listener answers will do: a full queue, a full disk or too many connections are for
//! people to see to, and no reason to restart. A listener without an accepting thread does not answer.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 ";
/// How a record begins that holds an alert (RFC 8446 5.1): all that a client of TLS is told who finds
/// no place.
const TLS_ALERT: u8 = 21;

/// See the module.
pub struct SelfCheck {
    hooks: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    commits: Box<dyn Fn(Duration) -> bool + Send>,
    /// Whether the listener has ever answered. A socket may be out of the server's own reach, by a
    /// firewall or for being bound to a device; that is no reason to restart either.
    has_answered: bool,
    has_warned: bool,
}

impl SelfCheck {
    /// Of the webhook listener at `hooks`, and of what `commits` tells: whether a commit gets
    /// through within a time.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        hooks: SocketAddr,
        is_tls: bool,
        commits: impl Fn(Duration) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        Ok(Self {
            hooks: reachable(hooks),
            tls: is_tls.then(trusting).transpose().map_err(io::Error::other)?,
            commits: Box::new(commits),
            has_answered: false,
            has_warned: false,
        })
    }

    /// Checks both, in about the time `within`.
    ///
    /// # Errors
    /// What does not work, for a person.
    pub fn run(&mut self, within: Duration) -> Result<(), String> {
        if !(self.commits)(within / 2) {
            return Err("the database makes no commits".to_owned());
        }
        let asked = self.ask(Instant::now() + within / 2);
        match asked {
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

    fn ask(&self, deadline: Instant) -> io::Result<()> {
        let stream = TcpStream::connect_timeout(&self.hooks, left(deadline)?)?;
        stream.set_nodelay(true)?;
        let mut stream = Timed { stream, deadline };
        let Some(tls) = &self.tls else { return converse(stream, REQUEST) };
        let name = ServerName::IpAddress(self.hooks.ip().into());
        let mut client = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        client.write_tls(&mut stream)?;
        // It comes before the handshake, and is an answer like any other.
        if stream.peek()? == TLS_ALERT {
            return Ok(());
        }
        converse(StreamOwned::new(client, stream), REQUEST)
    }
}

impl fmt::Debug for SelfCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfCheck").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

/// A socket with one deadline for everything.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    /// The next byte, which remains to be read.
    fn peek(&self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        match self.stream.peek(&mut byte)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(byte[0]),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// How long it is until `deadline`.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Asks, and waits for the beginning of an answer.
fn converse(mut stream: impl Read + Write, request: &[u8]) -> io::Result<()> {
    // Who finds no place is answered and cut off before they have asked: only the answer counts.
    let _ = stream.write_all(request).and_then(|()| stream.flush());
    let mut begin = [0; ANSWER.len()];
    stream.read_exact(&mut begin)?;
    if begin == ANSWER { Ok(()) } else { Err(io::Error::other("this is no HTTP")) }
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

/// What a client believes that talks to itself: everything. It tells no secret and asks for none;
/// which names the certificate is for, and until when, is the senders' business.
fn trusting() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
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
            let mut check = SelfCheck::new(address, is_tls, |_| true).unwrap();
            let answer: &[u8] = match is_tls {
                true => &[TLS_ALERT, 3, 3, 0, 2, 2, 80],
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
        let mut check = SelfCheck::new(address, false, |_| true).unwrap();
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
        let check = check.as_mut().unwrap();
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
