//! Plans that give their thread back: a rule over physical plans.
//!
//! DataFusion lets a stream yield where it reads its input. A join can make millions of rows out of one
//! batch of input, so that it would hold a thread for minutes, and neither a cancel nor a timeout could be
//! looked at. This rule counts what such operators produce, too.

use std::sync::Arc;

use datafusion::{
    common::{
        Result as DfResult,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{ExecutionPlan, coop::CooperativeExec},
};

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
