//! Runs what clients send against a made-up tenant, with nothing but this folder registered.

use std::sync::Arc;

use arrow::{array::RecordBatch, util::display::array_value_to_string};
use datafusion::{
    catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider},
    common::{DataFusionError, Result},
    execution::{SessionState, SessionStateBuilder},
    logical_expr::LogicalPlan,
    physical_plan::collect,
    prelude::SessionConfig,
    sql::{
        parser::Statement as DfStatement,
        sqlparser::{dialect::PostgreSqlDialect, parser::Parser},
    },
};

use super::{
    apply,
    catalog::{
        CatalogSnapshot, ColumnInfo, ConstraintInfo, FunctionInfo, IndexInfo, KeyInfo, RelationInfo, SchemaInfo,
        SettingInfo, Snapshots, UserInfo,
    },
    dialect, from, lateral, names, operators, subquery, types,
};
use crate::codec::pgtype::{PgType, Scalar};

#[derive(Debug)]
struct Fake(Arc<CatalogSnapshot>);

impl Snapshots for Fake {
    fn snapshot(&self) -> Result<Arc<CatalogSnapshot>, DataFusionError> {
        Ok(self.0.clone())
    }
}

fn table(name: &str, oid: i32, columns: &[(&str, Scalar)]) -> RelationInfo {
    let column = |(number, &(name, scalar)): (i16, &(&str, Scalar))| ColumnInfo {
        not_null: name == "id",
        ..ColumnInfo::plain(number, name, scalar.into())
    };
    RelationInfo {
        name: name.into(),
        oid,
        kind: 'r',
        owner: "alice".into(),
        columns: (1..).zip(columns).map(column).collect(),
        indexes: vec![IndexInfo {
            name: format!("{name}_pkey"),
            oid: oid + 1,
            columns: vec![1],
            unique: true,
            primary: true,
            constraint: true,
            method: "btree".into(),
            ..IndexInfo::default()
        }],
        rows: -1.0,
        allowed: 0x7f,
        ..RelationInfo::default()
    }
}

/// A tenant with tables in three schemas and two users.
fn snapshot() -> CatalogSnapshot {
    use Scalar::{Int4, Int8, Jsonb, Numeric, Text, Timestamptz, Uuid, Vector};
    let mut documents = table(
        "documents",
        20_010,
        &[
            ("id", Uuid),
            ("title", Text),
            ("content", Text),
            ("metadata", Jsonb),
            ("created_at", Timestamptz),
        ],
    );
    documents.comment = Some("Documents, chunked and embedded as they are written".into());
    documents.columns[4].default = Some("now()".into());
    let mut chunks = table(
        "chunks",
        20_020,
        &[("id", Uuid), ("document_id", Uuid), ("embedding", Vector)],
    );
    chunks.columns[2].type_modifier = 1024;
    chunks.indexes.push(IndexInfo {
        name: "chunks_embedding".into(),
        oid: 20_025,
        columns: vec![3],
        keys: vec![KeyInfo {
            operator_class: Some("vector_cosine_ops".into()),
            ..KeyInfo::default()
        }],
        method: "hnsw".into(),
        ..IndexInfo::default()
    });
    chunks.constraints.push(ConstraintInfo {
        name: "chunks_document_id_fkey".into(),
        oid: 20_026,
        kind: 'f',
        columns: vec![2],
        references: 20_010,
        referenced_columns: vec![1],
        on_update: 'a',
        on_delete: 'a',
        ..ConstraintInfo::default()
    });
    let mut costs = table("costs", 20_040, &[("date", Text), ("total_cost_usd", Numeric)]);
    costs.kind = 'v';
    costs.indexes.clear();
    costs.definition = Some("SELECT 1".into());
    let schema = |name: &str, oid, relations| SchemaInfo {
        name: name.into(),
        oid,
        relations,
        ..SchemaInfo::default()
    };
    let user = |name: &str, oid, is_owner| UserInfo {
        name: name.into(),
        oid,
        is_owner,
    };
    CatalogSnapshot {
        builds: Vec::new(),
        database: "acme".into(),
        user: "alice".into(),
        users: vec![user("alice", 16_500, true), user("bob", 16_501, false)],
        schemas: vec![
            schema(
                "public",
                2200,
                vec![table("notes", 20_100, &[("id", Int8), ("body", Text), ("n", Int4)])],
            ),
            schema("ai", 16_600, vec![documents, chunks]),
            schema("bulkhead", 16_601, vec![table("usage", 20_030, &[("id", Uuid)]), costs]),
        ],
        search_path: ["public", "ai", "bulkhead"].map(String::from).into(),
        functions: vec![FunctionInfo {
            schema: "ai".into(),
            name: "search".into(),
            oid: 17_000,
            arguments: "query text, k integer DEFAULT 5".into(),
            result: "SETOF record".into(),
            description: Some("Searches the documents".into()),
        }],
        settings: vec![SettingInfo {
            name: "search_path".into(),
            value: "public, ai".into(),
            reset: "public, ai, bulkhead".into(),
            description: "Schemas searched".into(),
        }],
        cursors: Vec::new(),
        channels: Vec::new(),
        activity: Vec::new(),
        locks: Vec::new(),
        prepared: vec![("s1".into(), "SELECT 1".into())],
        pid: 4711,
        started_micros: 1_700_000_000_000_000,
        application_name: "test".into(),
    }
}

/// A session over the made-up tenant.
pub fn session() -> Result<SessionState> {
    let snapshots: Arc<dyn Snapshots> = Arc::new(Fake(Arc::new(snapshot())));
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema("pg_catalog", super::relations::pg_catalog(snapshots.clone()))?;
    catalog.register_schema(
        "information_schema",
        super::relations::information_schema(snapshots.clone()),
    )?;
    catalog.register_schema("public", Arc::new(MemorySchemaProvider::new()))?;
    let config = SessionConfig::new()
        .with_default_catalog_and_schema("acme", "pg_catalog")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_target_partitions(1);
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_analyzer_rule(Arc::new(lateral::LateralColumns))
        .with_analyzer_rule(Arc::new(apply::ApplySubqueries))
        .with_query_planner(Arc::new(crate::sql::calls::Planner))
        .with_type_planner(Arc::new(types::PgTypes))
        .build();
    state.catalog_list().register_catalog("acme".into(), Arc::new(catalog));
    use datafusion::execution::FunctionRegistry;
    state.register_expr_planner(Arc::new(operators::PgOperators))?;
    state.register_relation_planner(Arc::new(from::PgRelations))?;
    state.register_udaf(Arc::new(subquery::aggregate()))?;
    for function in super::shared().into_iter().chain(super::bound(&snapshots)) {
        state.register_udf(function)?;
    }
    Ok(state)
}

/// Plans a statement as a session would.
pub async fn plan(state: &SessionState, sql: &str) -> Result<LogicalPlan> {
    let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).map_err(|e| DataFusionError::Plan(e.to_string()))?;
    let mut statement = parsed.swap_remove(0);
    dialect::rewrite(&mut statement);
    state
        .statement_to_plan(DfStatement::Statement(Box::new(statement)))
        .await
}

/// Runs a plan.
pub async fn run(state: &SessionState, plan: &LogicalPlan) -> Result<Vec<RecordBatch>> {
    collect(state.create_physical_plan(plan).await?, state.task_ctx()).await
}

/// The rows of a statement, one line each, values between bars, after a line of names and types.
pub async fn answer(sql: &str) -> String {
    let result = async {
        let state = session()?;
        let plan = plan(&state, sql).await?;
        let fields = plan.schema().fields().clone();
        let head: Vec<String> = fields
            .iter()
            .map(|f| format!("{}:{}", names::shown(f.name()), PgType::of(f).oid()))
            .collect();
        let mut lines = vec![head.join(" ")];
        for batch in run(&state, &plan).await? {
            for row in 0..batch.num_rows() {
                let text = |c: &arrow::array::ArrayRef| array_value_to_string(c, row);
                let values = batch.columns().iter().map(text).collect::<Result<Vec<_>, _>>()?;
                lines.push(values.join("|"));
            }
        }
        Ok::<_, DataFusionError>(lines.join("\n"))
    };
    result.await.unwrap_or_else(|e| format!("ERROR {e}"))
}

async fn check(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        assert_eq!(answer(sql).await, *expected, "{sql}");
    }
}

#[tokio::test]
async fn psql_lists_relations() {
    let listing = |kinds: &str| {
        format!(
            "SELECT n.nspname as \"Schema\", c.relname as \"Name\", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' \
             WHEN 'i' THEN 'index' END as \"Type\", pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\" \
             FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE c.relkind IN ({kinds}) \
             AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema' \
             AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;"
        )
    };
    let head = "Schema:19 Name:19 Type:25 Owner:19";
    let tables =
        "ai|chunks|table|alice\nai|documents|table|alice\nbulkhead|usage|table|alice\npublic|notes|table|alice";
    assert_eq!(answer(&listing("'r','p',''")).await, format!("{head}\n{tables}"));
    assert_eq!(
        answer(&listing("'v',''")).await,
        format!("{head}\nbulkhead|costs|view|alice")
    );
}

#[tokio::test]
async fn psql_describes_a_table() {
    check(&[
        (
            "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n \
             ON n.oid = c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(documents)$' COLLATE pg_catalog.default \
             AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3;",
            "oid:26 nspname:19 relname:19\n20010|ai|documents",
        ),
        (
            "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT pg_catalog.pg_get_expr(d.adbin, \
             d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND \
             a.atthasdef), a.attnotnull, (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t \
             WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation \
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = '20010' AND a.attnum > 0 AND NOT a.attisdropped \
             AND a.attname <> 'title' AND a.attname <> 'content' ORDER BY a.attnum;",
            "attname:19 format_type:25 pg_get_expr:25 attnotnull:16 attcollation:19\nid|uuid||true|\n\
             metadata|jsonb||false|\ncreated_at|timestamp with time zone|now()|false|",
        ),
        (
            "SELECT pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from \
             pg_catalog.unnest(tc.reloptions) x), ', '), CASE WHEN c.reloftype = 0 THEN '' ELSE \
             c.reloftype::pg_catalog.regtype::pg_catalog.text END FROM pg_catalog.pg_class c LEFT JOIN \
             pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid) WHERE c.oid = '20010'",
            "array_to_string:25 reloftype:25\n|",
        ),
        (
            "SELECT conname, conrelid::pg_catalog.regclass AS ontable, pg_catalog.pg_get_constraintdef(oid, true) AS \
             condef FROM pg_catalog.pg_constraint c WHERE confrelid IN (SELECT \
             pg_catalog.pg_partition_ancestors('20010') UNION ALL VALUES ('20010'::pg_catalog.regclass)) AND \
             contype = 'f' AND conparentid = 0 ORDER BY conname;",
            "conname:19 ontable:2205 condef:25\n\
             chunks_document_id_fkey|20020|FOREIGN KEY (document_id) REFERENCES documents(id)",
        ),
    ])
    .await;
}

#[tokio::test]
async fn other_meta_commands_answer() {
    check(&[
        (
            "SELECT d.datname as \"Name\", pg_catalog.pg_get_userbyid(d.datdba) as \"Owner\", \
             pg_catalog.pg_encoding_to_char(d.encoding) as \"Encoding\" FROM pg_catalog.pg_database d ORDER BY 1;",
            "Name:19 Owner:19 Encoding:19\nacme|alice|UTF8",
        ),
        (
            "SELECT r.rolname, r.rolcreaterole, ARRAY(SELECT b.rolname FROM pg_catalog.pg_auth_members m JOIN \
             pg_catalog.pg_roles b ON (m.roleid = b.oid) WHERE m.member = r.oid) as memberof FROM \
             pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY 1;",
            "rolname:19 rolcreaterole:16 memberof:1009\nalice|true|[]\nbob|false|[]",
        ),
        (
            "SELECT p.proname, pg_catalog.pg_get_function_arguments(p.oid) FROM pg_catalog.pg_proc p LEFT JOIN \
             pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE pg_catalog.pg_function_is_visible(p.oid) AND \
             n.nspname <> 'pg_catalog'",
            "proname:19 pg_get_function_arguments:25\nsearch|query text, k integer DEFAULT 5",
        ),
        (
            "SELECT e.extname, n.nspname, c.description FROM pg_catalog.pg_extension e LEFT JOIN \
             pg_catalog.pg_namespace n ON n.oid = e.extnamespace LEFT JOIN pg_catalog.pg_description c ON \
             c.objoid = e.oid AND c.classoid = 'pg_catalog.pg_extension'::pg_catalog.regclass ORDER BY 1;",
            "extname:19 nspname:19 description:25\nvector|public|vector data type and hnsw access method",
        ),
        (
            "SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype, typdelim AS delimiter \
             FROM pg_type t WHERE t.oid = to_regtype('vector') ORDER BY t.oid",
            "name:19 oid:26 array_oid:26 regtype:25 delimiter:18\nvector|16385|16386|vector|,",
        ),
        (
            "SELECT to_regtype('hstore') IS NULL, to_regclass('nowhere') IS NULL",
            "?column?:16 ?column?:16\ntrue|true",
        ),
        (
            "select o.n from pg_namespace as n cross join lateral (select \
             pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname)) as o(n) where n.nspname = 'ai'",
            "n:1700\n3",
        ),
    ])
    .await;
}

#[tokio::test]
async fn only_this_tenant_is_told() {
    for relation in [
        "pg_database",
        "pg_stat_activity",
        "pg_locks",
        "pg_roles",
        "pg_authid",
        "pg_user",
        "pg_shadow",
    ] {
        let rows = answer(&format!("SELECT * FROM {relation}")).await;
        assert!(!rows.starts_with("ERROR"), "{relation}: {rows}");
        let known = |line: &str| ["acme", "alice", "bob"].iter().any(|name| line.contains(name));
        assert!(rows.lines().skip(1).all(known), "{relation}: {rows}");
    }
}

#[tokio::test]
async fn every_relation_is_read() -> Result<()> {
    let state = session()?;
    for relation in super::builtin::RELATIONS.iter() {
        let sql = format!("SELECT * FROM {}.{}", relation.schema, relation.name);
        let rows = run(&state, &plan(&state, &sql).await?).await?;
        assert!(rows.iter().all(|b| b.num_columns() == relation.columns.len()), "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn casts_are_postgresql_s() {
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    check(&[
        (
            "SELECT 'A0EEBC999C0B4EF8BB6D6BB9BD380A11'::uuid, '{\"bb\":1,\"a\":2}'::jsonb, '[1, 2]'::vector(2), \
             '{a,b}'::text[], '\\x6162'::bytea, 'abcdef'::varchar(3), 'x'::\"char\", 20010::regclass::text",
            &format!(
                "uuid:2950 jsonb:3802 vector:16385 text:1009 bytea:17 varchar:1043 char:18 text:25\n\
                 {uuid}|{{\"a\": 2, \"bb\": 1}}|[1.0, 2.0]|[a, b]|6162|abc|x|documents"
            ),
        ),
        (
            "SELECT 'zz'::uuid",
            "ERROR External error: invalid input syntax for type uuid",
        ),
        (
            "SELECT '{'::jsonb",
            "ERROR External error: invalid input syntax for type json",
        ),
        (
            "SELECT '[1,2]'::vector(3)",
            "ERROR External error: expected 3 dimensions, not 2",
        ),
        (
            "SELECT 'nowhere'::regclass",
            "ERROR External error: relation \"nowhere\" does not exist",
        ),
        ("SELECT 'ai.search'::regproc::oid", "oid:26\n17000"),
    ])
    .await;
}

#[tokio::test]
async fn postgresql_s_spellings_are_taken() {
    check(&[
        ("SELECT current_user, 1, 2 AS a, 3 AS a", "current_user:19 ?column?:20 a:20 a:20\nalice|1|2|3"),
        ("SELECT * FROM current_schema()", "current_schema:19\npublic"),
        ("SELECT 'b' = ANY('{a,b}'), 2 <> ALL (SELECT 1), EXISTS (SELECT 1)", "?column?:16 ?column?:16 exists:16\ntrue|true|true"),
        ("SELECT x FROM unnest(ARRAY['p','q']) WITH ORDINALITY AS u(x, n) WHERE n = 2", "x:25\nq"),
        ("SELECT t.a, s FROM (VALUES (1),(2)) t(a), generate_series(1, t.a) s ORDER BY 1, 2", "a:20 s:20\n1|1\n2|1\n2|2"),
        ("SELECT (information_schema._pg_expandarray(ARRAY[7,8])).n", "n:23\n1\n2"),
        ("SELECT 'a_b' LIKE 'a/_%' ESCAPE '/', 'axb' LIKE 'a/_' || '%' ESCAPE '/'", "?column?:16 ?column?:16\ntrue|false"),
        (
            "SELECT (SELECT relname FROM pg_class c WHERE c.relnamespace > n.oid AND c.relkind = 'v' ORDER BY 1 LIMIT 1) \
             FROM pg_namespace n WHERE n.nspname = 'ai'",
            "relname:19\ncosts",
        ),
        (
            "SELECT (SELECT relname FROM pg_class c WHERE c.relnamespace >= n.oid) FROM pg_namespace n WHERE nspname = 'ai'",
            "ERROR External error: more than one row returned by a subquery used as an expression",
        ),
        ("SELECT ARRAY(SELECT nspname FROM pg_namespace WHERE oid > 16000 ORDER BY 1 DESC)", "array:1009\n[bulkhead, ai]"),
        (
            "SELECT DISTINCT lower(relkind) FROM pg_class WHERE relnamespace > 16000 ORDER BY lower(relkind) DESC",
            "lower:25\nv\nr\ni",
        ),
        (
            "SELECT a.attname FROM pg_attribute a WHERE a.attnum = ANY (SELECT unnest(i.indkey) FROM pg_index i WHERE \
             i.indrelid = a.attrelid AND i.indisprimary) AND a.attrelid = 20020",
            "attname:19\nid",
        ),
        ("SELECT d.tableoid::regclass::text FROM pg_description d LIMIT 1", "tableoid:25\npg_description"),
    ])
    .await;
}
