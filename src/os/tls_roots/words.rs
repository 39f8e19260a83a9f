//! The usual failures of TLS in plain words. rustls gives most of them only the names of its variants.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, InconsistentKeys};

/// Failures of a certificate: the start of the name that rustls or its verifier has for each, and
/// what it means. The first that fits counts.
const CERTIFICATES: [(&str, &str); 22] = [
    ("Expired", "the certificate has expired"),
    ("CertExpired", "the certificate has expired"),
    ("NotValidYet", "the certificate is not valid yet; is the clock right on both machines?"),
    ("CertNotValidYet", "the certificate is not valid yet; is the clock right on both machines?"),
    (
        "UnknownIssuer",
        "no authority that this machine trusts has issued the certificate, or the certificates \
         between it and the authority are not sent along",
    ),
    ("NotValidForName", "the certificate is for another name"),
    ("CertNotValidForName", "the certificate is for another name"),
    ("Revoked", "the certificate has been revoked"),
    (
        "CaUsedAsEndEntity",
        "the certificate is one of an authority (CA:TRUE) and not one of a server",
    ),
    (
        "EndEntityUsedAsCa",
        "the certificate was issued by one that is not of an authority (CA:FALSE)",
    ),
    (
        "UnsupportedCertVersion",
        "the certificate is of X.509 version 1, and TLS takes version 3 alone; have it issued \
         again with a subjectAltName, which makes it version 3",
    ),
    ("InvalidPurpose", "the certificate is not meant for servers (extendedKeyUsage)"),
    ("RequiredEkuNotFound", "the certificate is not meant for servers (extendedKeyUsage)"),
    ("BadSignature", "the signature of the certificate is wrong"),
    ("InvalidSignatureForPublicKey", "the signature of the certificate is wrong"),
    (
        "UnsupportedSignatureAlgorithm",
        "the certificate is signed by a method that is not taken any more, such as SHA-1",
    ),
    ("BadEncoding", "the certificate is malformed"),
    ("BadDer", "the certificate is malformed"),
    ("UnhandledCriticalExtension", "the certificate has a critical extension that is not known"),
    ("UnsupportedCriticalExtension", "the certificate has a critical extension that is not known"),
    (
        "PathLenConstraintViolated",
        "there are more certificates in between than the authority allows",
    ),
    ("NameConstraintViolation", "the authority may not issue certificates for this name"),
];

/// Alerts of the peer (RFC 8446 6), and their meaning for its receiver.
const ALERTS: [(AlertDescription, &str); 6] = [
    (AlertDescription::HandshakeFailure, "no version of TLS or method of encryption in common"),
    (AlertDescription::ProtocolVersion, "no version of TLS in common; 1.2 and 1.3 are spoken here"),
    (AlertDescription::UnrecognisedName, "it knows no such name"),
    (AlertDescription::CertificateRequired, "it wants a certificate of the client"),
    (AlertDescription::UnknownCA, "it does not trust the authority of our certificate"),
    (AlertDescription::InternalError, "it has failed itself"),
];

/// `error` in plain words.
pub fn tls_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate_words(error),
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key is of another certificate".to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            let words = ALERTS.iter().find(|(known, _)| known == alert);
            let words =
                words.map_or_else(|| format!("{alert:?}"), |(_, words)| (*words).to_owned());
            format!("the other side ends the TLS handshake: {words}")
        }
        rustls::Error::InvalidMessage(_) => {
            "what answers there does not speak TLS; is it plain http?".to_owned()
        }
        rustls::Error::PeerIncompatible(_) => {
            "no version of TLS or method of encryption in common; 1.2 and 1.3 are spoken here"
                .to_owned()
        }
        other => other.to_string(),
    }
}

fn certificate_words(error: &CertificateError) -> String {
    let name = match error {
        // The verifier's own error, wrapped.
        CertificateError::Other(error) => format!("{:?}", error.0),
        error => format!("{error:?}"),
    };
    let words = CERTIFICATES.iter().find(|(known, _)| name.starts_with(known));
    let Some((_, words)) = words else { return format!("the certificate is refused: {name}") };
    match error {
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            format!("{words}: {}", presented.join(", "))
        }
        _ => (*words).to_owned(),
    }
}

/// The failure of TLS that caused `error`, in plain words; `None` when another failure did.
pub fn tls_cause(error: &(dyn Error + 'static)) -> Option<String> {
    tls_error(error).map(tls_words)
}

/// The failure of TLS that caused `error`, if one did.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

/// The failure of TLS that ended a request, in plain words; `None` when another failure did.
pub fn tls_cause_of_request(error: &ureq::Error) -> Option<String> {
    match error {
        ureq::Error::Rustls(error) => Some(tls_words(error)),
        ureq::Error::Tls(what) => Some((*what).to_owned()),
        ureq::Error::Io(error) => tls_cause(error),
        _ => None,
    }
}

/// Whether the peer ended a request by an alert of TLS.
pub fn is_tls_alert(error: &ureq::Error) -> bool {
    let error = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => tls_error(error),
        _ => None,
    };
    matches!(error, Some(rustls::Error::AlertReceived(_)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    #[derive(Debug)]
    enum Verifier {
        CaUsedAsEndEntity,
        UnsupportedCertVersion,
        Unheard,
    }

    impl std::fmt::Display for Verifier {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{self:?}")
        }
    }

    impl Error for Verifier {}

    #[test]
    fn failures_of_certificates_are_told_in_words() {
        let other = |error| CertificateError::Other(OtherError(Arc::new(error)));
        for (error, expected) in [
            (CertificateError::Expired, "expired"),
            (CertificateError::UnknownIssuer, "no authority"),
            (CertificateError::NotValidForName, "another name"),
            (other(Verifier::CaUsedAsEndEntity), "CA:TRUE"),
            (other(Verifier::UnsupportedCertVersion), "version 1"),
        ] {
            let words = tls_words(&rustls::Error::InvalidCertificate(error));
            assert!(words.contains(expected) && !words.contains("Other"), "{words}");
        }
        let unheard = tls_words(&rustls::Error::InvalidCertificate(other(Verifier::Unheard)));
        assert_eq!(unheard, "the certificate is refused: Unheard");
    }

    #[test]
    fn tls_is_found_behind_other_errors() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let wrapped = io::Error::other(io::Error::other(tls));
        assert_eq!(tls_cause(&wrapped).unwrap(), "the certificate has expired");
        assert_eq!(tls_cause(&io::Error::other("no")), None);
    }
}
