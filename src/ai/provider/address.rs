//! Addresses of providers.

use std::fmt;

use url::Url;

use crate::{
    error::{Code, Error, Result},
    limits,
};

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

#[cfg(test)]
mod tests {
    use super::*;

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
        let openai = BaseUrl::parse("https://api.openai.com/v1").unwrap();
        assert!(openai.is_openai() && openai.is_https());
        assert!(!BaseUrl::parse("https://api.openai.com.evil.test").unwrap().is_openai());
    }
}
