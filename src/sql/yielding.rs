//! Plans that can be stopped, and that give their thread back.
//!
//! DataFusion lets a stream yield where it reads its input. A join can make millions of rows out of one
//! batch of input, or look at millions of pairs of which none is a row, so that it would hold a thread for
//! minutes, and neither a cancel nor a timeout could be looked at. [`Yielding`] counts what such operators
//! produce; [`watched`] lets the conditions that judge pairs look at the clock.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, FieldRef, Schema},
    },
    common::{
        JoinType, Result as DfResult, ScalarValue,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    logical_expr::ColumnarValue,
    physical_expr::{PhysicalExpr, expressions::Literal},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        coop::CooperativeExec,
        joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, utils::JoinFilter},
    },
};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::error::{Code, Error};

/// Operators that can produce many batches from one.
const MULTIPLY: &[&str] = &[
    "ApplyExec",
    "CrossJoinExec",
    "HashJoinExec",
    "NestedLoopJoinExec",
    "PiecewiseMergeJoinExec",
    "RecursiveQueryExec",
    "SortMergeJoinExec",
    "UnnestExec",
];

/// Batches of pairs that a join judges before it lets others use the thread: some milliseconds.
const BATCHES_A_TURN: u32 = 64;

/// Tells a statement that computes without looking up whether it must end.
pub trait Watch: Send + Sync {
    /// Why the running statement must end, if it must: `user request`, `statement timeout`.
    fn verdict(&self) -> Option<&'static str>;

    /// Ends the running statement; between statements nothing happens.
    fn cancel(&self);

    /// Ends the connection, and the running statement with it.
    fn terminate(&self);
}

/// The rule.
#[derive(Debug)]
pub(super) struct Yielding;

impl PhysicalOptimizerRule for Yielding {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|node| match MULTIPLY.contains(&node.name()) {
            true => Ok(Transformed::yes(
                Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>
            )),
            false => Ok(Transformed::no(node)),
        });
        Ok(wrapped?.data)
    }

    fn name(&self) -> &str {
        "yielding"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan with every join condition watched.
pub(super) fn watched(plan: Arc<dyn ExecutionPlan>, watch: &Arc<dyn Watch>) -> DfResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let any = node.as_ref();
        if let Some(join) = any.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            let join = NestedLoopJoinExecBuilder::new(join.left().clone(), join.right().clone(), *join.join_type())
                .with_projection_ref(join.projection().clone())
                .with_filter(Some(guard(filter, watch)))
                .build()?;
            return Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>));
        }
        if let Some(join) = any.downcast_ref::<HashJoinExec>() {
            let filter = match join.filter() {
                Some(filter) => guard(filter, watch),
                // These look at pairs without producing any.
                None if !matches!(
                    join.join_type(),
                    JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
                ) =>
                {
                    guard(&always(), watch)
                }
                None => return Ok(Transformed::no(node)),
            };
            return Ok(Transformed::yes(join.builder().with_filter(Some(filter)).build_exec()?));
        }
        Ok(Transformed::no(node))
    })
    .data()
}

fn always() -> JoinFilter {
    let always = Arc::new(Literal::new(ScalarValue::Boolean(Some(true))));
    JoinFilter::new(always, Vec::new(), Arc::new(Schema::empty()))
}

fn guard(filter: &JoinFilter, watch: &Arc<dyn Watch>) -> JoinFilter {
    let expression = Arc::new(Watched {
        condition: filter.expression().clone(),
        watch: watch.clone(),
        batches: AtomicU32::new(0),
    });
    JoinFilter::new(expression, filter.column_indices().to_vec(), filter.schema().clone())
}

/// A condition that fails once its statement must end.
struct Watched {
    condition: Arc<dyn PhysicalExpr>,
    watch: Arc<dyn Watch>,
    batches: AtomicU32,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, input: &Schema) -> DfResult<DataType> {
        self.condition.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> DfResult<bool> {
        self.condition.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> DfResult<FieldRef> {
        self.condition.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        if let Some(why) = self.watch.verdict() {
            return Err(Error::new(Code::QueryCanceled, format!("canceling statement due to {why}")).into());
        }
        if self.batches.fetch_add(1, Ordering::Relaxed) % BATCHES_A_TURN == BATCHES_A_TURN - 1 {
            make_way();
        }
        self.condition.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        let [condition] = <[_; 1]>::try_from(children).map_err(|_| Error::internal("a condition has one child"))?;
        Ok(Arc::new(Self {
            condition,
            watch: self.watch.clone(),
            batches: AtomicU32::new(0),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}

/// Hands the other tasks of this thread to another one; what goes on here shares the processor with them by
/// the operating system's measure.
fn make_way() {
    if Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread) {
        tokio::task::block_in_place(std::thread::yield_now);
    }
}
