//! TLS on a listener: rustls over the socket, so that the socket's deadlines are TLS's own and the
//! handshake is part of reading the first head. Versions 1.2 and 1.3, HTTP/1.1 alone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig, ServerConnection, StreamOwned};

use super::socket::{Socket, Transport};
use crate::os::text_file;
use crate::os::tls_roots::tls_words;

/// Who may read a key: its owner, and the group that administrators give it to.
const KEY_MODE_MAX: u32 = 0o640;

/// A certificate and its key, as they are now.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

/// Why a certificate cannot be served. The message says which file to look at.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate {} is missing; the setting tls_cert names it", .0.display())]
    MissingCertificate(PathBuf),
    #[error("the key {} is missing; the setting tls_key names it", .0.display())]
    MissingKey(PathBuf),
    #[error("cannot read the certificate {}: {source}", path.display())]
    Certificate { path: PathBuf, source: pem::Error },
    #[error("there is no certificate in {}; it should hold the server's own first, then those between it and the root, as PEM", .0.display())]
    NoCertificate(PathBuf),
    #[error("cannot read the key {}: {source}", path.display())]
    Key { path: PathBuf, source: io::Error },
    #[error("there is no private key in {}; it should hold one as PEM, without a passphrase", .0.display())]
    NoKey(PathBuf),
    #[error("cannot read the key {}: {source}; it should be one private key as PEM, without a passphrase", path.display())]
    MalformedKey { path: PathBuf, source: pem::Error },
    #[error("the key {} does not go with the certificate {}: it is of another one", key.display(), certificate.display())]
    OtherKey { certificate: PathBuf, key: PathBuf },
    #[error("cannot serve the certificate {}: {}", path.display(), tls_words(error))]
    Unusable { path: PathBuf, error: rustls::Error },
}

impl Tls {
    /// Reads certificate and key, both PEM.
    ///
    /// # Errors
    /// When they cannot be read or do not fit together.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let config = RwLock::new(read_config(&certificate, &key)?);
        Ok(Self { certificate, key, config })
    }

    /// Reads both again, for connections from now on.
    ///
    /// # Errors
    /// As [`load`](Self::load); what was served so far still is then.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read_config(&self.certificate, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// A connection over `socket`; its first read is the handshake.
    pub(super) fn over(&self, socket: Socket) -> io::Result<Box<dyn Transport>> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let stream = StreamOwned::new(connection, socket);
        Ok(Box::new(Protected { stream, speech: Speech::Unknown }))
    }
}

fn read_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |source| TlsError::Certificate { path: certificate.to_owned(), source };
    let text = text_file::read_bytes(certificate).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => TlsError::MissingCertificate(certificate.to_owned()),
        _ => failed(pem::Error::Io(error)),
    })?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(failed)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(certificate.to_owned()));
    }
    let text = text_file::read_bytes(key).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => TlsError::MissingKey(key.to_owned()),
        _ => TlsError::Key { path: key.to_owned(), source },
    })?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::NoKey(key.to_owned()),
        source => TlsError::MalformedKey { path: key.to_owned(), source },
    })?;
    warn_if_readable(key);
    let unusable = |error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::OtherKey { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        error => TlsError::Unusable { path: certificate.to_owned(), error },
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn warn_if_readable(key: &Path) {
    let mode = File::open(key).and_then(|file| file.metadata()).map(|it| it.permissions().mode());
    if let Ok(mode) = mode
        && mode & 0o777 & !KEY_MODE_MAX != 0
    {
        log::warn!(
            key:% = key.display(), mode:% = format_args!("{:o}", mode & 0o777);
            "others may read the TLS key; chmod 600 keeps them from it"
        );
    }
}

/// A socket that speaks TLS, unless its client turns out to speak HTTP without.
struct Protected {
    stream: StreamOwned<ServerConnection, Socket>,
    speech: Speech,
}

/// What a client speaks.
#[derive(Clone, Copy, PartialEq)]
enum Speech {
    /// It has not said anything yet.
    Unknown,
    Tls,
    Plain,
}

impl Protected {
    /// Looks at what the client says first. A record of TLS begins with a number below 32 (RFC 8446
    /// 5.1), a request of HTTP with a letter.
    fn listen(&mut self) -> io::Result<()> {
        if self.speech != Speech::Unknown {
            return Ok(());
        }
        match self.stream.sock.peek()? {
            Some(first) if first.is_ascii_alphabetic() => {
                self.speech = Speech::Plain;
                // The client may still be told so.
                Err(io::ErrorKind::Unsupported.into())
            }
            _ => {
                self.speech = Speech::Tls;
                Ok(())
            }
        }
    }
}

impl Read for Protected {
    /// Fails once with [`io::ErrorKind::Unsupported`] when the client does not speak TLS.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.listen()?;
        match self.speech {
            Speech::Plain => self.stream.sock.read(buffer),
            _ => self.stream.read(buffer),
        }
    }
}

impl Write for Protected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.speech {
            Speech::Plain => self.stream.sock.write(bytes),
            _ => self.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.speech {
            Speech::Plain => self.stream.sock.flush(),
            _ => self.stream.flush(),
        }
    }
}

impl Transport for Protected {
    fn socket(&mut self) -> &mut Socket {
        &mut self.stream.sock
    }

    fn is_plain(&self) -> bool {
        false
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.speech == Speech::Tls {
            self.stream.conn.send_close_notify();
            self.stream.flush()?;
        }
        self.stream.sock.finish()
    }
}
