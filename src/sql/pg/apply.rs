//! Correlated sub-queries that DataFusion cannot turn into joins: found, taken out of expressions,
//! and put into a node that answers them for each row of its input.
//!
//! A sub-query whose outer columns are only compared for equality in its WHERE stays with DataFusion,
//! which makes a join of it. Any other becomes a column of an [`Apply`] node (the dependent join of
//! Neumann and Kemper, "Unnesting Arbitrary Queries", left nested), run by [`super::apply_exec`].

use std::{
    cmp::Ordering,
    collections::HashSet,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::{
    common::{
        Column, DFSchema, DFSchemaRef, DataFusionError, Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    functions_aggregate::expr_fn::array_agg,
    functions_nested::expr_fn::array_has,
    logical_expr::{
        BinaryExpr, Expr, Extension, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, UserDefinedLogicalNodeCore,
        expr::{Exists, InSubquery},
        expr_rewriter::NamePreserver,
        lit,
        logical_plan::check_subquery_expr,
        utils::split_conjunction,
        when,
    },
    optimizer::AnalyzerRule,
};

/// Moves what DataFusion cannot plan into [`Apply`] nodes. To be added after DataFusion's own analyzer
/// rules, together with [`super::apply_exec::ApplyPlanner`].
#[derive(Debug)]
pub struct ApplySubqueries;

impl AnalyzerRule for ApplySubqueries {
    fn name(&self) -> &str {
        "bulkhead_apply_subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up(|node| match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Sort(_) => {
                apply(node)
            }
            other => Ok(Transformed::no(other)),
        })
        .map(|t| t.data)
    }
}

/// What a sub-query stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub enum Kind {
    /// Its only value.
    Scalar,
    /// Whether it has rows.
    Exists,
}

/// A sub-query answered for each row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub struct Applied {
    /// What it stands for.
    pub kind: Kind,
    /// The query, with references to outer columns in it.
    pub plan: Arc<LogicalPlan>,
    /// The columns of the input it refers to.
    pub outer: Vec<Column>,
}

/// The rows of the input, each with one more column for each sub-query.
#[derive(Clone)]
pub struct Apply {
    /// Where rows come from.
    pub input: Arc<LogicalPlan>,
    /// In the order of the added columns.
    pub subqueries: Vec<Applied>,
    schema: DFSchemaRef,
}

impl Apply {
    fn new(input: LogicalPlan, subqueries: Vec<Applied>) -> Result<Self> {
        let mut fields: Vec<_> = input.schema().iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
        for (i, subquery) in subqueries.iter().enumerate() {
            let field: FieldRef = match subquery.kind {
                Kind::Exists => Arc::new(Field::new("", DataType::Boolean, false)),
                Kind::Scalar => subquery
                    .plan
                    .schema()
                    .fields()
                    .first()
                    .cloned()
                    .unwrap_or_else(|| Arc::new(Field::new("", DataType::Null, true))),
            };
            let nullable = subquery.kind == Kind::Scalar;
            let named = field
                .as_ref()
                .clone()
                .with_name(format!("{}{i}", COLUMN))
                .with_nullable(nullable);
            fields.push((None, Arc::new(named)));
        }
        let metadata = input.schema().metadata().clone();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, metadata)?);
        Ok(Self {
            input: Arc::new(input),
            subqueries,
            schema,
        })
    }
}

/// Names of the added columns begin with it.
const COLUMN: &str = "bulkhead_apply_";

fn apply(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let Some(input) = node.inputs().first().map(|p| (*p).clone()) else {
        return Ok(Transformed::no(node));
    };
    let mut found: Vec<Applied> = Vec::new();
    let names = NamePreserver::new(&node);
    let expressions: Vec<Expr> = node
        .expressions()
        .into_iter()
        .map(|e| {
            let name = names.save(&e);
            let changed = e.transform_down(|e| take_out(e, &node, &mut found))?;
            Ok(name.restore(changed.data))
        })
        .collect::<Result<_>>()?;
    if found.is_empty() {
        return Ok(Transformed::no(node));
    }
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let applied = LogicalPlan::Extension(Extension {
        node: Arc::new(Apply::new(input, found)?),
    });
    let filtered = matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Sort(_));
    let above = node.with_new_exprs(expressions, vec![applied])?;
    let plan = if filtered {
        LogicalPlanBuilder::from(above).project(columns)?.build()?
    } else {
        above
    };
    Ok(Transformed::yes(plan))
}

fn take_out(expr: Expr, node: &LogicalPlan, found: &mut Vec<Applied>) -> Result<Transformed<Expr>> {
    let (kind, subquery, negated) = match &expr {
        Expr::ScalarSubquery(subquery) => (Kind::Scalar, subquery, false),
        Expr::Exists(Exists { subquery, negated }) => (Kind::Exists, subquery, *negated),
        Expr::InSubquery(in_list) if !in_stays(in_list, &expr, node) => return take_out_in(in_list, found),
        Expr::InSubquery(_) | Expr::SetComparison(_) => {
            return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
        }
        _ => return Ok(Transformed::no(expr)),
    };
    let joins = check_subquery_expr(node, &subquery.subquery, &expr).is_ok() && becomes_join(kind, &subquery.subquery);
    // EXISTS outside of a filter has no join to become.
    let stays = joins && (kind == Kind::Scalar || matches!(node, LogicalPlan::Filter(_)));
    let independent = subquery.outer_ref_columns.is_empty() && kind == Kind::Scalar;
    if stays || independent {
        return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
    }
    let applied = Applied {
        kind,
        plan: subquery.subquery.clone(),
        outer: outer_columns(subquery),
    };
    let column = Expr::Column(Column::from_name(format!("{COLUMN}{}", found.len())));
    found.push(applied);
    let made = if negated { Expr::Not(Box::new(column)) } else { column };
    Ok(Transformed::new(made, true, TreeNodeRecursion::Jump))
}

/// Whether an IN is left to DataFusion: in a filter, where it becomes a join.
fn in_stays(in_list: &InSubquery, expr: &Expr, node: &LogicalPlan) -> bool {
    let query = &in_list.subquery.subquery;
    let independent = in_list.subquery.outer_ref_columns.is_empty();
    let joins = || check_subquery_expr(node, query, expr).is_ok() && becomes_join(Kind::Exists, query);
    matches!(node, LogicalPlan::Filter(_)) && (independent || joins())
}

/// `x IN (SELECT ...)` outside of a filter: whether x is among the query's values, gathered in a list.
fn take_out_in(in_list: &InSubquery, found: &mut Vec<Applied>) -> Result<Transformed<Expr>> {
    let query = LogicalPlanBuilder::from(in_list.subquery.subquery.as_ref().clone());
    let Some(column) = query.schema().columns().into_iter().next() else {
        return Err(DataFusionError::Plan("a sub-query must return a column".to_owned()));
    };
    let none: [Expr; 0] = [];
    let list = query
        .aggregate(none, [array_agg(Expr::Column(column)).alias("list")])?
        .build()?;
    let outer = outer_columns(&in_list.subquery);
    found.push(Applied {
        kind: Kind::Scalar,
        plan: Arc::new(list),
        outer,
    });
    let list = Expr::Column(Column::from_name(format!("{COLUMN}{}", found.len() - 1)));
    let has = array_has(list.clone(), in_list.expr.as_ref().clone());
    // No rows make no list, and nothing is in it.
    let made = when(list.is_null(), lit(false)).otherwise(has)?;
    let made = if in_list.negated {
        Expr::Not(Box::new(made))
    } else {
        made
    };
    Ok(Transformed::new(made, true, TreeNodeRecursion::Jump))
}

fn outer_columns(subquery: &Subquery) -> Vec<Column> {
    let mut seen = HashSet::new();
    let column = |e: &Expr| {
        if let Expr::OuterReferenceColumn(_, c) = e {
            Some(c.clone())
        } else {
            None
        }
    };
    subquery
        .outer_ref_columns
        .iter()
        .filter_map(column)
        .filter(|c| seen.insert(c.clone()))
        .collect()
}

/// Whether DataFusion's own rules make a join of it: outer columns stand in filters only, on one
/// side of an equality (for EXISTS anywhere in a filter), under nodes that such rules pull through.
fn becomes_join(kind: Kind, plan: &LogicalPlan) -> bool {
    let mut fits = true;
    let visited = plan.apply(|node| {
        let simple = match node {
            LogicalPlan::Filter(filter) => {
                let correlated = split_conjunction(&filter.predicate)
                    .into_iter()
                    .filter(|e| e.contains_outer());
                correlated.into_iter().all(|e| kind == Kind::Exists || is_equality(e))
            }
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Sort(_) => no_outer(node),
            LogicalPlan::Join(join) => join.join_type == datafusion::logical_expr::JoinType::Inner && no_outer(node),
            LogicalPlan::SubqueryAlias(_) | LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_) => no_outer(node),
            _ => false,
        };
        fits = simple && no_nested_correlation(node)?;
        Ok(if fits {
            TreeNodeRecursion::Continue
        } else {
            TreeNodeRecursion::Stop
        })
    });
    visited.is_ok() && fits
}

fn no_outer(node: &LogicalPlan) -> bool {
    node.expressions().iter().all(|e| !e.contains_outer())
}

fn is_equality(expr: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = expr
    else {
        return false;
    };
    let outer_only = |e: &Expr| e.contains_outer() && e.column_refs().is_empty();
    let inner_only = |e: &Expr| !e.contains_outer() && !e.column_refs().is_empty();
    outer_only(left) && inner_only(right) || inner_only(left) && outer_only(right)
}

/// Whether no sub-query in the node's expressions is itself correlated.
fn no_nested_correlation(node: &LogicalPlan) -> Result<bool> {
    let mut none = true;
    for expr in node.expressions() {
        expr.apply(|e| {
            none &= match e {
                Expr::ScalarSubquery(s) => s.outer_ref_columns.is_empty(),
                Expr::Exists(e) => e.subquery.outer_ref_columns.is_empty(),
                Expr::InSubquery(i) => i.subquery.outer_ref_columns.is_empty(),
                Expr::SetComparison(s) => s.subquery.outer_ref_columns.is_empty(),
                _ => true,
            };
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(none)
}

impl fmt::Debug for Apply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        UserDefinedLogicalNodeCore::fmt_for_explain(self, f)
    }
}

impl PartialEq for Apply {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input && self.subqueries == other.subqueries
    }
}

impl Eq for Apply {}

impl Hash for Apply {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.subqueries.hash(state);
    }
}

impl PartialOrd for Apply {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for Apply {
    fn name(&self) -> &str {
        "Apply"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Apply: {} sub-queries for each row", self.subqueries.len())
    }

    fn with_exprs_and_inputs(&self, _expressions: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Self::new(input, self.subqueries.clone()),
            _ => Err(DataFusionError::Internal("Apply has one input".to_owned())),
        }
    }
}
