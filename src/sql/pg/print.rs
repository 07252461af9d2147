//! Catalog objects as SQL text: what the `pg_get_...def` functions print.

use super::{
    catalog::{CatalogSnapshot, IndexInfo, RelationInfo, SchemaInfo, quote_ident},
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
    let at = |&n: &i16| relation.columns.get(usize::try_from(n).ok()?.checked_sub(1)?);
    numbers.iter().filter_map(at).map(|c| quote_ident(&c.name)).collect()
}

/// `CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)`.
pub fn index(schema: &SchemaInfo, relation: &RelationInfo, index: &IndexInfo) -> String {
    let class = index
        .operator_class
        .as_deref()
        .map(|c| format!(" {c}"))
        .unwrap_or_default();
    let columns: Vec<String> = columns(relation, &index.columns)
        .iter()
        .map(|c| format!("{c}{class}"))
        .collect();
    format!(
        "CREATE {}INDEX {} ON {}.{} USING {} ({})",
        if index.unique || index.primary { "UNIQUE " } else { "" },
        quote_ident(&index.name),
        quote_ident(&schema.name),
        quote_ident(&relation.name),
        index.method,
        columns.join(", "),
    )
}

/// The definition of a constraint of any kind, or `None` when the OID is no constraint's.
pub fn constraint(snapshot: &CatalogSnapshot, oid: i32) -> Option<String> {
    if let Some((_, _, c)) = snapshot.constraints().find(|x| x.2.oid == oid) {
        return Some(c.definition.clone());
    }
    let mut keys = snapshot.indexes().filter(|(_, _, i)| i.unique || i.primary);
    let (_, relation, index) = keys.find(|x| key_oid(x.2.oid) == oid)?;
    let kind = if index.primary { "PRIMARY KEY" } else { "UNIQUE" };
    Some(format!("{kind} ({})", columns(relation, &index.columns).join(", ")))
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
