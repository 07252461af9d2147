//! Catalog objects as SQL text: what the `pg_get_...def` functions print.

use super::{
    catalog::{CatalogSnapshot, ConstraintInfo, IndexInfo, RelationInfo, SchemaInfo, quote_ident},
    types,
};

/// OID of the extension `vector`.
pub const EXTENSION_OID: i32 = 16_418;
/// pgvector's version whose behaviour is served.
pub const VECTOR_VERSION: &str = "0.8.0";

/// OID of a column's default: derived, so that nothing need store it.
pub fn default_oid(relation: i32, column: i16) -> i32 {
    0x4000_0000 | ((relation << 11) ^ i32::from(column)) & 0x3fff_ffff
}

/// OID of the constraint that a unique index stands for.
pub fn key_oid(index: i32) -> i32 {
    0x2000_0000 | index & 0x1fff_ffff
}

/// Names of the columns of these numbers, quoted where needed.
pub fn columns(relation: &RelationInfo, numbers: &[i16]) -> Vec<String> {
    let names = numbers.iter().filter_map(|&n| relation.column(n));
    names.map(|c| quote_ident(&c.name)).collect()
}

/// A key of an index as `pg_get_indexdef` prints it alone: a column, or an expression in its brackets.
pub fn key(relation: &RelationInfo, index: &IndexInfo, at: usize) -> Option<String> {
    let number = *index.columns.get(at)?;
    if number != 0 {
        return relation.column(number).map(|c| quote_ident(&c.name));
    }
    let text = index.keys.get(at)?.expression.as_deref()?;
    // A call stands without brackets, any other expression within.
    let call = text.ends_with(')') && text.starts_with(|c: char| c.is_alphabetic()) && one_call(text);
    Some(if call { text.to_owned() } else { format!("({text})") })
}

/// Whether the first bracket closes at the end.
fn one_call(text: &str) -> bool {
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1 == text.len();
                }
            }
            ' ' if depth == 0 => return false,
            _ => {}
        }
    }
    false
}

/// `CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)`.
pub fn index(schema: &SchemaInfo, relation: &RelationInfo, index: &IndexInfo) -> String {
    let mut keys = Vec::with_capacity(index.columns.len());
    for at in 0..index.columns.len() {
        let mut text = key(relation, index, at).unwrap_or_default();
        if let Some(said) = index.keys.get(at) {
            if let Some(class) = &said.operator_class {
                text = format!("{text} {class}");
            }
            match (said.descending, said.nulls_first) {
                (true, true) => text.push_str(" DESC"),
                (true, false) => text.push_str(" DESC NULLS LAST"),
                (false, true) => text.push_str(" NULLS FIRST"),
                (false, false) => {}
            }
        }
        keys.push(text);
    }
    let mut text = format!(
        "CREATE {}INDEX {} ON {}.{} USING {} ({})",
        if index.unique || index.primary { "UNIQUE " } else { "" },
        quote_ident(&index.name),
        quote_ident(&schema.name),
        quote_ident(&relation.name),
        index.method,
        keys.join(", "),
    );
    if !index.include.is_empty() {
        text = format!("{text} INCLUDE ({})", columns(relation, &index.include).join(", "));
    }
    if index.nulls_not_distinct {
        text.push_str(" NULLS NOT DISTINCT");
    }
    if !index.options.is_empty() {
        text = format!("{text} WITH ({})", index.options.join(", "));
    }
    if let Some(predicate) = &index.predicate {
        text = format!("{text} WHERE ({predicate})");
    }
    text
}

/// The definition of a constraint of any kind, or `None` when the OID is no constraint's.
pub fn constraint(snapshot: &CatalogSnapshot, oid: i32) -> Option<String> {
    if let Some((_, relation, c)) = snapshot.constraints().find(|x| x.2.oid == oid) {
        return Some(match c.kind {
            'f' => foreign_key(snapshot, relation, c),
            _ => c.definition.clone(),
        });
    }
    let mut keys = snapshot.indexes().filter(|(_, _, i)| i.constraint);
    let (_, relation, index) = keys.find(|x| key_oid(x.2.oid) == oid)?;
    let kind = match (index.primary, index.nulls_not_distinct) {
        (true, _) => "PRIMARY KEY",
        (_, true) => "UNIQUE NULLS NOT DISTINCT",
        _ => "UNIQUE",
    };
    Some(format!("{kind} ({})", columns(relation, &index.columns).join(", ")))
}

/// `FOREIGN KEY (a) REFERENCES t(b) ON DELETE CASCADE`.
fn foreign_key(snapshot: &CatalogSnapshot, relation: &RelationInfo, c: &ConstraintInfo) -> String {
    let referenced = snapshot.relation(c.references);
    let names = referenced
        .map(|(_, r)| columns(r, &c.referenced_columns))
        .unwrap_or_default();
    let mut text = format!(
        "FOREIGN KEY ({}) REFERENCES {}({})",
        columns(relation, &c.columns).join(", "),
        snapshot.print_class(c.references),
        names.join(", ")
    );
    for (when, action) in [("UPDATE", c.on_update), ("DELETE", c.on_delete)] {
        if let Some(rule) = rule(action).filter(|rule| *rule != "NO ACTION") {
            text = format!("{text} ON {when} {rule}");
        }
    }
    if c.deferrable {
        text.push_str(" DEFERRABLE");
    }
    if c.deferred {
        text.push_str(" INITIALLY DEFERRED");
    }
    text
}

/// The query of a view as `pg_get_viewdef` prints it.
pub fn view(definition: &str) -> String {
    format!(" {};", definition.trim_end_matches(';'))
}

/// A referential action in words, by the letter that the catalog has.
pub fn rule(action: char) -> Option<&'static str> {
    Some(match action {
        'a' => "NO ACTION",
        'r' => "RESTRICT",
        'c' => "CASCADE",
        'n' => "SET NULL",
        'd' => "SET DEFAULT",
        _ => return None,
    })
}

/// OIDs of the types in `query text, k integer DEFAULT 5`; `record` for one that is not served.
pub fn argument_types(arguments: &str) -> Vec<i64> {
    let of = |argument: &str| {
        let declared = argument.split_once(" DEFAULT ").map_or(argument, |(d, _)| d).trim();
        let named = declared.split_once(' ').and_then(|(_, ty)| types::type_oid(ty));
        i64::from(named.or_else(|| types::type_oid(declared)).unwrap_or(2249))
    };
    arguments.split(',').filter(|a| !a.trim().is_empty()).map(of).collect()
}

/// The arguments without their defaults, as `pg_get_function_identity_arguments` prints them.
pub fn identity_arguments(arguments: &str) -> String {
    let declared = arguments
        .split(',')
        .map(|a| a.split_once(" DEFAULT ").map_or(a, |(d, _)| d).trim());
    declared.collect::<Vec<_>>().join(", ")
}

/// Bytes as `pg_size_pretty` prints them.
pub fn size(bytes: i64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"];
    let mut amount = bytes;
    for unit in &units[..4] {
        if amount.abs() < 10 * 1024 {
            return format!("{amount} {unit}");
        }
        amount = (amount + amount.signum() * 512) / 1024;
    }
    format!("{amount} {}", units[4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_arguments_are_printed_as_postgresql_does() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(10_239), "10239 bytes");
        assert_eq!(size(10_240), "10 kB");
        assert_eq!(size(8_000_000), "7813 kB");
        assert_eq!(argument_types("query text, k integer DEFAULT 5"), [25, 23]);
        assert_eq!(argument_types(""), Vec::<i64>::new());
        assert_eq!(
            identity_arguments("query text, k integer DEFAULT 5"),
            "query text, k integer"
        );
        assert_ne!(default_oid(16_400, 1), default_oid(16_400, 2));
    }
}
