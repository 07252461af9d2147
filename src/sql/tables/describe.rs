//! What a tenant has made, as `pg_catalog` shows it to one session.

use super::{
    rights::{self, Privilege},
    temporary,
};
use crate::{
    sql::{
        pg::catalog::{
            ColumnInfo, ConstraintInfo, IndexInfo, KeyInfo, PolicyInfo, RelationInfo, SchemaInfo, SequenceInfo,
        },
        world::TenantWorld,
    },
    table::{
        Database,
        schema::{
            Catalog, ColumnDef, Grant, Identity, IndexDef, IndexMethod, KeyOf, PolicyCommand, ReferentialAction,
            Relation, SequenceDef, TableDef, ViewDef,
        },
    },
};

/// OIDs of schemas that hold temporary tables start here; they are made of nothing that is kept.
const TEMPORARY_OID: i32 = 90_000;

fn signed(oid: u32) -> i32 {
    oid.cast_signed()
}

/// The schemas that the tenant has made, `public` first, and the session's own last, with what is in them.
pub(in crate::sql) fn schemas(world: &TenantWorld, view: &Database) -> Vec<SchemaInfo> {
    let catalog = view.catalog();
    let mut schemas = vec![SchemaInfo {
        name: "public".to_owned(),
        oid: 2200,
        ..SchemaInfo::default()
    }];
    schemas.extend(catalog.schemas.values().map(|schema| SchemaInfo {
        name: schema.name.clone(),
        oid: signed(schema.oid),
        owner: schema.owner.clone(),
        comment: schema.comment.clone(),
        relations: Vec::new(),
    }));
    let own = world.temp_schema_if_any();
    schemas.extend(own.map(|name| SchemaInfo {
        oid: TEMPORARY_OID + name.rsplit('_').next().and_then(|n| n.parse::<i32>().ok()).unwrap_or(0) % 9_000,
        name,
        ..SchemaInfo::default()
    }));
    for relation in catalog.relations.values() {
        let info = match relation {
            Relation::Table(table) => of_table(world, view, table),
            Relation::View(of) => of_view(of),
            Relation::Sequence(sequence) => of_sequence(catalog, sequence),
        };
        if let Some(schema) = schemas.iter_mut().find(|schema| schema.name == relation.name().0) {
            let temporary = temporary::is_temporary(&schema.name);
            schema.relations.push(RelationInfo {
                allowed: allowed(world, relation),
                temporary,
                ..info
            });
        }
    }
    schemas
}

fn allowed(world: &TenantWorld, relation: &Relation) -> u8 {
    let all = [
        Privilege::Select,
        Privilege::Insert,
        Privilege::Update,
        Privilege::Delete,
        Privilege::Truncate,
        Privilege::References,
    ];
    let may = all
        .into_iter()
        .filter(|privilege| rights::may(world, relation, *privilege));
    let bits = may.fold(0, |bits, privilege| bits | 1_u8 << privilege as u8);
    match rights::owns(world, relation.owner()) {
        true => 0x7f,
        false => bits,
    }
}

fn grants(grants: &[Grant]) -> Vec<(String, u8)> {
    let one = |grant: &Grant| (rights::shown(&grant.to).to_owned(), grant.privileges);
    grants.iter().map(one).collect()
}

fn of_table(world: &TenantWorld, view: &Database, table: &TableDef) -> RelationInfo {
    // How many rows there are is nothing for those who do not see them all.
    let seen = !super::security::concerns(world, table) && rights::owns(world, &table.owner);
    let rows = view
        .loaded(table.oid)
        .filter(|_| seen)
        .map_or(-1.0, |data| data.rows() as f32);
    RelationInfo {
        name: table.name.clone(),
        oid: signed(table.oid),
        kind: 'r',
        owner: table.owner.clone(),
        comment: table.comment.clone(),
        columns: table.columns.iter().map(of_column).collect(),
        indexes: table.indexes.iter().map(of_index).collect(),
        constraints: constraints(table),
        row_security: table.row_security,
        force_row_security: table.force_row_security,
        policies: table.policies.iter().map(of_policy).collect(),
        rows,
        grants: grants(&table.grants),
        ..RelationInfo::default()
    }
}

fn of_column(column: &ColumnDef) -> ColumnInfo {
    ColumnInfo {
        type_modifier: column.type_modifier,
        not_null: column.not_null,
        default: column
            .generated
            .clone()
            .or_else(|| column.default.as_deref().map(shown_default)),
        generated: column.generated.is_some(),
        identity: column.identity.map(|identity| match identity {
            Identity::Always => 'a',
            Identity::ByDefault => 'd',
        }),
        comment: column.comment.clone(),
        ..ColumnInfo::plain(column.id.try_into().unwrap_or(i16::MAX), &column.name, column.pg_type)
    }
}

/// A default as it is shown: sequences of `public` by their bare names.
fn shown_default(text: &str) -> String {
    match text.strip_prefix("nextval('public.") {
        Some(rest) => format!("nextval('{rest}"),
        None => text.to_owned(),
    }
}

fn of_index(index: &IndexDef) -> IndexInfo {
    let number = |id: u16| i16::try_from(id).unwrap_or(i16::MAX);
    let (method, options) = match index.method {
        IndexMethod::Btree => ("btree", Vec::new()),
        IndexMethod::Hash => ("hash", Vec::new()),
        IndexMethod::Gin => ("gin", Vec::new()),
        IndexMethod::Hnsw { m, ef_construction } => (
            "hnsw",
            vec![format!("m='{m}'"), format!("ef_construction='{ef_construction}'")],
        ),
        IndexMethod::Ivfflat { lists } => ("ivfflat", vec![format!("lists='{lists}'")]),
    };
    IndexInfo {
        name: index.name.clone(),
        oid: signed(index.oid),
        columns: index
            .keys
            .iter()
            .map(|key| match key.key {
                KeyOf::Column(id) => number(id),
                KeyOf::Expression(_) => 0,
            })
            .collect(),
        keys: index
            .keys
            .iter()
            .map(|key| KeyInfo {
                expression: match &key.key {
                    KeyOf::Expression(text) => Some(text.clone()),
                    KeyOf::Column(_) => None,
                },
                descending: key.descending,
                nulls_first: key.nulls_first,
                operator_class: key.operator_class.clone(),
            })
            .collect(),
        include: index.include.iter().map(|id| number(*id)).collect(),
        unique: index.unique,
        nulls_not_distinct: index.nulls_not_distinct,
        primary: index.primary,
        constraint: index.constraint,
        method: method.to_owned(),
        options,
        predicate: index.predicate.clone(),
        comment: index.comment.clone(),
    }
}

fn constraints(table: &TableDef) -> Vec<ConstraintInfo> {
    let numbers = |ids: &[u16]| ids.iter().map(|id| i16::try_from(*id).unwrap_or(i16::MAX)).collect();
    let action = |action: ReferentialAction| match action {
        ReferentialAction::NoAction => 'a',
        ReferentialAction::Restrict => 'r',
        ReferentialAction::Cascade => 'c',
        ReferentialAction::SetNull => 'n',
        ReferentialAction::SetDefault => 'd',
    };
    let checks = table.checks.iter().map(|check| ConstraintInfo {
        name: check.name.clone(),
        oid: signed(check.oid),
        kind: 'c',
        columns: numbers(&super::references::columns_of_text(table, &check.condition)),
        definition: format!("CHECK (({}))", check.condition),
        ..ConstraintInfo::default()
    });
    let keys = table.foreign_keys.iter().map(|key| ConstraintInfo {
        name: key.name.clone(),
        oid: signed(key.oid),
        kind: 'f',
        columns: numbers(&key.columns),
        references: signed(key.references),
        referenced_columns: numbers(&key.referenced),
        on_update: action(key.on_update),
        on_delete: action(key.on_delete),
        deferrable: key.deferrable,
        deferred: key.deferred,
        ..ConstraintInfo::default()
    });
    checks.chain(keys).collect()
}

fn of_policy(policy: &crate::table::schema::PolicyDef) -> PolicyInfo {
    PolicyInfo {
        name: policy.name.clone(),
        oid: signed(policy.oid),
        permissive: policy.permissive,
        command: match policy.command {
            PolicyCommand::All => '*',
            PolicyCommand::Select => 'r',
            PolicyCommand::Insert => 'a',
            PolicyCommand::Update => 'w',
            PolicyCommand::Delete => 'd',
        },
        roles: policy.roles.iter().map(|role| rights::shown(role).to_owned()).collect(),
        using: policy.using.clone(),
        check: policy.check.clone(),
    }
}

fn of_view(view: &ViewDef) -> RelationInfo {
    let columns = (1..)
        .zip(&view.columns)
        .map(|(number, (name, pg_type, modifier))| ColumnInfo {
            type_modifier: *modifier,
            ..ColumnInfo::plain(number, name, *pg_type)
        });
    RelationInfo {
        name: view.name.clone(),
        oid: signed(view.oid),
        kind: 'v',
        owner: view.owner.clone(),
        comment: view.comment.clone(),
        definition: Some(view.query.clone()),
        columns: columns.collect(),
        rows: -1.0,
        grants: grants(&view.grants),
        depends: view.depends.iter().map(|oid| signed(*oid)).collect(),
        ..RelationInfo::default()
    }
}

fn of_sequence(catalog: &Catalog, sequence: &SequenceDef) -> RelationInfo {
    let column = sequence
        .owned_by
        .and_then(|(table, column)| catalog.table(table)?.column_of(column));
    RelationInfo {
        name: sequence.name.clone(),
        oid: signed(sequence.oid),
        kind: 'S',
        owner: sequence.owner.clone(),
        comment: sequence.comment.clone(),
        rows: 1.0,
        sequence: Some(SequenceInfo {
            pg_type: sequence.pg_type,
            start: sequence.start,
            increment: sequence.increment,
            min: sequence.min,
            max: sequence.max,
            cycle: sequence.cycle,
            owned_by: sequence
                .owned_by
                .map(|(table, column)| (signed(table), column.try_into().unwrap_or(i16::MAX))),
            identity: column.is_some_and(|column| column.identity.is_some()),
        }),
        ..RelationInfo::default()
    }
}
