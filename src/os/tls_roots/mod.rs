//! The root certificates that this machine trusts, for requests that the server sends with ureq.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

mod words;

pub use words::{is_tls_alert, tls_cause, tls_cause_of_request, tls_words};

/// TLS that verifies servers by the root certificates of the system.
pub fn tls_config() -> TlsConfig {
    static ROOTS: LazyLock<Arc<Vec<Certificate<'static>>>> = LazyLock::new(|| {
        let loaded = rustls_native_certs::load_native_certs();
        for error in &loaded.errors {
            log::warn!(error:%; "some of the system's certificates cannot be read");
        }
        let certificates = loaded.certs.iter();
        Arc::new(certificates.map(|it| Certificate::from_der(it).to_owned()).collect())
    });
    TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider())
        .root_certs(RootCerts::Specific(Arc::clone(&ROOTS)))
        .build()
}

/// TLS without verification, for requests to a server of this machine by its address, which no
/// certificate names. They carry no secret.
pub fn unverified_tls_config() -> TlsConfig {
    TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider())
        .disable_verification(true)
        .build()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
