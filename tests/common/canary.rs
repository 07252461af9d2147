//! Secrets that must not be heard, and the search for them in any bytes: plain, hex, base64 and floats (O1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

/// Something that only one tenant may see.
#[derive(Clone, Debug)]
pub struct Canary {
    name: String,
    /// Byte strings, any of which in a capture is a leak. Letters are compared without case.
    needles: Vec<(&'static str, Vec<u8>)>,
}

impl Canary {
    /// A unique text, of eight characters or more.
    pub fn text(secret: &str) -> Self {
        let bytes = secret.as_bytes();
        assert!(bytes.len() >= 8, "{secret:?} is too short to be told from chance");
        let mut needles = vec![("plain", bytes.to_vec()), ("hex", hex(bytes).into_bytes())];
        // Base64 of the secret within longer data: drop what its neighbours decide, at each of three alignments.
        for shift in 0..3 {
            let padded = [&vec![0; shift][..], bytes].concat();
            let encoded = BASE64.encode(&padded[..padded.len() / 3 * 3]);
            needles.push(("base64", encoded.as_bytes()[(shift * 8).div_ceil(6)..].to_vec()));
        }
        Self {
            name: secret.to_owned(),
            needles,
        }
    }

    /// Neighbouring values of a vector; at least four of them are other than zero.
    pub fn floats(name: &str, values: &[f32]) -> Self {
        assert!(
            values.iter().filter(|v| **v != 0.0).count() >= 4,
            "too few values to be told from chance"
        );
        let little: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
        let text = values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        let mut needles = vec![("text", text.into_bytes()), ("hex", hex(&little).into_bytes())];
        needles.push(("little-endian f32", little));
        needles.push(("big-endian f32", big));
        Self {
            name: name.to_owned(),
            needles,
        }
    }

    /// The most telling window of a vector as its text shows it: `[0.1,0,...]`.
    pub fn vector(name: &str, shown: &str) -> Self {
        let values: Vec<f32> = shown
            .trim_matches(['[', ']'])
            .split(',')
            .map(|v| v.trim().parse().expect("a number"))
            .collect();
        let telling = |w: &&[f32]| w.iter().filter(|v| **v != 0.0).count();
        let window = values
            .windows(8.min(values.len()))
            .max_by_key(telling)
            .expect("a vector has values");
        Self::floats(name, window)
    }

    /// How it shows in these bytes, if it does.
    pub fn found_in(&self, bytes: &[u8]) -> Option<String> {
        let folded = bytes.to_ascii_lowercase();
        self.needles.iter().find_map(|(how, needle)| {
            let exact = *how == "base64" || how.ends_with("f32");
            let at = if exact {
                find(bytes, needle)
            } else {
                find(&folded, &needle.to_ascii_lowercase())
            };
            at.map(|at| {
                let around = &bytes[at.saturating_sub(80)..(at + needle.len() + 40).min(bytes.len())];
                format!("{} as {how} in ...{}...", self.name, String::from_utf8_lossy(around))
            })
        })
    }
}

/// Fails the test if any of the secrets shows in the bytes.
pub fn assert_silent(canaries: &[Canary], bytes: &[u8], source: &str) {
    for canary in canaries {
        if let Some(how) = canary.found_in(bytes) {
            panic!("LEAK at {source}: {how}");
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Where the needle begins.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&b| b == first) {
        if bytes[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}
