//! Functions of text that DataFusion has not, or has with other results or errors.

use datafusion::common::Result;

use super::{
    catalog::quote_ident,
    function::{Body, Function, fail},
    functions::{int, plain, quote_literal, text},
    rows::Value,
    spelling,
};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::Code,
};

const INT4: PgType = PgType::Scalar(Scalar::Int4);
/// Widest field of `format`: what a statement may ask for beyond it would only fill memory.
const FORMAT_WIDTH: usize = 1 << 20;

const fn strict(name: &'static str, returns: PgType, body: fn(&[Value]) -> Result<Value>) -> Function {
    Function {
        name,
        returns,
        body: Body::Strict(body),
    }
}

const fn plainly(name: &'static str, returns: PgType, body: fn(&[Value]) -> Result<Value>) -> Function {
    Function {
        name,
        returns,
        body: Body::Plain(body),
    }
}

/// They need no tenant.
pub const FUNCTIONS: &[Function] = &[
    plainly("format", PgType::TEXT, format),
    plainly("num_nulls", INT4, |a| {
        Ok(Value::Int(a.iter().filter(|v| **v == Value::Null).count() as i64))
    }),
    plainly("num_nonnulls", INT4, |a| {
        Ok(Value::Int(a.iter().filter(|v| **v != Value::Null).count() as i64))
    }),
    strict("split_part", PgType::TEXT, split_part),
    strict("bulkhead_similar", PgType::TEXT, |a| {
        let escape = text(a, 1).and_then(|e| e.chars().next());
        Ok(text(a, 0).map(|p| spelling::similar(p, escape)).into())
    }),
];

fn split_part(arguments: &[Value]) -> Result<Value> {
    let (Some(whole), Some(separator), Some(n)) = (text(arguments, 0), text(arguments, 1), int(arguments, 2)?) else {
        return Ok(Value::Null);
    };
    if n == 0 {
        return Err(fail(Code::InvalidParameterValue, "field position must not be zero"));
    }
    let at = usize::try_from(n.unsigned_abs() - 1).unwrap_or(usize::MAX);
    if separator.is_empty() {
        return Ok(if at == 0 { whole } else { "" }.into());
    }
    let part = match n > 0 {
        true => whole.split(separator).nth(at),
        false => whole.rsplit(separator).nth(at),
    };
    Ok(part.unwrap_or_default().into())
}

/// What stands between `%` and the letter: `n$`, `-`, a width or `*`.
#[derive(Default)]
struct Field {
    position: Option<usize>,
    left: bool,
    width: usize,
}

/// `format('%s %I %L %% %2$s %-5s %*s', ...)`.
fn format(arguments: &[Value]) -> Result<Value> {
    let Some(template) = text(arguments, 0) else {
        return Ok(Value::Null);
    };
    let wrong = |message: &str| fail(Code::InvalidParameterValue, message);
    let mut next = 1;
    let mut out = String::new();
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut digits = || {
            let mut number: Option<usize> = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
            }
            (number, chars.peek().copied())
        };
        let mut field = Field::default();
        match digits() {
            (Some(0), Some('$')) => {
                return Err(wrong("format specifies argument 0, but arguments are numbered from 1"));
            }
            (Some(position), Some('$')) => {
                field.position = Some(position);
                chars.next();
            }
            (Some(width), _) => field.width = width,
            (None, _) => {}
        }
        while chars.next_if_eq(&'-').is_some() {
            field.left = true;
        }
        if chars.next_if_eq(&'*').is_some() {
            let width = int(arguments, next)?.unwrap_or(0);
            next += 1;
            field.left |= width < 0;
            field.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
        } else {
            let mut width: Option<usize> = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                width = Some(width.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
            }
            field.width = width.unwrap_or(field.width);
        }
        if field.width > FORMAT_WIDTH {
            return Err(wrong("number is out of range"));
        }
        let at = field.position.unwrap_or(next);
        next = at + 1;
        let kind = chars
            .next()
            .ok_or_else(|| wrong("unterminated format() type specifier"))?;
        let value = arguments.get(at);
        let value = value.ok_or_else(|| wrong("too few arguments for format()"))?;
        put(&shown(kind, value)?, &field, &mut out);
    }
    Ok(out.into())
}

fn shown(kind: char, value: &Value) -> Result<String> {
    match kind {
        's' => Ok(plain(value)),
        'I' if *value == Value::Null => Err(fail(
            Code::InvalidParameterValue,
            "null values cannot be formatted as an SQL identifier",
        )),
        'I' => Ok(quote_ident(&plain(value))),
        'L' if *value == Value::Null => Ok("NULL".to_owned()),
        'L' => Ok(quote_literal(value)),
        other => Err(fail(
            Code::InvalidParameterValue,
            format!("unrecognized format() type specifier \"{other}\""),
        )),
    }
}

fn put(text: &str, field: &Field, out: &mut String) {
    let fill = field.width.saturating_sub(text.chars().count());
    if !field.left {
        out.extend(std::iter::repeat_n(' ', fill));
    }
    out.push_str(text);
    if field.left {
        out.extend(std::iter::repeat_n(' ', fill));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(arguments: &[&str]) -> String {
        let values: Vec<Value> = arguments.iter().map(|a| Value::from(*a)).collect();
        match format(&values) {
            Ok(value) => plain(&value),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn format_takes_positions_and_widths() {
        assert_eq!(
            called(&["%s %I is %L", "World", "my col", "it's"]),
            "World \"my col\" is 'it''s'"
        );
        assert_eq!(called(&["%2$s %1$s", "a", "b"]), "b a");
        assert_eq!(called(&["%2$s %s", "a", "b", "c"]), "b c");
        assert_eq!(called(&["%5s|%-5s|%*s|", "a", "b", "-3", "c"]), "    a|b    |c  |");
        assert_eq!(called(&["%%"]), "%");
        for (wrong, told) in [
            (&["%s"][..], "too few arguments"),
            (&["%0$s", "a"], "argument 0"),
            (&["%", "a"], "unterminated"),
            (&["%x", "a"], "unrecognized"),
            (&["%99999999999s", "a"], "out of range"),
        ] {
            assert!(called(wrong).contains(told), "{wrong:?}: {}", called(wrong));
        }
    }

    #[test]
    fn parts_are_counted_from_both_ends() {
        for (n, part) in [(1, "a"), (3, "c"), (4, ""), (-1, "c"), (-3, "a"), (-4, "")] {
            let arguments = ["a,b,c".into(), ",".into(), Value::Int(n)];
            assert_eq!(split_part(&arguments).ok(), Some(part.into()), "{n}");
        }
        assert!(split_part(&["a".into(), ",".into(), Value::Int(0)]).is_err());
    }
}
