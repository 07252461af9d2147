//! The list of settings, and how the text of each becomes a value or a complaint.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

use zeroize::Zeroizing;

use super::{LogLevel, Refusal};
use crate::limits;

pub(super) const PREFIX: &str = "BULKHEAD_";

/// One setting: its name in the file; `--name` and `BULKHEAD_NAME` follow from it.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) allowed: &'static str,
    pub(super) places: Places,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    Everywhere,
    /// Not in the file: it says where the file is.
    FlagAndEnvironment,
    /// A secret: flags are visible to every process of the machine.
    Environment,
}

/// Every setting of `bulkhead serve`.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "config",
        allowed: "the path of a TOML file",
        places: Places::FlagAndEnvironment,
    },
    Setting {
        name: "data",
        allowed: "the path of a directory",
        places: Places::Everywhere,
    },
    Setting {
        name: "listen",
        allowed: "HOST:PORT, such as 127.0.0.1:5433",
        places: Places::Everywhere,
    },
    Setting {
        name: "tls_cert",
        allowed: "the path of a PEM certificate chain",
        places: Places::Everywhere,
    },
    Setting {
        name: "tls_key",
        allowed: "the path of a PEM private key",
        places: Places::Everywhere,
    },
    Setting {
        name: "allow_plaintext",
        allowed: "true or false",
        places: Places::Everywhere,
    },
    Setting {
        name: "provider_ca",
        allowed: "the path of a PEM file of certificates",
        places: Places::Everywhere,
    },
    Setting {
        name: "region",
        allowed: "1 to 63 of a-z, 0-9 and '-'",
        places: Places::Everywhere,
    },
    Setting {
        name: "master_key_file",
        allowed: "the path of a file of mode 0600",
        places: Places::Everywhere,
    },
    Setting {
        name: "min_free_mib",
        allowed: "a whole number from 1 to 1048576",
        places: Places::Everywhere,
    },
    Setting {
        name: "vector_memory",
        allowed: "bytes, from 1MiB on, such as 512MiB or 8GiB",
        places: Places::Everywhere,
    },
    Setting {
        name: "log_level",
        allowed: "off, error, warn, info, debug or trace",
        places: Places::Everywhere,
    },
    Setting {
        name: "master_key",
        allowed: "64 hexadecimal digits",
        places: Places::Environment,
    },
    Setting {
        name: "admin_password",
        allowed: "1 to 1024 bytes of text",
        places: Places::Environment,
    },
];

const LOG_LEVELS: [(&str, LogLevel); 6] = [
    ("off", LogLevel::Off),
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// Where a value came from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Flag(&'static str),
    Environment(&'static str),
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{}", name.replace('_', "-")),
            Self::Environment(name) => write!(f, "environment {}", variable(name)),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

pub(super) struct Given {
    pub(super) text: Zeroizing<String>,
    pub(super) source: Source,
}

impl Given {
    pub(super) fn new(text: String, source: Source) -> Self {
        Self {
            text: Zeroizing::new(text),
            source,
        }
    }
}

/// Variables that others put beside ours: Kubernetes, for a service named `bulkhead`, and tests.
pub(super) fn is_foreign(name: &str) -> bool {
    name == "PORT" || ["PORT_", "SERVICE_", "TEST_"].iter().any(|p| name.starts_with(p))
}

pub(super) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase())
}

pub(super) fn setting(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|s| s.name == name).unwrap_or(&SETTINGS[0])
}

pub(super) fn unknown(what: &str, spelling: fn(&Setting) -> Option<String>) -> Refusal {
    let known: Vec<String> = SETTINGS.iter().filter_map(spelling).collect();
    Refusal::wrong(format!("unknown setting {what}; known are {}", known.join(", ")))
}

pub(super) fn wrong(setting: &Setting, given: &Given, problem: &str) -> Refusal {
    let shown = match setting.places {
        Places::Environment => String::new(),
        _ if given.text.is_empty() => String::new(),
        _ => format!("'{}' ", given.text.escape_debug()),
    };
    Refusal::wrong(format!(
        "{} ({}): {shown}{problem}; allowed: {}",
        setting.name, given.source, setting.allowed
    ))
}

/// A name with several addresses (`localhost`) gives its IPv4 one, which every client tries.
pub(super) fn address(setting: &'static Setting, given: &Given) -> Result<SocketAddr, Refusal> {
    let found: Vec<SocketAddr> = given
        .text
        .to_socket_addrs()
        .map_err(|e| wrong(setting, given, &format!("is no address to listen on ({e})")))?
        .collect();
    let first = found.iter().find(|a| a.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| wrong(setting, given, "has no address"))
}

pub(super) fn boolean(setting: &'static Setting, given: &Given) -> Result<bool, Refusal> {
    given
        .text
        .parse()
        .map_err(|_| wrong(setting, given, "is neither true nor false"))
}

pub(super) fn region(setting: &'static Setting, given: &Given) -> Result<String, Refusal> {
    let text = given.text.as_str();
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !plain || text.len() > limits::NAME_BYTES {
        return Err(wrong(setting, given, "is not a region's name"));
    }
    Ok(text.to_owned())
}

pub(super) fn mebibytes(setting: &'static Setting, given: &Given) -> Result<u64, Refusal> {
    match given.text.parse::<u64>() {
        Ok(mib @ 1..=1_048_576) => Ok(mib << 20),
        _ => Err(wrong(setting, given, "is not such a number")),
    }
}

/// A number of bytes; with KiB, MiB, GiB or TiB after it of so many.
pub(super) fn bytes(setting: &'static Setting, given: &Given) -> Result<usize, Refusal> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let text = given.text.as_str();
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, shift) = unit.map_or((text, 0), |(unit, shift)| (&text[..text.len() - unit.len()], *shift));
    // Without a sign, which `parse` would take.
    let plain = number.bytes().all(|b| b.is_ascii_digit());
    let bytes = number.parse::<usize>().ok().filter(|_| plain);
    match bytes.and_then(|bytes| bytes.checked_mul(1 << shift)) {
        Some(bytes) if bytes >= 1 << 20 => Ok(bytes),
        _ => Err(wrong(setting, given, "is not such a number of bytes")),
    }
}

pub(super) fn log_level(setting: &'static Setting, given: &Given) -> Result<LogLevel, Refusal> {
    let found = LOG_LEVELS.iter().find(|(name, _)| *name == given.text.as_str());
    found
        .map(|(_, level)| *level)
        .ok_or_else(|| wrong(setting, given, "is not a log level"))
}

pub(super) fn password(setting: &'static Setting, given: &Given) -> Result<String, Refusal> {
    if given.text.len() > limits::PASSWORD_BYTES {
        return Err(wrong(setting, given, "is too long"));
    }
    Ok(given.text.to_string())
}

pub(super) fn key_bytes(setting: &'static Setting, given: &Given) -> Result<Zeroizing<[u8; 32]>, Refusal> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let text = given.text.as_bytes();
    let mut key = Zeroizing::new([0_u8; 32]);
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != key.len() || !rest.is_empty() {
        return Err(wrong(setting, given, &format!("has {} characters", text.len())));
    }
    for (byte, [high, low]) in key.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(wrong(setting, given, "has other characters than hexadecimal digits"));
        };
        *byte = high << 4 | low;
    }
    Ok(key)
}
