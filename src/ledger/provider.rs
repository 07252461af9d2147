//! Providers: where models are reached, as the operator's rows of `bulkhead.providers`, and a tenant's
//! own keys for them. Keys are written, sealed like all rows, and shown to nobody.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;
use zeroize::Zeroizing;

use super::{model::BUILTIN, price::DATABASE, published::FromRows, row, usage::now_micros};
use crate::{
    codec::key,
    error::{Code, Error, Result},
    limits,
    tenant::{Published, Table, Tenant},
};

/// The key of an account at a provider. Wiped when dropped; nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A key as the provider gave it.
    ///
    /// # Errors
    /// [`Code::InvalidParameterValue`] unless it is 1 to [`limits::PROVIDER_KEY_BYTES`] printable ASCII
    /// characters without blanks: it has to fit in a header. The message does not repeat it.
    pub fn new(key: &str) -> Result<Self> {
        let fits = (1..=limits::PROVIDER_KEY_BYTES).contains(&key.len());
        if fits && key.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(Zeroizing::new(key.to_owned())));
        }
        let most = limits::PROVIDER_KEY_BYTES;
        Err(Error::new(
            Code::InvalidParameterValue,
            format!("an API key is 1 to {most} printable ASCII characters without blanks"),
        ))
    }

    /// The key itself, for the header of a request and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.as_str().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|key| Self(Zeroizing::new(key)))
    }
}

/// One row of `bulkhead.providers`: an OpenAI-compatible endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRow {
    /// The name that models carry.
    pub name: String,
    /// `https://api.openai.com/v1`: what the paths of the API are appended to.
    pub base_url: String,
    /// The operator's key, used for tenants without one of their own. Many local servers want none.
    pub api_key: Option<Secret>,
    /// Where it computes, if that is known.
    pub region: Option<String>,
    /// Longest time of one request in milliseconds, 1 to [`limits::STATEMENT_TIMEOUT`].
    pub timeout_ms: i32,
}

impl ProviderRow {
    /// The key of the row of this name.
    pub fn key(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        key::put_bytes(&mut bytes, name.as_bytes());
        bytes
    }

    /// The stored value.
    ///
    /// # Errors
    /// [`Code::CheckViolation`] for a name, a URL or a time that cannot be.
    pub fn encode(&self) -> Result<Vec<u8>> {
        check_name(&self.name)?;
        origin(&self.base_url)?;
        let most = limits::STATEMENT_TIMEOUT.as_millis();
        if !u128::try_from(self.timeout_ms).is_ok_and(|ms| (1..=most).contains(&ms)) {
            return Err(violated(format!("timeout_ms must be between 1 and {most}")));
        }
        row::encode(self)
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn decode(value: &[u8]) -> Result<Self> {
        row::decode("provider", value)
    }
}

fn violated(message: impl Into<String>) -> Error {
    Error::new(Code::CheckViolation, message)
}

fn check_name(name: &str) -> Result<()> {
    let shaped = !name.is_empty()
        && name.len() <= limits::NAME_BYTES
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if !shaped {
        let text = "a provider's name is 1 to 63 of a-z, A-Z, 0-9, _, - and .";
        return Err(violated(text));
    }
    match [BUILTIN, DATABASE].contains(&name) {
        true => Err(violated(format!("the name \"{name}\" is reserved"))),
        false => Ok(()),
    }
}

/// Scheme, host and port of a URL that can be called: `https://api.openai.com`. A key is for one origin.
///
/// # Errors
/// [`Code::CheckViolation`] if it is not http or https, names a user or a password, or has a query or
/// a fragment. The message does not repeat it.
pub fn origin(text: &str) -> Result<String> {
    Ok(url(text)?.origin().ascii_serialization())
}

/// A URL that can be called; [`origin`] says which cannot.
///
/// # Errors
/// See [`origin`].
pub fn url(url: &str) -> Result<Url> {
    let hint = "such as https://api.openai.com/v1 or http://127.0.0.1:11434/v1";
    let refuse = |why: &str| violated(format!("the URL {why}")).with_hint(hint);
    if url.len() > limits::URL_BYTES || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(refuse("is too long or has blanks in it"));
    }
    let url = Url::parse(url).map_err(|_| refuse("cannot be read"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refuse("must begin with http:// or https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("must not hold a user or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("must not hold a query or a fragment"));
    }
    Ok(url)
}

/// All providers of one generation, by name.
#[derive(Clone, Debug, Default)]
pub struct Providers(BTreeMap<String, ProviderRow>);

impl Providers {
    /// The provider of this name.
    pub fn get(&self, name: &str) -> Option<&ProviderRow> {
        self.0.get(name)
    }
}

impl FromRows for Providers {
    const KIND: Published = Published::Providers;

    fn from_rows(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Self> {
        let providers = rows
            .iter()
            .map(|(_, value)| ProviderRow::decode(value).map(|provider| (provider.name.clone(), provider)));
        Ok(Self(providers.collect::<Result<_>>()?))
    }
}

/// A key that a tenant's owner has set: a row of [`Table::Secrets`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKey {
    /// Name in `bulkhead.providers`.
    pub provider: String,
    /// Used for this tenant's calls only.
    pub api_key: Secret,
    /// When it was set, in microseconds since 1970 UTC.
    pub set_at_micros: i64,
}

impl OwnKey {
    /// A key set now.
    pub fn now(provider: &str, api_key: Secret) -> Self {
        Self {
            provider: provider.to_owned(),
            api_key,
            set_at_micros: now_micros(),
        }
    }

    /// The key in [`Table::Secrets`] of a provider's.
    pub fn key(provider: &str) -> Vec<u8> {
        ProviderRow::key(provider)
    }

    /// The stored value.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>> {
        row::encode(self)
    }

    /// The tenant's own key for a provider, if it has set one.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn find(tenant: &Tenant, provider: &str) -> Result<Option<Self>> {
        let stored = tenant.get(Table::Secrets, &Self::key(provider))?;
        stored.map(|stored| row::decode("secret", &stored.value)).transpose()
    }

    /// All of them, by provider.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn all(tenant: &Tenant) -> Result<Vec<Self>> {
        let rows = tenant.scan(Table::Secrets, &[]);
        rows.map(|row| row::decode("secret", &row?.1.value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> ProviderRow {
        ProviderRow {
            name: "openai".to_owned(),
            base_url: "https://api.openai.com/v1".to_owned(),
            api_key: Some(Secret::new("sk-canary-0123456789").unwrap()),
            region: Some("us".to_owned()),
            timeout_ms: 60_000,
        }
    }

    #[test]
    fn a_provider_survives_storage_and_never_prints_its_key() {
        let row = provider();
        let read = ProviderRow::decode(&row.encode().unwrap()).unwrap();
        assert_eq!(read, row);
        assert_eq!(read.api_key.as_ref().unwrap().expose(), "sk-canary-0123456789");
        let own = OwnKey::now("openai", Secret::new("sk-canary-0123456789").unwrap());
        for shown in [format!("{row:?}"), format!("{own:#?}"), format!("{:?}", own.api_key)] {
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn what_cannot_be_called_is_refused_without_repeating_it() {
        let with = |change: fn(&mut ProviderRow)| {
            let mut row = provider();
            change(&mut row);
            let error = row.encode().unwrap_err();
            assert_eq!(error.code(), Code::CheckViolation, "{error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        };
        with(|p| p.base_url = "ftp://canary/v1".to_owned());
        with(|p| p.base_url = "file:///canary".to_owned());
        with(|p| p.base_url = "canary".to_owned());
        with(|p| p.base_url = "https://".to_owned());
        with(|p| p.base_url = "https://canary:pw@api.openai.com/v1".to_owned());
        with(|p| p.base_url = "https://canary@api.openai.com/v1".to_owned());
        with(|p| p.base_url = "https://api.openai.com/v1?key=canary".to_owned());
        with(|p| p.base_url = "https://api.openai.com/v1#canary".to_owned());
        with(|p| p.base_url = "https://api.openai.com/v1\r\nx: canary".to_owned());
        with(|p| p.base_url = format!("https://api.openai.com/{}", "canary".repeat(1_000)));
        with(|p| p.name = "builtin".to_owned());
        with(|p| p.name = "database".to_owned());
        with(|p| p.name = String::new());
        with(|p| p.name = "a canary".to_owned());
        with(|p| p.timeout_ms = 0);
        with(|p| p.timeout_ms = -1);
        with(|p| p.timeout_ms = i32::MAX);
        for key in [
            "",
            "canary with blanks",
            "canary\r\nx: y",
            "canary\u{e9}",
            &"k".repeat(10_000),
        ] {
            let error = Secret::new(key).unwrap_err();
            assert_eq!(error.code(), Code::InvalidParameterValue);
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(
            origin("https://API.openai.com:443/v1/").unwrap(),
            "https://api.openai.com"
        );
        assert_eq!(origin("http://127.0.0.1:11434/v1").unwrap(), "http://127.0.0.1:11434");
        assert_ne!(origin("http://h/v1").unwrap(), origin("https://h/v1").unwrap());
        assert_ne!(origin("http://h:1/v1").unwrap(), origin("http://h:2/v1").unwrap());
    }
}
