//! Providers as the operator's rows of `bulkhead.providers`.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use super::secret::Secret;
use crate::{
    codec::key,
    error::{Code, Error, Result},
    ledger::published::FromRows,
    limits,
    tenant::Published,
};

const VERSION: u8 = 1;

/// Where a provider is: `http` or `https`, host, perhaps port and path; no slash at the end.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    text: String,
    host: String,
}

impl BaseUrl {
    /// An address as somebody wrote it.
    ///
    /// # Errors
    /// [`Code::InvalidParameterValue`] for any other kind of address, and for one that holds
    /// credentials, a query or a fragment. The text is not repeated: it may hold a password.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            Error::new(Code::InvalidParameterValue, format!("base_url {why}")).with_hint(
                "it looks like https://api.openai.com/v1 or http://localhost:11434/v1; the key goes into api_key",
            )
        };
        if text.len() > limits::URL_BYTES {
            return Err(refused("is too long"));
        }
        let url = Url::parse(text.trim()).map_err(|_| refused("is not an address"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("begins neither with http:// nor with https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("holds credentials"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("holds a query or a fragment"));
        }
        let host = url.host_str().ok_or_else(|| refused("has no host"))?.to_owned();
        Ok(Self {
            text: url.as_str().trim_end_matches('/').to_owned(),
            host,
        })
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// Whether this is OpenAI itself, whose newer models know `max_tokens` under another name only.
    pub(super) fn is_openai(&self) -> bool {
        self.host == "api.openai.com" || self.host.ends_with(".openai.azure.com")
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One row of `bulkhead.providers`.
#[derive(Clone, Debug)]
pub struct ProviderRow {
    /// The name that models carry.
    pub name: String,
    /// Where it is.
    pub base_url: BaseUrl,
    /// The operator's key; absent for a server that asks for none.
    pub api_key: Option<Secret>,
    /// Where what is sent is processed.
    pub region: Option<String>,
    /// Longest time of one attempt, in milliseconds; from 1 to [`limits::PROVIDER_TIMEOUT`].
    pub timeout_ms: i32,
}

/// The row as it is stored, where the operator's plane seals it.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    name: &'a str,
    base_url: &'a str,
    api_key: Option<&'a str>,
    region: Option<&'a str>,
    timeout_ms: i32,
}

impl ProviderRow {
    /// The key of the row of this name.
    pub fn key(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        key::put_bytes(&mut bytes, name.as_bytes());
        bytes
    }

    /// The stored value. It holds the provider's key in clear: it is for a sealed store only.
    ///
    /// # Errors
    /// [`Code::InvalidParameterValue`] for a timeout out of range.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let longest = limits::PROVIDER_TIMEOUT.as_millis();
        if self.timeout_ms < 1 || i64::from(self.timeout_ms) as u128 > longest {
            return Err(Error::new(
                Code::InvalidParameterValue,
                format!("timeout_ms is not between 1 and {longest}"),
            ));
        }
        let stored = Stored {
            name: &self.name,
            base_url: self.base_url.as_str(),
            api_key: self.api_key.as_ref().map(Secret::expose),
            region: self.region.as_deref(),
            timeout_ms: self.timeout_ms,
        };
        postcard::to_extend(&stored, vec![VERSION]).map_err(Error::internal)
    }

    /// Reads a stored value.
    ///
    /// # Errors
    /// [`Code::Corrupted`].
    pub fn decode(value: &[u8]) -> Result<Self> {
        let damaged = || Error::new(Code::Corrupted, "a stored provider cannot be read");
        let Some((&VERSION, body)) = value.split_first() else {
            return Err(damaged());
        };
        let (stored, rest): (Stored<'_>, _) = postcard::take_from_bytes(body).map_err(|_| damaged())?;
        if !rest.is_empty() {
            return Err(damaged());
        }
        Ok(Self {
            name: stored.name.to_owned(),
            base_url: BaseUrl::parse(stored.base_url).map_err(|_| damaged())?,
            api_key: stored.api_key.map(Secret::parse).transpose().map_err(|_| damaged())?,
            region: stored.region.map(str::to_owned),
            timeout_ms: stored.timeout_ms,
        })
    }

    /// Longest time of one attempt.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or(0)).min(limits::PROVIDER_TIMEOUT)
    }
}

/// All providers of one generation, by name.
#[derive(Debug, Default)]
pub struct Providers(BTreeMap<String, ProviderRow>);

impl Providers {
    /// The provider of this name.
    pub fn get(&self, name: &str) -> Option<&ProviderRow> {
        self.0.get(name)
    }

    /// Every provider, by name.
    pub fn iter(&self) -> impl Iterator<Item = &ProviderRow> {
        self.0.values()
    }
}

impl FromRows for Providers {
    const KIND: Published = Published::Providers;

    fn from_rows(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Self> {
        let providers = rows
            .iter()
            .map(|(_, value)| ProviderRow::decode(value).map(|row| (row.name.clone(), row)));
        Ok(Self(providers.collect::<Result<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> ProviderRow {
        ProviderRow {
            name: "openai".to_owned(),
            base_url: BaseUrl::parse("https://api.openai.com/v1/").unwrap(),
            api_key: Some(Secret::parse("sk-1234567890").unwrap()),
            region: Some("eu".to_owned()),
            timeout_ms: 30_000,
        }
    }

    #[test]
    fn addresses_are_checked_and_not_repeated() {
        for (good, kept) in [
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            (" http://LOCALHOST:11434/v1", "http://localhost:11434/v1"),
            ("http://[::1]:8000", "http://[::1]:8000"),
        ] {
            assert_eq!(BaseUrl::parse(good).unwrap().as_str(), kept);
        }
        for wrong in [
            "",
            "api.openai.com",
            "ftp://host/v1",
            "file:///etc/passwd",
            "unix:/run/socket",
            "https://user:hunter2@host/v1",
            "https://hunter2@host/v1",
            "https://host/v1?key=hunter2",
            "https://host/v1#hunter2",
            "https://",
            &format!("https://host/{}", "a".repeat(limits::URL_BYTES)),
        ] {
            let error = BaseUrl::parse(wrong).unwrap_err();
            assert_eq!(error.code(), Code::InvalidParameterValue, "{wrong}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(row().base_url.is_openai() && row().base_url.is_https());
        assert!(!BaseUrl::parse("https://api.openai.com.evil.test").unwrap().is_openai());
    }

    #[test]
    fn rows_survive_storage_and_hide_their_key() {
        let value = row().encode().unwrap();
        let back = ProviderRow::decode(&value).unwrap();
        assert_eq!(format!("{back:?}"), format!("{:?}", row()));
        assert_eq!(back.api_key.as_ref().unwrap().expose(), "sk-1234567890");
        assert!(!format!("{back:?}").contains("1234567890"));
        let providers = Providers::from_rows(&[(ProviderRow::key("openai"), value.clone())]).unwrap();
        assert_eq!(providers.get("openai").unwrap().timeout(), Duration::from_secs(30));
        assert_eq!(providers.iter().count(), 1);
        assert!(providers.get("other").is_none());
        for damaged in [&value[..value.len() - 1], &[value.as_slice(), &[0]].concat(), &[9], &[]] {
            assert_eq!(ProviderRow::decode(damaged).unwrap_err().code(), Code::Corrupted);
        }
        for timeout_ms in [0, -1, i32::MAX] {
            let error = ProviderRow { timeout_ms, ..row() }.encode().unwrap_err();
            assert_eq!(error.code(), Code::InvalidParameterValue);
        }
    }
}
