//! A plan of DataFusion's as a tree of PostgreSQL's nodes.

use std::{sync::Arc, time::Duration};

use datafusion::{
    arrow::datatypes::DataType,
    common::JoinType,
    physical_expr::PhysicalExpr,
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode},
        displayable,
        filter::FilterExec,
        joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec, utils::JoinFilter},
        limit::{GlobalLimitExec, LocalLimitExec},
        projection::ProjectionExec,
        sorts::sort::SortExec,
        streaming::StreamingTableExec,
    },
};

use super::expression::{print, sort_key};
use crate::{sql::tables::nearest_scan::NearestScan, vector::Method};

/// What PostgreSQL takes for the cost of a row and of an operator.
const ROW_COST: f64 = 0.01;
const OPERATOR_COST: f64 = 0.0025;
/// Rows taken for those of a table or function, and of a group.
const TABLE_ROWS: f64 = 1_000.0;
const GROUPS: f64 = 200.0;
/// The part of rows that a condition is taken to leave.
const SELECTIVITY: f64 = 1.0 / 3.0;
/// Bytes taken for a value whose type has no size.
const VARYING_BYTES: u64 = 32;

/// One node of the tree.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// `Seq Scan`, `Hash Join`.
    pub(super) kind: String,
    /// What the text form says instead, such as `Hash Left Join`.
    pub(super) title: Option<String>,
    /// The table that is scanned or written.
    pub(super) relation: Option<String>,
    pub(super) function: Option<String>,
    pub(super) index: Option<String>,
    /// `Inner`, `Left`.
    pub(super) join_type: Option<&'static str>,
    /// `Filter`, `Sort Key`, and what they are.
    pub(super) details: Vec<(&'static str, Vec<String>)>,
    /// The columns it gives, for VERBOSE.
    pub(super) output: Option<Vec<String>>,
    pub(super) startup: f64,
    pub(super) total: f64,
    pub(super) rows: f64,
    pub(super) width: u64,
    pub(super) actual: Option<Actual>,
    pub(super) children: Vec<Node>,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actual {
    pub(super) millis: f64,
    /// `None` where nobody has counted.
    pub(super) rows: Option<u64>,
}

impl Node {
    /// The tree of a plan.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>, verbose: bool) -> Self {
        let mut node = convert(plan);
        if verbose {
            let fields = plan.schema();
            let names = fields.fields().iter().map(|f| crate::sql::pg::names::shown(f.name()));
            node.output = Some(names.map(crate::sql::pg::catalog::quote_ident).collect());
        }
        node
    }

    /// The node of a write of what another node gives.
    pub(super) fn write(verb: &'static str, relation: &str, input: Self) -> Self {
        Self {
            kind: "ModifyTable".to_owned(),
            title: Some(verb.to_owned()),
            relation: Some(relation.to_owned()),
            startup: input.startup,
            total: input.total,
            children: vec![input],
            ..Self::default()
        }
    }

    /// What running it as a whole took.
    pub(super) fn actual(&mut self, elapsed: Duration, rows: u64) {
        self.actual = Some(Actual {
            millis: elapsed.as_secs_f64() * 1_000.0,
            rows: Some(rows),
        });
    }

    /// The tree with what was measured of the plan that it was made of.
    pub(super) fn measured(self, plan: &Arc<dyn ExecutionPlan>, rows: u64, elapsed: Duration) -> Self {
        let mut node = self;
        // Rebuilt beside the plan, which now knows what it did.
        let output = node.output.take();
        node = convert(plan);
        node.output = output;
        node.actual(elapsed, rows);
        node
    }

    fn detail(mut self, label: &'static str, values: Vec<String>) -> Self {
        if !values.is_empty() {
            self.details.push((label, values));
        }
        self
    }
}

/// Rows and time of a plan's node as it counted them. A filter, a projection and what else has no node of its own
/// in PostgreSQL's tree speak for the node beneath them.
fn counted(plan: &Arc<dyn ExecutionPlan>) -> Option<Actual> {
    let metrics = plan.metrics()?;
    let rows = metrics.output_rows()?;
    Some(Actual {
        millis: time_of(plan),
        rows: Some(rows as u64),
    })
}

/// Milliseconds computed by a node and all beneath it.
fn time_of(plan: &Arc<dyn ExecutionPlan>) -> f64 {
    let own = plan.metrics().and_then(|m| m.elapsed_compute()).unwrap_or(0) as f64 / 1e6;
    own + plan.children().into_iter().map(time_of).sum::<f64>()
}

/// Bytes of a row, by its types.
fn width(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let schema = plan.schema();
    let bytes = |data_type: &DataType| data_type.primitive_width().map_or(VARYING_BYTES, |bytes| bytes as u64);
    schema.fields().iter().map(|field| bytes(field.data_type())).sum()
}

fn convert(plan: &Arc<dyn ExecutionPlan>) -> Node {
    let mut node = shaped(plan);
    node.width = width(plan);
    if let Some(actual) = counted(plan) {
        node.actual = Some(actual);
    }
    node
}

/// Adds what a node does to the rows of its child: its own part of the cost.
fn over(kind: &str, child: Node, rows: f64, cost: f64, blocks: bool) -> Node {
    let total = child.total + cost;
    Node {
        kind: kind.to_owned(),
        startup: if blocks { total } else { child.startup },
        total,
        rows: rows.max(1.0),
        children: vec![child],
        ..Node::default()
    }
}

fn leaf(kind: &str, rows: f64) -> Node {
    Node {
        kind: kind.to_owned(),
        total: rows * ROW_COST,
        rows,
        ..Node::default()
    }
}

fn shaped(plan: &Arc<dyn ExecutionPlan>) -> Node {
    let any = plan.as_ref();
    if let Some(filter) = any.downcast_ref::<FilterExec>() {
        return filtered(convert(filter.input()), filter.predicate());
    }
    if let Some(scan) = any.downcast_ref::<NearestScan>() {
        return nearest(scan);
    }
    if let Some(projection) = any.downcast_ref::<ProjectionExec>() {
        return convert(projection.input());
    }
    if let Some(sort) = any.downcast_ref::<SortExec>() {
        let child = convert(sort.input());
        let rows = child.rows;
        let cost = 2.0 * OPERATOR_COST * rows * rows.max(2.0).log2();
        let keys = sort.expr().iter().map(sort_key).collect();
        let node = over("Sort", child, rows, cost, true).detail("Sort Key", keys);
        return match sort.fetch() {
            Some(fetch) => limited(node, 0, Some(fetch)),
            None => node,
        };
    }
    if let Some(limit) = any.downcast_ref::<GlobalLimitExec>() {
        return limited(convert(limit.input()), limit.skip(), limit.fetch());
    }
    if let Some(limit) = any.downcast_ref::<LocalLimitExec>() {
        return limited(convert(limit.input()), 0, Some(limit.fetch()));
    }
    if let Some(aggregate) = any.downcast_ref::<AggregateExec>() {
        let child = convert(aggregate.input());
        if matches!(aggregate.mode(), AggregateMode::Partial) {
            return child;
        }
        let keys: Vec<String> = aggregate
            .group_expr()
            .expr()
            .iter()
            .map(|(expr, _)| print(expr))
            .collect();
        let rows = if keys.is_empty() { 1.0 } else { child.rows.min(GROUPS) };
        let kind = if keys.is_empty() { "Aggregate" } else { "HashAggregate" };
        let cost = child.rows * OPERATOR_COST * (1 + aggregate.aggr_expr().len()) as f64;
        return over(kind, child, rows, cost, true).detail("Group Key", keys);
    }
    if let Some(join) = any.downcast_ref::<HashJoinExec>() {
        // The left side is built, the right one is looked up in it.
        let on = join
            .on()
            .iter()
            .map(|(left, right)| format!("({} = {})", print(right), print(left)));
        let conditions: Vec<String> = on.collect();
        let condition = match conditions.len() {
            0 | 1 => conditions,
            _ => vec![format!("({})", conditions.join(" AND "))],
        };
        let built = convert(join.left());
        let (rows, bytes) = (built.rows, built.width);
        let mut hash = over("Hash", built, rows, 0.0, true);
        hash.width = bytes;
        hash.actual = hash.children[0].actual;
        // What is looked up stands first in PostgreSQL, so that the sides change places.
        let node = joined("Hash Join", convert(join.right()), hash, join.join_type().swap());
        return join_filter(node.detail("Hash Cond", condition), join.filter());
    }
    if let Some(join) = any.downcast_ref::<SortMergeJoinExec>() {
        let on = join
            .on()
            .iter()
            .map(|(left, right)| format!("({} = {})", print(left), print(right)));
        let condition = on.collect();
        let node = joined(
            "Merge Join",
            convert(join.left()),
            convert(join.right()),
            join.join_type(),
        );
        return join_filter(node.detail("Merge Cond", condition), join.filter().as_ref());
    }
    if let Some(join) = any.downcast_ref::<NestedLoopJoinExec>() {
        let node = joined(
            "Nested Loop",
            convert(join.left()),
            convert(join.right()),
            *join.join_type(),
        );
        return join_filter(node, join.filter());
    }
    if let Some(join) = any.downcast_ref::<CrossJoinExec>() {
        return joined(
            "Nested Loop",
            convert(join.left()),
            convert(join.right()),
            JoinType::Inner,
        );
    }
    if let Some(scan) = any.downcast_ref::<StreamingTableExec>() {
        let node = streamed(scan);
        return match scan.limit() {
            Some(limit) => limited(node, 0, Some(limit)),
            None => node,
        };
    }
    by_name(plan)
}

/// What is told apart by its name: sources, and what PostgreSQL has no node for.
fn by_name(plan: &Arc<dyn ExecutionPlan>) -> Node {
    let mut children: Vec<Node> = plan.children().into_iter().map(convert).collect();
    let rows: f64 = children.iter().map(|child| child.rows).sum();
    let kind = match plan.name() {
        "PlaceholderRowExec" | "EmptyExec" => return leaf("Result", 1.0),
        "TableScanExec" | "PolicyScanExec" => {
            return table(&displayable(plan.as_ref()).one_line().to_string());
        }
        "DataSourceExec" => {
            let mut node = leaf("Values Scan", 2.0);
            node.relation = Some("*VALUES*".to_owned());
            return node;
        }
        "LazyMemoryExec" => {
            let mut node = leaf("Function Scan", TABLE_ROWS);
            node.function = Some("generate_series".to_owned());
            return node;
        }
        "UnionExec" | "InterleaveExec" => "Append",
        "WindowAggExec" | "BoundedWindowAggExec" => "WindowAgg",
        "UnnestExec" => "ProjectSet",
        "RecursiveQueryExec" => "Recursive Union",
        "WorkTableExec" => return leaf("WorkTable Scan", TABLE_ROWS / 100.0),
        "ApplyExec" | "PiecewiseMergeJoinExec" | "SymmetricHashJoinExec" => "Nested Loop",
        // The others change how rows come, not which.
        _ if children.len() == 1 => return children.remove(0),
        _ => "Result",
    };
    Node {
        kind: kind.to_owned(),
        startup: children.first().map_or(0.0, |child| child.startup),
        total: children.iter().map(|child| child.total).sum::<f64>() + rows * ROW_COST,
        rows: rows.max(1.0),
        children,
        ..Node::default()
    }
}

/// A scan of a tenant's own table says which one, and by which index.
fn table(line: &str) -> Node {
    let line = line.trim();
    let name = line.split_once(": ").map_or(line, |(_, rest)| rest);
    let name = name.strip_suffix(" by policies").unwrap_or(name);
    match name.rsplit_once(" by index ") {
        Some((name, index)) => Node {
            relation: Some(name.to_owned()),
            index: Some(index.to_owned()),
            ..leaf("Index Scan", 1.0)
        },
        None => Node {
            relation: Some(name.to_owned()),
            ..leaf("Seq Scan", TABLE_ROWS)
        },
    }
}

/// A scan of the rows that a search for the nearest finds.
fn nearest(scan: &NearestScan) -> Node {
    let told = scan.told();
    let leaf = match &told.index {
        Some(_) => leaf("Index Scan", 1.0),
        None => leaf("Seq Scan", TABLE_ROWS),
    };
    let node = Node {
        relation: Some(told.table),
        index: told.index,
        ..leaf
    };
    let method = told.method.map(|method| match method {
        Method::Exact => "exact",
        Method::Codes => "codes",
        Method::Graph => "graph",
    });
    let one = |text: Option<String>| text.into_iter().collect();
    node.detail("Order By", vec![told.order])
        .detail("Search Method", one(method.map(str::to_owned)))
        .detail("Candidates Visited", one(told.visited.map(|(all, _)| all.to_string())))
        .detail(
            "Vectors Compared",
            one(told.visited.map(|(_, compared)| compared.to_string())),
        )
}

/// A source that is read as a stream says in its debug form what it is: a relation's name, `name by index`, or
/// `function name`.
fn streamed(scan: &StreamingTableExec) -> Node {
    let said = scan
        .partitions()
        .first()
        .map(|part| format!("{part:?}"))
        .unwrap_or_default();
    match said.strip_prefix("function ") {
        Some(function) => Node {
            function: Some(function.to_owned()),
            ..leaf("Function Scan", TABLE_ROWS)
        },
        None => table(&said),
    }
}

fn filtered(mut node: Node, predicate: &Arc<dyn PhysicalExpr>) -> Node {
    let rows = node.rows;
    node.total += rows * OPERATOR_COST;
    node.rows = (rows * SELECTIVITY).max(1.0).round();
    let label = match node.kind == "Index Scan" && node.details.is_empty() {
        true => "Index Cond",
        false => "Filter",
    };
    node.detail(label, vec![print(predicate)])
}

fn limited(child: Node, skip: usize, fetch: Option<usize>) -> Node {
    let all = child.rows.max(1.0);
    let wanted = fetch.map_or(all, |fetch| (skip + fetch) as f64).min(all);
    let rows = fetch.map_or(all - skip as f64, |fetch| fetch as f64).min(all);
    let cost = child.startup + (child.total - child.startup) * wanted / all;
    let startup = child.startup;
    let mut node = over("Limit", child, rows, 0.0, false);
    node.startup = startup;
    node.total = cost;
    node
}

fn joined(kind: &str, outer: Node, inner: Node, join_type: JoinType) -> Node {
    let (word, name) = match join_type {
        JoinType::Inner => ("", "Inner"),
        JoinType::Left => ("Left", "Left"),
        JoinType::Right => ("Right", "Right"),
        JoinType::Full => ("Full", "Full"),
        JoinType::LeftSemi | JoinType::RightSemi => ("Semi", "Semi"),
        JoinType::LeftAnti | JoinType::RightAnti => ("Anti", "Anti"),
        JoinType::LeftMark | JoinType::RightMark => ("Left", "Left"),
    };
    // `Hash Left Join`, and `Nested Loop Left Join`.
    let title = match (word, kind.strip_suffix(" Join")) {
        ("", _) => None,
        (word, Some(method)) => Some(format!("{method} {word} Join")),
        (word, None) => Some(format!("{kind} {word} Join")),
    };
    let rows = outer.rows.max(inner.rows);
    let pairs = match kind {
        "Nested Loop" => outer.rows * inner.rows,
        _ => outer.rows + inner.rows,
    };
    Node {
        kind: kind.to_owned(),
        title,
        join_type: Some(name),
        startup: outer.startup.max(inner.startup),
        total: outer.total + inner.total + pairs * OPERATOR_COST,
        rows,
        children: vec![outer, inner],
        ..Node::default()
    }
}

fn join_filter(node: Node, filter: Option<&JoinFilter>) -> Node {
    match filter.map(|filter| print(filter.expression())) {
        Some(text) if text != "true" => node.detail("Join Filter", vec![text]),
        _ => node,
    }
}
