//! SCRAM-SHA-256 and -PLUS, the server's side (RFC 5802, RFC 7677, RFC 5929), as pure functions.
//!
//! What is stored of a password is {salt, iterations, StoredKey, ServerKey}: enough to check a
//! proof, not enough to make one.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    error::{Code, Error, Result},
    limits,
};

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";
const BINDING_TYPE: &str = "tls-server-end-point";
/// PostgreSQL's length. Decoys have the same.
pub(super) const SALT_BYTES: usize = 16;

/// What the connection is bound to.
#[derive(Clone, Debug)]
pub enum Binding {
    /// No TLS.
    Plain,
    /// TLS.
    Tls {
        /// Hash of the server's certificate (RFC 5929, section 4.1).
        server_end_point: Vec<u8>,
    },
}

/// The mechanisms offered on such a connection, the preferred one first.
pub(super) fn mechanisms(binding: &Binding) -> &'static [&'static str] {
    match binding {
        Binding::Plain => &[PLAIN],
        Binding::Tls { .. } => &[PLUS, PLAIN],
    }
}

/// What is stored of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verifier {
    pub salt: [u8; SALT_BYTES],
    pub iterations: u32,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl Verifier {
    /// From a password as typed, or from a verifier made by the client (psql's `\password`) in
    /// PostgreSQL's form. That must have our iterations and salt length: other ones would tell
    /// which names exist, since decoys have these. Costs [`limits::SCRAM_ITERATIONS`] hashes.
    pub fn of_password(password: &str, salt: [u8; SALT_BYTES]) -> Result<Self> {
        if password.starts_with("SCRAM-SHA-256$") {
            return Self::parse(password).ok_or_else(|| {
                let (rounds, salt) = (limits::SCRAM_ITERATIONS, SALT_BYTES);
                Error::new(
                    Code::InvalidParameterValue,
                    "this SCRAM-SHA-256 verifier is not accepted",
                )
                .with_hint(format!("it must have {rounds} iterations and a salt of {salt} bytes"))
            });
        }
        let md5 = password
            .strip_prefix("md5")
            .is_some_and(|hex| hex.len() == 32 && is_hex(hex));
        if md5 {
            return Err(Error::new(
                Code::InvalidParameterValue,
                "MD5 passwords are not accepted",
            ));
        }
        if password.is_empty() || password.len() > limits::PASSWORD_BYTES {
            let most = limits::PASSWORD_BYTES;
            return Err(Error::new(
                Code::InvalidParameterValue,
                format!("a password has 1 to {most} bytes"),
            ));
        }
        Ok(Self::derive(password, salt))
    }

    fn derive(password: &str, salt: [u8; SALT_BYTES]) -> Self {
        let iterations = limits::SCRAM_ITERATIONS;
        let salted = salted(password, &salt, iterations);
        let stored_key = Sha256::digest(hmac(&salted, b"Client Key")).into();
        Self {
            salt,
            iterations,
            stored_key,
            server_key: hmac(&salted, b"Server Key"),
        }
    }

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    fn parse(text: &str) -> Option<Self> {
        let (rounds_and_salt, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (rounds, salt) = rounds_and_salt.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations = rounds.parse().ok().filter(|&n: &u32| n == limits::SCRAM_ITERATIONS)?;
        Some(Self {
            salt: base64(salt)?,
            iterations,
            stored_key: base64(stored_key)?,
            server_key: base64(server_key)?,
        })
    }

    /// Whether this is the password (not a verifier) that it was made of.
    pub fn is_of(&self, password: &str) -> bool {
        let again = Self::derive(password, self.salt);
        again.stored_key.ct_eq(&self.stored_key).into() && self.iterations == again.iterations
    }
}

/// One exchange after its first two messages.
pub(super) struct Exchange {
    /// `client-first-message-bare` "," `server-first-message`.
    transcript: String,
    nonce: String,
    /// The only `c=` that the client may send.
    binding: String,
}

impl Exchange {
    /// Reads client-first and writes server-first. `server_nonce` is fresh, printable, without commas.
    pub fn begin(
        mechanism: &str,
        client_first: &[u8],
        binding: &Binding,
        verifier: &Verifier,
        server_nonce: &str,
    ) -> Result<(Self, Vec<u8>)> {
        if !mechanisms(binding).contains(&mechanism) {
            return Err(malformed("a mechanism was chosen that was not offered"));
        }
        let text = text(client_first)?;
        let (flag, rest) = text.split_once(',').ok_or_else(|| malformed("it has no GS2 header"))?;
        let (authzid, bare) = rest.split_once(',').ok_or_else(|| malformed("it has no GS2 header"))?;
        let data: &[u8] = match (mechanism, flag, binding) {
            (PLAIN, "n", _) => &[],
            (PLAIN, "y", Binding::Plain) => &[],
            // The client believes that no binding was offered, but it was: somebody is in between.
            (PLAIN, "y", Binding::Tls { .. }) => return Err(malformed("the offered channel binding was removed")),
            (PLUS, flag, Binding::Tls { server_end_point }) if flag.strip_prefix("p=") == Some(BINDING_TYPE) => {
                server_end_point
            }
            _ => return Err(malformed("its channel binding does not fit the mechanism")),
        };
        if !authzid.is_empty() {
            return Err(malformed("acting as another user is not supported"));
        }
        let mut attributes = bare.split(',');
        // The name in n= is ignored, as in PostgreSQL: the startup packet has told it.
        let name = attributes.next().unwrap_or_default();
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).unwrap_or_default();
        if !name.starts_with("n=") {
            return Err(malformed("it must begin with a name; extensions are not supported"));
        }
        if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(malformed("it has no nonce"));
        }
        let nonce = format!("{nonce}{server_nonce}");
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(verifier.salt), verifier.iterations);
        let header = &client_first[..text.len() - bare.len()];
        let exchange = Self {
            transcript: format!("{bare},{server_first}"),
            nonce,
            binding: BASE64.encode([header, data].concat()),
        };
        Ok((exchange, server_first.into_bytes()))
    }

    /// Checks client-final; answers server-final if the proof is of the verifier's password.
    pub fn finish(&self, verifier: &Verifier, client_final: &[u8]) -> Result<Option<Vec<u8>>> {
        let text = text(client_final)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(|| malformed("it has no proof"))?;
        let proof: [u8; 32] = base64(proof).ok_or_else(|| malformed("its proof is not 32 bytes of base64"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c="));
        let binding = binding.ok_or_else(|| malformed("it has no channel binding"))?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r="));
        if nonce != Some(&self.nonce) {
            return Err(malformed("its nonce is not the one of this exchange"));
        }
        if binding != self.binding {
            return Err(Error::new(Code::InvalidPassword, "channel binding check failed")
                .with_hint("the TLS connection does not end at this server, or the client changed its mind"));
        }
        let message = format!("{},{without_proof}", self.transcript);
        let signature = hmac(&verifier.stored_key, message.as_bytes());
        let mut client_key = Zeroizing::new(proof);
        client_key
            .iter_mut()
            .zip(signature)
            .for_each(|(key, mask)| *key ^= mask);
        let found: [u8; 32] = Sha256::digest(*client_key).into();
        let server_final = format!("v={}", BASE64.encode(hmac(&verifier.server_key, message.as_bytes())));
        Ok(bool::from(found.ct_eq(&verifier.stored_key)).then(|| server_final.into_bytes()))
    }
}

/// SaltedPassword of RFC 5802. A password that SASLprep refuses is taken as its bytes, as PostgreSQL does.
pub(super) fn salted(password: &str, salt: &[u8], iterations: u32) -> Zeroizing<[u8; 32]> {
    let prepared = stringprep::saslprep(password)
        .ok()
        .filter(|p| !p.is_empty())
        .unwrap_or(password.into());
    Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(
        prepared.as_bytes(),
        salt,
        iterations,
    ))
}

/// Plain HMAC-SHA-256, as the RFC composes it.
pub(super) fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new((&block).into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn text(message: &[u8]) -> Result<&str> {
    std::str::from_utf8(message).map_err(|_| malformed("it is not text"))
}

fn base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn malformed(why: &str) -> Error {
    Error::new(Code::ProtocolViolation, format!("malformed SCRAM message: {why}"))
}
