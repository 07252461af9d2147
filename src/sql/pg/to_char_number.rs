//! `to_char` of numbers.

/// A number by a template of `9`, `0`, `.`, `,` and signs.
pub(super) fn number(value: &str, form: &str) -> String {
    let (fm, form) = match form.strip_prefix("FM").or_else(|| form.strip_prefix("fm")) {
        Some(rest) => (true, rest),
        None => (false, form),
    };
    let upper = form.to_uppercase();
    if upper.trim() == "RN" {
        let roman = value
            .parse::<f64>()
            .map_or_else(|_| "#".repeat(15), |n| roman(n.round() as i64));
        return if fm { roman } else { format!("{roman:>15}") };
    }
    let point = upper.find(['.', 'D']).unwrap_or(upper.len());
    let (whole_form, fraction_form) = (&upper[..point], upper.get(point + 1..).unwrap_or(""));
    let count = |part: &str| part.chars().filter(|c| matches!(c, '9' | '0')).count();
    let (places, wholes) = (count(fraction_form), count(whole_form));
    let (negative, digits) = value.strip_prefix('-').map_or((false, value), |d| (true, d));
    let rounded = rounded(digits, places);
    let (whole, fraction) = rounded.split_once('.').unwrap_or((&rounded, ""));
    let negative = negative && rounded.chars().any(|c| matches!(c, '1'..='9'));
    let whole = if whole == "0" { "" } else { whole };
    if whole.len() > wholes {
        let hashes = whole_form
            .chars()
            .filter(|c| matches!(c, '9' | '0' | ',' | 'G'))
            .map(|c| match c {
                ',' | 'G' => ',',
                _ => '#',
            });
        let tail = if places > 0 {
            format!(".{}", "#".repeat(places))
        } else {
            String::new()
        };
        return format!(
            "{}{}{tail}",
            if negative { "-" } else { " " },
            hashes.collect::<String>()
        );
    }
    // From the left: nothing until the first digit, or the first place that wants a zero.
    let mut out = String::new();
    let mut at = 0;
    let mut begun = false;
    let padding = wholes - whole.len();
    for c in whole_form.chars() {
        match c {
            '9' | '0' => {
                let digit = (at >= padding).then(|| whole.as_bytes()[at - padding] as char);
                begun |= digit.is_some() || c == '0';
                match (digit, begun) {
                    (Some(digit), _) => out.push(digit),
                    (None, true) => out.push('0'),
                    (None, false) if !fm => out.push(' '),
                    _ => {}
                }
                at += 1;
            }
            ',' | 'G' if begun => out.push(','),
            ',' | 'G' if !fm => out.push(' '),
            ',' | 'G' | 'S' | 'M' | 'I' | 'P' | 'R' | 'L' | 'V' => {}
            other => out.push(other),
        }
    }
    if !begun && places == 0 {
        // A zero is shown in the last place.
        if out.ends_with(' ') {
            out.pop();
        }
        out.push('0');
    }
    if places > 0 || point < upper.len() {
        out.push('.');
        let mut kept = fraction.to_owned();
        if fm {
            let least = fraction_form
                .rfind('0')
                .map_or(0, |last| count(&fraction_form[..=last]));
            while kept.len() > least && kept.ends_with('0') {
                kept.pop();
            }
        }
        out.push_str(&kept);
    }
    let blanks = out.len() - out.trim_start_matches(' ').len();
    let body = out.trim_start_matches(' ');
    let sign = if negative { "-" } else { "+" };
    let leading = |sign: &str| format!("{}{sign}{body}", " ".repeat(blanks));
    if upper.starts_with('S') {
        leading(sign)
    } else if upper.ends_with('S') {
        format!("{out}{sign}")
    } else if upper.ends_with("MI") {
        format!(
            "{out}{}",
            if negative {
                "-"
            } else if fm {
                ""
            } else {
                " "
            }
        )
    } else if upper.ends_with("PR") {
        if negative {
            format!("{}<{body}>", " ".repeat(blanks))
        } else if fm {
            out
        } else {
            format!(" {out} ")
        }
    } else if negative {
        leading("-")
    } else if fm {
        out
    } else {
        format!(" {out}")
    }
}

/// Decimal text rounded to so many digits after the point, halves away from zero.
fn rounded(digits: &str, places: usize) -> String {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut kept: Vec<u8> = whole
        .bytes()
        .chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(places))
        .collect();
    if fraction.as_bytes().get(places).is_some_and(|d| *d >= b'5') {
        let mut at = kept.len();
        loop {
            if at == 0 {
                kept.insert(0, b'1');
                break;
            }
            at -= 1;
            if kept[at] == b'9' {
                kept[at] = b'0';
            } else {
                kept[at] += 1;
                break;
            }
        }
    }
    let text = String::from_utf8_lossy(&kept).into_owned();
    let (whole, fraction) = text.split_at(text.len() - places);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if places > 0 {
        format!("{whole}.{fraction}")
    } else {
        whole.to_owned()
    }
}

fn roman(number: i64) -> String {
    if !(1..=3999).contains(&number) {
        return "#".repeat(15);
    }
    let steps = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let (mut rest, mut out) = (number, String::new());
    for (value, letters) in steps {
        while rest >= value {
            out.push_str(letters);
            rest -= value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_filled_as_in_postgresql() {
        assert_eq!(number("1234567.891", "9,999,999.99"), " 1,234,567.89");
        assert_eq!(number("-5", "999"), "  -5");
        assert_eq!(number("42", "FM0000"), "0042");
        assert_eq!(number("0.5", "0.99"), " 0.50");
        assert_eq!(number("485", "RN"), "        CDLXXXV");
        assert_eq!(number("12345", "999"), " ###");
        assert_eq!(number("12", "00"), " 12");
    }
}
