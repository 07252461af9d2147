//! Names as PostgreSQL makes and cuts them.

use crate::table::schema::{Catalog, TableDef};

/// Bytes of a name.
const NAME_BYTES: usize = 63;

/// A name as far as it counts.
pub(in crate::sql) fn cut(name: &str) -> String {
    name[..name.floor_char_boundary(NAME_BYTES)].to_owned()
}

/// `table_column_label`: where that is too long, the longer of the two is cut first.
fn made(first: &str, second: &str, label: &str) -> String {
    let overhead = label.len() + 1 + usize::from(!second.is_empty());
    let room = NAME_BYTES.saturating_sub(overhead);
    let (mut a, mut b) = (first.len(), second.len());
    while a + b > room {
        if a > b {
            a -= 1;
        } else {
            b -= 1;
        }
    }
    let a = &first[..first.floor_char_boundary(a)];
    let b = &second[..second.floor_char_boundary(b)];
    match b.is_empty() {
        true => format!("{a}_{label}"),
        false => format!("{a}_{b}_{label}"),
    }
}

/// A name of this form that nothing has yet: `label`, `label1`, `label2`, ...
pub(in crate::sql) fn generated(first: &str, second: &str, label: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut name = made(first, second, label);
    let mut number = 0_u32;
    while taken(&name) {
        number += 1;
        name = made(first, second, &format!("{label}{number}"));
    }
    name
}

/// Whether a table, view, sequence or index of the schema has this name.
pub(in crate::sql) fn relation_exists(catalog: &Catalog, schema: &str, name: &str) -> bool {
    catalog.find(schema, name).is_some() || index_of(catalog, schema, name).is_some()
}

/// The table whose index has this name.
pub(in crate::sql) fn index_of<'c>(catalog: &'c Catalog, schema: &str, name: &str) -> Option<&'c TableDef> {
    let mut tables = catalog.tables().filter(|table| table.schema == schema);
    tables
        .find(|table| table.indexes.iter().any(|index| index.name == name))
        .map(|table| &**table)
}

/// Whether a constraint of the table has this name.
pub(in crate::sql) fn constraint_exists(table: &TableDef, name: &str) -> bool {
    table.indexes.iter().any(|index| index.constraint && index.name == name)
        || table.checks.iter().any(|check| check.name == name)
        || table.foreign_keys.iter().any(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_and_made_as_postgresql_does() {
        let long = "x".repeat(70);
        assert_eq!(cut(&long).len(), 63);
        assert_eq!(cut(&"ä".repeat(40)).len(), 62);
        assert_eq!(generated("t", "", "pkey", |_| false), "t_pkey");
        assert_eq!(generated("t", "a_b", "key", |n| n == "t_a_b_key"), "t_a_b_key1");
        let made = generated(&long[..60], "column", "fkey", |_| false);
        assert_eq!((made.len(), made.ends_with("_column_fkey")), (63, true));
    }
}
