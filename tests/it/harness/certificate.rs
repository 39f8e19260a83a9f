//! Certificates that sign themselves, made with the openssl program.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::finish;

/// The host that certificates are for.
pub const HOST: &str = "hooks.example.com";

/// A certificate for [`HOST`] and its key, as PEM files.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    /// A fresh one: `NAME.pem` and `NAME.key` in `directory`.
    #[track_caller]
    pub fn make(directory: &Path, name: &str) -> Self {
        let certificate = directory.join(format!("{name}.pem"));
        let key = directory.join(format!("{name}.key"));
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}")])
            .args(["-addext", &format!("subjectAltName=DNS:{HOST}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        let (code, _, said) = finish(openssl);
        assert_eq!(code, 0, "{said}");
        Self { certificate, key }
    }

    /// What makes curl believe this certificate and find [`HOST`] at `port` of this machine.
    pub fn curl_arguments(&self, port: &str) -> Vec<String> {
        let certificate = self.certificate.display().to_string();
        vec!["--cacert".into(), certificate, "--resolve".into(), format!("{HOST}:{port}:127.0.0.1")]
    }
}
