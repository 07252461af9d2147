//! The client's side of SCRAM-SHA-256 (RFC 5802, 7677), step by step, so that a test can send any of them wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// One exchange.
pub struct Scram {
    /// `n,,`, or `p=tls-server-end-point,,` with the hash of the certificate behind it.
    pub gs2: String,
    pub binding: Vec<u8>,
    pub nonce: String,
    first_bare: String,
    server_signature: Vec<u8>,
}

/// What the server asked in its first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub nonce: String,
    pub salt: Vec<u8>,
    pub iterations: u32,
}

impl Challenge {
    /// Reads `r=...,s=...,i=...`.
    pub fn read(message: &str) -> Self {
        let mut parts = message.split(',');
        let mut part = |key: &str| {
            let text = parts.next().and_then(|p| p.strip_prefix(key));
            text.unwrap_or_else(|| panic!("no {key} in {message:?}")).to_owned()
        };
        let nonce = part("r=");
        let salt = BASE64.decode(part("s=")).expect("the salt is base64");
        let iterations = part("i=").parse().expect("iterations are a number");
        Self {
            nonce,
            salt,
            iterations,
        }
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

impl Scram {
    /// An exchange without channel binding.
    pub fn plain(nonce: &str) -> Self {
        Self::new("n,,", Vec::new(), nonce)
    }

    /// An exchange bound to the server's certificate (`-PLUS`).
    pub fn bound(certificate_hash: &[u8], nonce: &str) -> Self {
        Self::new("p=tls-server-end-point,,", certificate_hash.to_vec(), nonce)
    }

    pub fn new(gs2: &str, binding: Vec<u8>, nonce: &str) -> Self {
        let first_bare = format!("n=,r={nonce}");
        Self {
            gs2: gs2.to_owned(),
            binding,
            nonce: nonce.to_owned(),
            first_bare,
            server_signature: Vec::new(),
        }
    }

    /// client-first-message.
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2, self.first_bare)
    }

    /// client-final-message for this challenge.
    pub fn last(&mut self, server_first: &str, password: &str) -> String {
        let challenge = Challenge::read(server_first);
        let mut salted = [0; 32];
        pbkdf2::pbkdf2::<Hmac<Sha256>>(password.as_bytes(), &challenge.salt, challenge.iterations, &mut salted)
            .expect("any key length");
        let bound = [self.gs2.as_bytes(), &self.binding].concat();
        let without_proof = format!("c={},r={}", BASE64.encode(bound), challenge.nonce);
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(&client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        self.server_signature = hmac(&hmac(&salted, b"Server Key"), signed.as_bytes());
        format!("{without_proof},p={}", BASE64.encode(proof))
    }

    /// Whether server-final-message proves that the server knows the verifier too.
    pub fn proven(&self, server_final: &str) -> bool {
        server_final == format!("v={}", BASE64.encode(&self.server_signature))
    }
}
