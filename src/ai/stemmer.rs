//! Porter's stemmer: English words without their endings.
//!
//! M. F. Porter 1980, "An algorithm for suffix stripping", as published. The built-in embedder's
//! stored vectors depend on it, so it must never change.

/// Suffixes of steps 2 to 4 with what replaces them; the first that fits is the longest.
const STEP_2: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("ization", "ize"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("iveness", "ive"),
    ("tional", "tion"),
    ("biliti", "ble"),
    ("entli", "ent"),
    ("ousli", "ous"),
    ("ation", "ate"),
    ("alism", "al"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("abli", "able"),
    ("alli", "al"),
    ("ator", "ate"),
    ("eli", "e"),
];
const STEP_3: &[(&str, &str)] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ness", ""),
    ("ful", ""),
];
const STEP_4: &[&str] = &[
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ion", "ism", "ate", "iti", "ous", "ive", "ize",
    "al", "er", "ic", "ou",
];

/// The stem of a word of lower-case ASCII letters; any other is returned as it is.
pub(super) fn stem(word: &str) -> String {
    let mut word = Word(word.to_owned());
    if word.0.len() > 2 && word.0.bytes().all(|byte| byte.is_ascii_lowercase()) {
        word.plurals();
        word.past_and_continuous();
        if word.0.ends_with('y') && word.has_vowel(word.0.len() - 1) {
            word.replace(1, "i");
        }
        word.table(STEP_2);
        word.table(STEP_3);
        word.drop_suffix();
        word.last_letters();
    }
    word.0
}

struct Word(String);

impl Word {
    /// Whether the letter there is a consonant: neither a, e, i, o, u, nor a y after a consonant.
    fn is_consonant(&self, at: usize) -> bool {
        match self.0.as_bytes()[at] {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            // A run of y's alternates; walking back over it ends at its first letter.
            b'y' => {
                let run = self.0.as_bytes()[..at]
                    .iter()
                    .rev()
                    .take_while(|byte| **byte == b'y')
                    .count();
                let first = at - run;
                let first_is_consonant = first == 0 || !self.is_consonant(first - 1);
                first_is_consonant == run.is_multiple_of(2)
            }
            _ => true,
        }
    }

    fn has_vowel(&self, length: usize) -> bool {
        (0..length).any(|at| !self.is_consonant(at))
    }

    /// How often vowels are followed by consonants in the first letters: the paper's m.
    fn measure(&self, length: usize) -> usize {
        let mut after_vowel = false;
        let mut measure = 0;
        for at in 0..length {
            let consonant = self.is_consonant(at);
            measure += usize::from(after_vowel && consonant);
            after_vowel = !consonant;
        }
        measure
    }

    /// Whether the first letters end as in "hop": consonant, vowel, consonant that is not w, x, y.
    fn ends_like_hop(&self, length: usize) -> bool {
        length >= 3
            && self.is_consonant(length - 3)
            && !self.is_consonant(length - 2)
            && self.is_consonant(length - 1)
            && !matches!(self.0.as_bytes()[length - 1], b'w' | b'x' | b'y')
    }

    fn ends_in_double_consonant(&self) -> bool {
        let bytes = self.0.as_bytes();
        let length = bytes.len();
        length >= 2 && bytes[length - 1] == bytes[length - 2] && self.is_consonant(length - 1)
    }

    /// Replaces the last `letters`.
    fn replace(&mut self, letters: usize, with: &str) {
        self.0.truncate(self.0.len() - letters);
        self.0.push_str(with);
    }

    /// Step 1a.
    fn plurals(&mut self) {
        if self.0.ends_with("sses") || self.0.ends_with("ies") {
            self.replace(2, "");
        } else if self.0.ends_with('s') && !self.0.ends_with("ss") {
            self.replace(1, "");
        }
    }

    /// Step 1b.
    fn past_and_continuous(&mut self) {
        if self.0.ends_with("eed") {
            if self.measure(self.0.len() - 3) > 0 {
                self.replace(1, "");
            }
            return;
        }
        let suffix = ["ed", "ing"].into_iter().find(|suffix| self.0.ends_with(suffix));
        let Some(suffix) = suffix.filter(|suffix| self.has_vowel(self.0.len() - suffix.len())) else {
            return;
        };
        self.replace(suffix.len(), "");
        if ["at", "bl", "iz"].iter().any(|end| self.0.ends_with(end)) {
            self.0.push('e');
        } else if self.ends_in_double_consonant() && !self.0.ends_with(['l', 's', 'z']) {
            self.replace(1, "");
        } else if self.measure(self.0.len()) == 1 && self.ends_like_hop(self.0.len()) {
            self.0.push('e');
        }
    }

    /// Steps 2 and 3.
    fn table(&mut self, table: &[(&str, &str)]) {
        if let Some((suffix, with)) = table.iter().find(|(suffix, _)| self.0.ends_with(suffix))
            && self.measure(self.0.len() - suffix.len()) > 0
        {
            self.replace(suffix.len(), with);
        }
    }

    /// Step 4.
    fn drop_suffix(&mut self) {
        let Some(suffix) = STEP_4.iter().find(|suffix| self.0.ends_with(**suffix)) else {
            return;
        };
        let length = self.0.len() - suffix.len();
        if self.measure(length) > 1 && (*suffix != "ion" || self.0[..length].ends_with(['s', 't'])) {
            self.replace(suffix.len(), "");
        }
    }

    /// Step 5.
    fn last_letters(&mut self) {
        if self.0.ends_with('e') {
            let length = self.0.len() - 1;
            let measure = self.measure(length);
            if measure > 1 || (measure == 1 && !self.ends_like_hop(length)) {
                self.replace(1, "");
            }
        }
        if self.0.ends_with("ll") && self.measure(self.0.len() - 1) > 1 {
            self.replace(1, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_paper() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("bled", "bled"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflat"),
            ("troubled", "troubl"),
            ("sized", "size"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("hissing", "hiss"),
            ("filing", "file"),
            ("failing", "fail"),
            ("happy", "happi"),
            ("sky", "sky"),
            ("relational", "relat"),
            ("conditional", "condit"),
            ("valenci", "valenc"),
            ("radically", "radic"),
            ("vietnamization", "vietnam"),
            ("sensibility", "sensibl"),
            ("triplicate", "triplic"),
            ("hopeful", "hope"),
            ("goodness", "good"),
            ("revival", "reviv"),
            ("adjustment", "adjust"),
            ("adoption", "adopt"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("controll", "control"),
            ("roll", "roll"),
            ("generalizations", "gener"),
            ("oscillators", "oscil"),
            ("is", "is"),
            ("syzygy", "syzygi"),
            ("yyyy", "yyyi"),
            ("ing", "ing"),
            ("café", "café"),
            ("x86s", "x86s"),
            ("", ""),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
        for letter in 'a'..='z' {
            stem(&letter.to_string().repeat(64));
        }
    }
}
