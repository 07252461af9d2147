//! TLS for the listener: certificate and key from PEM files, checked before the server starts.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio_rustls::TlsAcceptor;

use crate::error::{Code, Error, Result};

/// Where certificate and key are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM file with the server's certificate first, then those between it and the root.
    pub certificate: PathBuf,
    /// PEM file with its private key, readable by its owner only.
    pub key: PathBuf,
}

/// What a listener needs to accept TLS.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// RFC 5929 `tls-server-end-point`; `None` where the certificate's signature has no hash for it.
    pub(super) server_end_point: Option<Vec<u8>>,
}

impl Tls {
    /// Loads the files. Anything wrong with them is an error: a server told to use TLS never starts without.
    pub(super) fn load(files: &TlsFiles) -> Result<Self> {
        let unusable = |what: &str, path: &PathBuf, why: &dyn std::fmt::Display| {
            Error::new(Code::Io, format!("{what} {} cannot be used: {why}", path.display()))
        };
        let certificate = |why: &dyn std::fmt::Display| unusable("the TLS certificate file", &files.certificate, why);
        let key = |why: &dyn std::fmt::Display| unusable("the TLS key file", &files.key, why);

        let pem = fs::read(&files.certificate).map_err(|e| certificate(&e))?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<std::result::Result<Vec<_>, _>>();
        let chain = chain.map_err(|e| certificate(&e))?;
        let first = chain.first().ok_or_else(|| certificate(&"it holds no certificate"))?;
        // Else a broken certificate would be reported as a key that does not fit.
        rustls::server::ParsedCertificate::try_from(first).map_err(|e| certificate(&e))?;
        let server_end_point = server_end_point(first);

        let metadata = fs::metadata(&files.key).map_err(|e| key(&e))?;
        // As PostgreSQL: a key owned by root may be readable by a group (0640), any other by its owner only.
        let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
        if metadata.mode() & forbidden != 0 {
            return Err(key(&"others may read it").with_hint("chmod 600 the file"));
        }
        let private =
            PrivateKeyDer::from_pem_slice(&fs::read(&files.key).map_err(|e| key(&e))?).map_err(|e| key(&e))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Error::internal)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|e| key(&e).with_hint("certificate and key must belong together"))?;
        // Clients that name a protocol must mean this one.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            server_end_point,
        })
    }
}

/// The hash of a certificate by the hash function of its signature (MD5 and SHA-1 count as SHA-256).
fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = signature_algorithm(certificate)?;
    let rsa = algorithm.strip_prefix(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01");
    let ecdsa = algorithm.strip_prefix(b"\x2a\x86\x48\xce\x3d\x04");
    match (rsa, ecdsa) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(Sha256::digest(certificate).to_vec()),
        (Some([12]), _) | (_, Some([3, 3])) => Some(Sha384::digest(certificate).to_vec()),
        (Some([13]), _) | (_, Some([3, 4])) => Some(Sha512::digest(certificate).to_vec()),
        // Ed25519 has no separate hash, RSASSA-PSS keeps it in parameters: clients disagree on both.
        _ => None,
    }
}

/// The object identifier in `Certificate.signatureAlgorithm` (RFC 5280).
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = der(certificate, 0x30)?;
    let (_, rest) = der(certificate, 0x30)?;
    let (algorithm, _) = der(rest, 0x30)?;
    Some(der(algorithm, 0x06)?.0)
}

/// The content of the DER element at the start, and what follows it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[first, length], rest) = bytes.split_first_chunk::<2>()?;
    if first != tag {
        return None;
    }
    if length < 0x80 {
        return rest.split_at_checked(length.into());
    }
    let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
    if digits.len() > 4 {
        return None;
    }
    rest.split_at_checked(digits.iter().fold(0, |sum, &d| sum << 8 | usize::from(d)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let mut identifier = vec![0x06, algorithm.len() as u8];
        identifier.extend(algorithm);
        let mut inner = vec![0x30, 0x81, 0x80];
        inner.extend([0; 128]);
        inner.extend([0x30, identifier.len() as u8]);
        inner.extend(identifier);
        let mut outer = vec![0x30, 0x82, 0, inner.len() as u8];
        outer.extend(inner);
        outer
    }

    #[test]
    fn the_end_point_uses_the_signatures_hash() {
        let length = |algorithm: &[u8]| server_end_point(&certificate(algorithm)).map(|hash| hash.len());
        assert_eq!(length(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"), Some(32));
        assert_eq!(length(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"), Some(32));
        assert_eq!(length(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"), Some(48));
        assert_eq!(length(b"\x2a\x86\x48\xce\x3d\x04\x03\x04"), Some(64));
        assert_eq!(length(b"\x2b\x65\x70"), None);
        assert_eq!(server_end_point(b""), None);
        assert_eq!(server_end_point(b"\x30\x84\xff\xff\xff\xff"), None);
    }

    #[test]
    fn unusable_files_are_named() {
        let here = TlsFiles {
            certificate: "/nonexistent/cert.pem".into(),
            key: "/nonexistent/key.pem".into(),
        };
        let error = Tls::load(&here).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), Code::Io);
        assert!(error.message().contains("/nonexistent/cert.pem"));
    }
}
