//! The operator's mail server.

use crate::model::variable::SecretName;

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Plain,
    /// By TLS from the first byte on (RFC 8314).
    Tls,
    /// By TLS that is asked for and insisted on (RFC 3207).
    StartTls,
}

/// How to send e-mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    pub security: Security,
    pub host: String,
    pub port: u16,
    /// How to greet it, a name or an address in brackets; `None`: by the machine's own.
    pub hello: Option<String>,
    /// The sender's address.
    pub from: String,
    pub user: Option<String>,
    /// Names the secret that is the user's password.
    pub secret: Option<SecretName>,
}
