//! Constants of a statement taken out of it, so that statements which differ in them alone share one plan.
//!
//! Programs that write values into their text (drivers do it for them) send the same shape again and again. Only
//! constants in places where a parameter means the same are taken: compared with a column, given to a column, or a
//! vector that distances are taken from. Everything else stays in the statement, and so in its shape.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, UnaryOperator, Value,
};

use crate::{
    codec::pgtype::{PgType, Scalar},
    limits,
};

/// A constant that was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// As PostgreSQL's text form of its type has it.
    pub text: String,
    of: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A number, which may stand for no other type than one of numbers.
    Number,
    /// A number that is computed with: a decimal would change the scale of what is computed.
    Operand,
    /// Of whatever type the place asks for.
    Text,
    /// What a distance is taken from.
    Vector,
}

impl Constant {
    /// Whether a parameter of this type could mean what such a constant does, whatever its value.
    pub(super) fn may_be(&self, pg_type: PgType) -> bool {
        let PgType::Scalar(scalar) = pg_type else { return false };
        let whole = matches!(scalar, Scalar::Int2 | Scalar::Int4 | Scalar::Int8);
        match self.of {
            Kind::Number => whole || matches!(scalar, Scalar::Float8 | Scalar::Numeric),
            Kind::Operand => whole || scalar == Scalar::Float8,
            Kind::Vector => matches!(scalar, Scalar::Vector | Scalar::Halfvec),
            Kind::Text => {
                whole
                    || matches!(
                        scalar,
                        Scalar::Text
                            | Scalar::Varchar
                            | Scalar::Uuid
                            | Scalar::Bool
                            | Scalar::Float8
                            | Scalar::Numeric
                            | Scalar::Date
                            | Scalar::Timestamp
                            | Scalar::Timestamptz
                            | Scalar::Json
                            | Scalar::Jsonb
                            | Scalar::Bytea
                            | Scalar::Vector
                            | Scalar::Halfvec
                    )
            }
        }
    }

    /// Whether it does with its value: a number that its column cannot hold is of another type.
    pub(super) fn fits(&self, pg_type: PgType) -> bool {
        let whole = |least: i64, most: i64| {
            let value = self.text.parse();
            self.of == Kind::Text || value.is_ok_and(|value| (least..=most).contains(&value))
        };
        self.may_be(pg_type)
            && match pg_type {
                PgType::Scalar(Scalar::Int2) => whole(i16::MIN.into(), i16::MAX.into()),
                PgType::Scalar(Scalar::Int4) => whole(i32::MIN.into(), i32::MAX.into()),
                PgType::Scalar(Scalar::Int8) => whole(i64::MIN, i64::MAX),
                _ => true,
            }
    }
}

/// The statement with parameters in the places of its constants, which follow in their order. `None` for a statement
/// of another kind, with parameters of its own, or with more constants than are worth it.
pub(super) fn lift(statement: &Statement) -> Option<(Statement, Vec<Constant>)> {
    let mut statement = statement.clone();
    let mut lift = Lift {
        constants: Vec::new(),
        fits: true,
    };
    match &mut statement {
        Statement::Query(query) => lift.query(query),
        Statement::Insert(insert) => {
            if let Some(query) = &mut insert.source
                && let SetExpr::Values(values) = query.body.as_mut()
            {
                let cells = values.rows.iter_mut().flat_map(|row| row.content.iter_mut());
                cells.for_each(|cell| lift.given(cell));
            }
        }
        Statement::Update(update) => {
            update
                .assignments
                .iter_mut()
                .for_each(|assignment| lift.given(&mut assignment.value));
            update.selection.iter_mut().for_each(|filter| lift.condition(filter));
        }
        Statement::Delete(delete) => delete.selection.iter_mut().for_each(|filter| lift.condition(filter)),
        _ => return None,
    }
    lift.fits.then_some((statement, lift.constants))
}

struct Lift {
    constants: Vec<Constant>,
    fits: bool,
}

impl Lift {
    fn query(&mut self, query: &mut Query) {
        if let SetExpr::Select(select) = query.body.as_mut() {
            self.select(select);
        }
        if let Some(order) = &mut query.order_by
            && let OrderByKind::Expressions(all) = &mut order.kind
        {
            all.iter_mut().for_each(|by| self.distance(&mut by.expr));
        }
    }

    fn select(&mut self, select: &mut Select) {
        for item in &mut select.projection {
            // Without a name it would be named after what it is.
            if let SelectItem::ExprWithAlias { expr, .. } = item {
                self.distance(expr);
            }
        }
        select.selection.iter_mut().for_each(|filter| self.condition(filter));
    }

    /// A condition that rows are to fulfil.
    fn condition(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Nested(inner)
            | Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: inner,
            } => self.condition(inner),
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::And | BinaryOperator::Or => {
                    self.condition(left);
                    self.condition(right);
                }
                BinaryOperator::Eq
                | BinaryOperator::NotEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq => {
                    if is_column(left) {
                        self.take(right, Kind::Number);
                    } else if is_column(right) {
                        self.take(left, Kind::Number);
                    } else {
                        self.distance(left);
                    }
                }
                _ => {}
            },
            Expr::InList { expr, list, .. } if is_column(expr) => {
                list.iter_mut().for_each(|one| self.take(one, Kind::Number));
            }
            Expr::Between { expr, low, high, .. } if is_column(expr) => {
                self.take(low, Kind::Number);
                self.take(high, Kind::Number);
            }
            _ => {}
        }
    }

    /// What a column is given.
    fn given(&mut self, expr: &mut Expr) {
        match expr {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Plus | BinaryOperator::Minus,
                right,
            } if is_column(left) => {
                // What a text is here depends on what it is added to.
                if number(right).is_some() {
                    self.take(right, Kind::Operand);
                }
            }
            expr => self.take(expr, Kind::Number),
        }
    }

    /// The distance of a column from a vector.
    fn distance(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Nested(inner) => self.distance(inner),
            Expr::BinaryOp { left, op, right } if is_distance(op) => {
                let vector = match (is_column(left), is_column(right)) {
                    (true, false) => right,
                    (false, true) => left,
                    _ => return,
                };
                match vector.as_mut() {
                    Expr::Cast { expr, .. } => self.take_vector(expr),
                    vector => self.take_vector(vector),
                }
            }
            _ => {}
        }
    }

    /// Takes a vector out of the place where one is a text.
    fn take_vector(&mut self, expr: &mut Expr) {
        let Expr::Value(value) = &*expr else { return };
        match &value.value {
            Value::SingleQuotedString(text) => {
                let constant = Constant {
                    text: text.clone(),
                    of: Kind::Vector,
                };
                // One parameter for both: the distance that is shown is the one by which rows are sorted.
                let known = self.constants.iter().position(|known| *known == constant);
                self.put(expr, constant, known);
            }
            Value::Placeholder(_) => self.fits = false,
            _ => {}
        }
    }

    /// Takes a constant out, as `kind` if it is a number; leaves what is none.
    fn take(&mut self, expr: &mut Expr, kind: Kind) {
        if let Some(text) = number(expr) {
            return self.put(expr, Constant { text, of: kind }, None);
        }
        let Expr::Value(value) = &*expr else { return };
        match &value.value {
            Value::SingleQuotedString(text) => {
                let text = text.clone();
                self.put(expr, Constant { text, of: Kind::Text }, None);
            }
            Value::Placeholder(_) => self.fits = false,
            _ => {}
        }
    }

    fn put(&mut self, expr: &mut Expr, constant: Constant, known: Option<usize>) {
        let at = known.unwrap_or(self.constants.len());
        if known.is_none() {
            self.constants.push(constant);
        }
        self.fits &= self.constants.len() <= limits::LIFTED_CONSTANTS;
        *expr = Expr::Value(Value::Placeholder(format!("${}", at + 1)).into());
    }
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn is_distance(op: &BinaryOperator) -> bool {
    match op {
        BinaryOperator::Spaceship | BinaryOperator::LtDashGt => true,
        BinaryOperator::Custom(name) => matches!(name.as_str(), "<->" | "<#>" | "<+>" | "<=>"),
        _ => false,
    }
}

/// A number, with its sign.
fn number(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(text, false) => Some(text.clone()),
            _ => None,
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } if matches!(expr.as_ref(), Expr::Value(_)) => Some(format!("-{}", number(expr)?)),
        Expr::Nested(inner) => number(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::guard::{self, Kind as Parsed};

    fn lifted(sql: &str) -> Option<(String, Vec<String>)> {
        let parsed = guard::parse(sql).unwrap().pop().unwrap();
        let Parsed::Sql(statement) = parsed.kind else {
            return None;
        };
        let (statement, constants) = lift(&statement)?;
        Some((statement.to_string(), constants.into_iter().map(|c| c.text).collect()))
    }

    #[track_caller]
    fn takes(sql: &str, shape: &str, constants: &[&str]) {
        let (found, taken) = lifted(sql).unwrap();
        assert_eq!(
            (found.as_str(), taken),
            (shape, constants.iter().map(|c| (*c).to_owned()).collect())
        );
    }

    #[test]
    fn constants_beside_columns_are_taken() {
        takes(
            "SELECT a FROM t WHERE a = 5 AND (b < -2 OR 'x' <> t.c)",
            "SELECT a FROM t WHERE a = $1 AND (b < $2 OR $3 <> t.c)",
            &["5", "-2", "x"],
        );
        takes(
            "SELECT 1 FROM t WHERE a IN (1, 2) AND b BETWEEN 3 AND '4'",
            "SELECT 1 FROM t WHERE a IN ($1, $2) AND b BETWEEN $3 AND $4",
            &["1", "2", "3", "4"],
        );
        takes(
            "UPDATE t SET a = a + 5, b = 'x', c = now() WHERE id = 9",
            "UPDATE t SET a = a + $1, b = $2, c = now() WHERE id = $3",
            &["5", "x", "9"],
        );
        takes(
            "INSERT INTO t (a, b) VALUES (1, NULL), (-2, DEFAULT)",
            "INSERT INTO t (a, b) VALUES ($1, NULL), ($2, DEFAULT)",
            &["1", "-2"],
        );
        takes("DELETE FROM t WHERE a = 1", "DELETE FROM t WHERE a = $1", &["1"]);
    }

    #[test]
    fn one_vector_in_two_places_is_one_parameter() {
        takes(
            "SELECT id, v <=> '[1]' AS d FROM t WHERE v <-> '[2]'::vector < 3 ORDER BY v <=> '[1]' LIMIT 4",
            "SELECT id, v <=> $1 AS d FROM t WHERE v <-> $2::vector < 3 ORDER BY v <=> $1 LIMIT 4",
            &["[1]", "[2]"],
        );
    }

    #[test]
    fn what_means_something_else_as_a_parameter_stays() {
        for sql in [
            "SELECT 5, 'x'",
            "SELECT a FROM t WHERE a = 5 + 3 AND lower(b) = 'x' AND c = DATE '2020-01-01' AND d = true",
            "SELECT a FROM t GROUP BY 1 ORDER BY 1 LIMIT 5 OFFSET 3",
            "UPDATE t SET at = at + '1 day'",
            "SELECT a FROM t WHERE a IN (SELECT b FROM u WHERE c = 5)",
        ] {
            let (shape, constants) = lifted(sql).unwrap();
            assert_eq!((shape.as_str(), constants.len()), (sql, 0));
        }
        assert!(lifted("SELECT a FROM t WHERE a = $1 AND b = 5").is_none());
        assert!(lifted("SET a = 5").is_none());
        let many = vec!["(1)"; limits::LIFTED_CONSTANTS + 1].join(", ");
        assert!(lifted(&format!("INSERT INTO t VALUES {many}")).is_none());
    }

    #[test]
    fn a_constant_fits_where_its_value_does() {
        let number = |text: &str| Constant {
            text: text.to_owned(),
            of: Kind::Number,
        };
        let of = PgType::Scalar;
        assert!(number("32767").fits(of(Scalar::Int2)) && !number("32768").fits(of(Scalar::Int2)));
        assert!(!number("1.5").fits(of(Scalar::Int4)) && number("1.5").may_be(of(Scalar::Int4)));
        assert!(!number("1").may_be(of(Scalar::Text)) && !number("1").may_be(of(Scalar::Bool)));
        let text = Constant {
            text: "1".to_owned(),
            of: Kind::Text,
        };
        assert!(text.fits(of(Scalar::Int4)) && !text.may_be(of(Scalar::Name)) && !text.may_be(of(Scalar::Bpchar)));
    }
}
