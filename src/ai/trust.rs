//! Certificate authorities that the operator trusts beside the system's: those of a company's own servers or proxy.

use std::{fs, path::Path};

use crate::error::{Code, Error, Result};

/// None, unless a file names some.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<reqwest::Certificate>);

impl Authorities {
    /// The certificates of a PEM file.
    ///
    /// # Errors
    /// [`Code::Io`] naming the file, if it cannot be read or holds no certificate that can be used: a server told
    /// whom to trust never starts without.
    pub fn load(path: &Path) -> Result<Self> {
        let unusable = |why: &dyn std::fmt::Display| {
            let file = path.display();
            Error::new(
                Code::Io,
                format!("the file of certificate authorities {file} cannot be used: {why}"),
            )
        };
        let pem = fs::read(path).map_err(|e| unusable(&e))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| unusable(&e))?;
        if certificates.is_empty() {
            return Err(unusable(&"it holds no certificate"));
        }
        crypto();
        // It looks into the certificates only now.
        let trial = reqwest::Client::builder().tls_certs_only(certificates.clone()).build();
        trial.map_err(|_| unusable(&"a certificate in it is damaged"))?;
        Ok(Self(certificates))
    }

    /// A client for encrypted connections trusts them and the system's, one for others none: it would want the
    /// system's certificates all the same.
    pub(super) fn apply(&self, builder: reqwest::ClientBuilder, is_https: bool) -> reqwest::ClientBuilder {
        match is_https {
            true => builder.tls_certs_merge(self.0.iter().cloned()),
            false => builder.tls_certs_only([]),
        }
    }
}

/// The HTTP client panics without a process-wide choice. If one was made already, it stands.
pub(super) fn crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
