//! Addresses of providers.

use std::fmt;

use crate::{error::Result, ledger::provider::url};

/// Where a provider is: `http` or `https`, host, perhaps port and path; no slash at the end.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    text: String,
    host: String,
}

impl BaseUrl {
    /// An address as the operator wrote it; [`url`] has the rules.
    ///
    /// # Errors
    /// Those of [`url`].
    pub fn parse(text: &str) -> Result<Self> {
        let url = url(text)?;
        Ok(Self {
            host: url.host_str().unwrap_or_default().to_owned(),
            text: url.as_str().trim_end_matches('/').to_owned(),
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
    fn addresses_are_kept_without_a_slash_at_the_end() {
        for (good, kept) in [
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("http://LOCALHOST:11434/v1", "http://localhost:11434/v1"),
            ("http://[::1]:8000", "http://[::1]:8000"),
        ] {
            assert_eq!(BaseUrl::parse(good).unwrap().as_str(), kept);
        }
        assert!(BaseUrl::parse("unix:/run/socket").is_err());
        let openai = BaseUrl::parse("https://api.openai.com/v1").unwrap();
        assert!(openai.is_openai() && openai.is_https());
        assert!(!BaseUrl::parse("https://api.openai.com.evil.test").unwrap().is_openai());
    }
}
