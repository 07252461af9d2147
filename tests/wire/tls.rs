//! TLS: logins bound to the certificate, and nothing carried from plaintext into it (C01).

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::T;
use crate::common::raw::{Raw, SSL_REQUEST, code, query, startup_of, text_rows};
use crate::common::server::{Server, Spec, fresh_dir, one};
use crate::common::tests_dir;

/// The certificate's own bytes are all that these tests trust, and they look at them themselves.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
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
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The test's own certificate and key, copied so that only we can read the key.
fn files(dir: &Path) -> (PathBuf, PathBuf) {
    let copy = |name: &str, mode: u32| {
        let to = dir.join(name);
        std::fs::copy(tests_dir().join("data").join(name), &to).expect("the test's certificate");
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).expect("our own file");
        to
    };
    (copy("server.crt", 0o644), copy("server.key", 0o600))
}

fn secured(dir: &Path) -> Spec {
    let (cert, key) = files(dir);
    let spec = Spec::on(&dir.join("data"))
        .arg("--tls-cert")
        .arg(cert.display().to_string());
    spec.arg("--tls-key").arg(key.display().to_string())
}

async fn handshake(mut raw: Raw) -> Raw<TlsStream<TcpStream>> {
    raw.write(&SSL_REQUEST).await.expect("open");
    assert_eq!(raw.byte().await, Some(b'S'), "TLS is offered");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring does TLS")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, raw.into_stream())
        .await
        .expect("a handshake");
    let certificate = tls
        .get_ref()
        .1
        .peer_certificates()
        .expect("the server has a certificate")[0]
        .clone();
    let mut raw = Raw::over(tls);
    raw.certificate_hash = Some(Sha256::digest(&certificate).to_vec());
    raw
}

/// What was sent in plaintext behind an SSLRequest is never executed, over TLS or without.
#[tokio::test]
async fn c01_starttls_injection() {
    let dir = fresh_dir("tls");
    let mut server = Server::with(secured(&dir));
    let mut operator = handshake(server.socket().await).await;
    operator
        .login("bulkhead", "admin", crate::common::server::ADMIN_PASSWORD)
        .await
        .expect("the operator logs in");
    let made = operator
        .query("SELECT bulkhead.create_tenant('acme', owner => 'owner', password => 'pw-owner')")
        .await;
    assert_eq!(code(&made), None, "{made:?}");

    let injected = [
        startup_of(&[("user", "owner"), ("database", T)]),
        query("INSERT INTO documents (title, content) VALUES ('injected', 'x')"),
    ];
    for tail in [injected.concat(), injected[0].clone(), vec![0], query("SELECT 1")] {
        let mut raw = server.socket().await;
        raw.say(&[SSL_REQUEST.to_vec(), tail]).await;
        let first = raw.byte().await;
        // Closed at once, or with an error frame; 'S' and a handshake with those bytes in it must never be.
        if first == Some(b'S') {
            assert_eq!(raw.byte().await, None, "went on after plaintext behind the SSLRequest");
        } else if first == Some(b'E') {
            let rest = raw.until_closed().await;
            let text = String::from_utf8_lossy(&rest).into_owned();
            assert!(text.contains("C08P01"), "{text}");
        } else {
            assert_eq!(first, None);
        }
    }
    // A second SSLRequest within TLS, and a GSS request, are refused or declined, and nothing is executed.
    let mut nested = handshake(server.socket().await).await;
    nested.say(&[SSL_REQUEST.to_vec()]).await;
    assert!(nested.byte().await.is_none_or(|b| b == b'E' || b == b'N'));

    let mut owner = handshake(server.socket().await).await;
    let ready = owner
        .login(T, "owner", "pw-owner")
        .await
        .expect("an honest login, bound to the certificate");
    assert!(ready.iter().any(|f| f.tag == b'K'));
    assert_eq!(
        text_rows(&owner.query("SELECT count(*) FROM documents").await),
        [["0"]],
        "nothing was injected"
    );
    // Bound to another certificate: a relay's login fails.
    let mut relayed = handshake(server.socket().await).await;
    relayed.certificate_hash = Some(vec![7; 32]);
    let failed = relayed.login(T, "owner", "pw-owner").await.expect_err("a relay");
    assert!(
        matches!(code(&failed).as_deref(), Some("28P01" | "08P01" | "28000")),
        "{failed:?}"
    );
    server.assert_alive();
    drop(server);
    let _ = std::fs::remove_dir_all(dir);
}

/// Without TLS files the answer is `N`, and the connection goes on in plaintext.
#[tokio::test]
async fn ssl_and_gss_requests_without_tls() {
    let server = crate::served().await;
    let mut raw = server.socket().await;
    raw.write(&SSL_REQUEST).await.expect("open");
    assert_eq!(raw.byte().await, Some(b'N'));
    raw.write(&[0, 0, 0, 8, 4, 210, 22, 48]).await.expect("open"); // GSSENCRequest
    assert_eq!(raw.byte().await, Some(b'N'));
    raw.login(T, "owner", "pw-owner").await.expect("plaintext goes on");
    assert_eq!(text_rows(&raw.query("SELECT 1").await), [["1"]]);
    // Plaintext behind an SSLRequest is no better where the answer is N.
    let mut raw = server.socket().await;
    raw.say(&[SSL_REQUEST.to_vec(), startup_of(&[("user", "owner"), ("database", T)])])
        .await;
    let first = raw.byte().await;
    assert!(matches!(first, None | Some(b'N' | b'E')), "{first:?}");
    let client = server.connect(T, "owner").await;
    assert_eq!(one(&client, "SELECT 1").await.as_deref(), Some("1"));
}

/// A wrong file stops the start and says which; it never goes on in plaintext.
#[tokio::test]
async fn wrong_tls_files_stop_the_start() {
    let dir = fresh_dir("tls-wrong");
    let (cert, key) = files(&dir);
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let rubbish = dir.join("rubbish.pem");
    std::fs::write(
        &rubbish,
        "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n",
    )
    .expect("ours");
    let rubbish = rubbish.display().to_string();
    let gone = dir.join("gone.pem").display().to_string();
    for (cert, key, named) in [
        (Some(&gone), Some(&key), "gone.pem"),
        (Some(&cert), Some(&gone), "gone.pem"),
        (Some(&rubbish), Some(&key), "rubbish.pem"),
        (Some(&cert), Some(&rubbish), "rubbish.pem"),
        (Some(&key), Some(&cert), "server."),
        (Some(&cert), None, "tls-key"),
        (None, Some(&key), "tls-cert"),
    ] {
        let mut spec = Spec::on(&dir.join("data"));
        if let Some(cert) = cert {
            spec = spec.arg("--tls-cert").arg(cert);
        }
        if let Some(key) = key {
            spec = spec.arg("--tls-key").arg(key);
        }
        let ended = Server::attempt(spec)
            .err()
            .unwrap_or_else(|| panic!("started with {cert:?} and {key:?}"));
        assert!(!ended.status.success());
        let said = ended.said.replace("tls_", "tls-"); // a setting or its flag
        assert!(said.contains(named), "says which file: {}", ended.said);
        assert!(!ended.said.contains("panicked"), "{}", ended.said);
    }
    let _ = std::fs::remove_dir_all(dir);
}
