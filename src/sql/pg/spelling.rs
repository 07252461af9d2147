//! Operators and functions of PostgreSQL's that are others of DataFusion's by another name.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Subscript, UnaryOperator, Value,
};

use super::dialect::{call, single_name, take};

/// Spells one expression, whose parts are spelled already, as DataFusion does.
pub fn respell(expr: &mut Expr) {
    match expr {
        Expr::UnaryOp { op, expr: operand } => {
            let function = match op {
                UnaryOperator::BitwiseNot => {
                    let (left, right) = (Box::new(take(operand)), Box::new(number("-1")));
                    *expr = nested(Expr::BinaryOp {
                        left,
                        op: BinaryOperator::PGBitwiseXor,
                        right,
                    });
                    return;
                }
                UnaryOperator::PGSquareRoot => "sqrt",
                UnaryOperator::PGCubeRoot => "cbrt",
                UnaryOperator::PGAbs => "abs",
                _ => return,
            };
            *expr = call(function, vec![take(operand)]);
        }
        Expr::BinaryOp {
            left,
            op: BinaryOperator::PGStartsWith,
            right,
        } => {
            *expr = call("starts_with", vec![take(left), take(right)]);
        }
        Expr::SimilarTo {
            negated,
            expr: left,
            pattern,
            escape_char,
        } => {
            let escape = escape_char.take().map_or_else(|| string("\\"), Expr::Value);
            let op = if *negated {
                BinaryOperator::PGRegexNotMatch
            } else {
                BinaryOperator::PGRegexMatch
            };
            let right = Box::new(call("bulkhead_similar", vec![take(pattern), escape]));
            *expr = nested(Expr::BinaryOp {
                left: Box::new(take(left)),
                op,
                right,
            });
        }
        // substring(x from 'pattern'): the first group of the first match, or all of it.
        Expr::Substring {
            expr: text,
            substring_from: Some(from),
            substring_for: None,
            ..
        } if is_string(from) => {
            *expr = first(call("regexp_match", vec![take(text), take(from)]));
        }
        Expr::Function(function) => respelled(expr_of(function), expr),
        _ => {}
    }
}

/// The name of a function and its arguments where all are plain.
fn expr_of(function: &mut Function) -> Option<(String, Vec<Expr>)> {
    let name = single_name(&function.name)?;
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let each = |a: &FunctionArg| match a {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
        _ => None,
    };
    Some((name, list.args.iter().map(each).collect::<Option<_>>()?))
}

fn respelled(called: Option<(String, Vec<Expr>)>, expr: &mut Expr) {
    let Some((name, arguments)) = called else { return };
    let separator = || string("\u{1}");
    match (name.as_str(), arguments.as_slice()) {
        ("mod", [left, right]) => {
            let (left, right) = (Box::new(nested(left.clone())), Box::new(nested(right.clone())));
            *expr = nested(Expr::BinaryOp {
                left,
                op: BinaryOperator::Modulo,
                right,
            });
        }
        ("ceiling", [_]) => {
            if let Expr::Function(function) = expr {
                function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new("ceil"))]);
            }
        }
        // PostgreSQL fills up the last group.
        ("encode", [bytes, Expr::Value(form)]) if form.value == Value::SingleQuotedString("base64".to_owned()) => {
            *expr = call("encode", vec![bytes.clone(), string("base64pad")]);
        }
        ("regexp_substr", [text, pattern]) => {
            let concat = |left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: BinaryOperator::StringConcat,
                right: Box::new(right),
            };
            let whole = concat(concat(string("("), nested(pattern.clone())), string(")"));
            *expr = first(call("regexp_match", vec![text.clone(), whole]));
        }
        ("regexp_split_to_array", [text, pattern]) => *expr = split(text, pattern, separator),
        ("regexp_split_to_table", [text, pattern]) => *expr = call("unnest", vec![split(text, pattern, separator)]),
        _ => {}
    }
}

/// The parts between matches: matches become a character that no text has.
fn split(text: &Expr, pattern: &Expr, separator: impl Fn() -> Expr) -> Expr {
    let marked = call(
        "regexp_replace",
        vec![text.clone(), pattern.clone(), separator(), string("g")],
    );
    call("string_to_array", vec![marked, separator()])
}

/// The first element of an array.
fn first(list: Expr) -> Expr {
    Expr::CompoundFieldAccess {
        root: Box::new(nested(list)),
        access_chain: vec![AccessExpr::Subscript(Subscript::Index { index: number("1") })],
    }
}

fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

fn string(text: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(text.to_owned()))
}

fn number(text: &str) -> Expr {
    Expr::value(Value::Number(text.to_owned(), false))
}

fn is_string(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(v) if matches!(v.value, Value::SingleQuotedString(_)))
}

/// A pattern of SIMILAR TO as a regular expression for the whole text.
pub fn similar(pattern: &str, escape: Option<char>) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    out.push_str("^(?:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => {
                if let Some(next) = chars.next() {
                    if !next.is_alphanumeric() {
                        out.push('\\');
                    }
                    out.push(next);
                }
            }
            '[' => {
                in_class = true;
                out.push('[');
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            c if in_class => out.push(c),
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '.' | '^' | '$' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push_str(")$");
    out
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn patterns_of_similar_to_match_whole_texts() {
        assert_eq!(similar("(a|b)%", Some('\\')), "^(?:(a|b).*)$");
        assert_eq!(similar("a_\\%.", Some('\\')), "^(?:a.\\%\\.)$");
        assert_eq!(similar("[%_]x", Some('\\')), "^(?:[%_]x)$");
        assert_eq!(similar("#_", Some('#')), "^(?:\\_)$");
    }
}
