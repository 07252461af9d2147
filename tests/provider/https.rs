//! Providers behind TLS with a certificate of an authority that only the operator names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use bulkhead::ai::provider::{Kind, Upstreams};
use bulkhead::ai::trust::Authorities;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::common::provider::Provider;
use super::common::server::{Server, Spec, binary, fresh_dir, one};
use super::common::tests_dir;
use super::{answer, canary, prompt, row_at};

fn file(name: &str) -> PathBuf {
    tests_dir().join("data").join(name)
}

/// Takes TLS connections and passes on what they say; where it listens.
async fn encrypted(provider: SocketAddr) -> SocketAddr {
    let chain = CertificateDer::pem_file_iter(file("provider.crt")).expect("a certificate");
    let chain = chain.map(|certificate| certificate.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file(file("provider.key")).expect("a key");
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not trust the certificate leaves amid the handshake.
                let Ok(mut secret) = acceptor.accept(socket).await else {
                    return;
                };
                let mut plain = TcpStream::connect(provider).await.expect("the provider runs");
                let _ = tokio::io::copy_bidirectional(&mut secret, &mut plain).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn an_authority_that_is_named_is_trusted_and_no_other() {
    let provider = Provider::start();
    let port = encrypted(provider.address()).await.port();
    let named = Upstreams::trusting(Authorities::load(&file("provider-ca.crt")).unwrap());
    let other = Upstreams::trusting(Authorities::load(&file("server.crt")).unwrap());
    for (host, stream) in [("localhost", false), ("127.0.0.1", true)] {
        let row = row_at(&format!("https://{host}:{port}/v1"));
        let text = canary();
        let request = prompt("echo", &text, stream);
        assert_eq!(answer(&named, &row, &request).await.unwrap().0, text);
        for stranger in [&Upstreams::new(), &other] {
            let text = canary();
            let failure = answer(stranger, &row, &prompt("echo", &text, stream))
                .await
                .unwrap_err();
            assert_eq!(failure.kind, Kind::Connect);
            assert!(provider.log_of(&text).is_empty());
        }
    }
    // A name that the certificate does not have.
    let row = row_at(&format!("https://127.0.0.2:{port}/v1"));
    assert!(answer(&named, &row, &prompt("echo", "x", false)).await.is_err());
}

#[test]
fn a_file_without_authorities_is_refused() {
    let empty = fresh_dir("authorities").join("empty.pem");
    std::fs::write(&empty, "no certificate\n").unwrap();
    let damaged = empty.with_file_name("damaged.pem");
    std::fs::write(
        &damaged,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for path in [empty, damaged, PathBuf::from("/nowhere/ca.pem")] {
        let error = Authorities::load(&path).unwrap_err();
        assert!(error.message().contains(&path.display().to_string()), "{error}");
        let data = fresh_dir("authorities").join("data");
        let started = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--provider-ca")
            .arg(&path)
            .output()
            .expect("the server's binary");
        let said = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(
            !started.status.success() && said.contains(&path.display().to_string()),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_calls_models_over_https() {
    let provider = Provider::start();
    let port = encrypted(provider.address()).await.port();
    let dir = fresh_dir("https");
    let ca = file("provider-ca.crt").display().to_string();
    let server = Server::with(Spec::on(&dir.join("data")).arg("--provider-ca").arg(ca));
    server.create_tenants(&["acme"]).await;
    let operator = server.operator().await;
    let sql = format!(
        "INSERT INTO bulkhead.providers (name, base_url) VALUES ('up', 'https://localhost:{port}/v1'); \
         INSERT INTO bulkhead.model_prices (provider, model, valid_from, input_nanousd, cached_input_nanousd, output_nanousd, \
         reasoning_nanousd, embedding_nanousd) VALUES ('up', 'echo', '2020-01-01', 1, 1, 1, 1, 0); \
         UPDATE bulkhead.models SET provider = 'up', model = 'echo' WHERE name = 'default-small'"
    );
    operator.batch_execute(&sql).await.expect("a provider");
    let client = server.connect("acme", "owner").await;
    let said = one(&client, "SELECT ai.complete('over a wire of its own', system => '')").await;
    assert_eq!(said.as_deref(), Some("over a wire of its own"));
    let _ = std::fs::remove_dir_all(dir);
}
