//! Physical plans that are made once for a prepared statement and run many times.
//!
//! Making a physical plan costs several times what running a small one does. A statement that comes
//! again keeps its plan: placeholders become calls of [`Parameter`], which gives the value of the run
//! at hand, and scans look at their parameters when they start to read. A plan whose shape depends on
//! values (`LIMIT $1`), or whose scans would not read less for them, is made again at each run.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use datafusion::{
    arrow::datatypes::{DataType, FieldRef},
    common::{
        Result as DfResult, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    datasource::source_as_provider,
    logical_expr::{
        ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
        TableScan, Volatility, expr::ScalarFunction, expr_rewriter::NamePreserver,
    },
    physical_plan::{ExecutionPlan, execution_plan::reset_plan_states},
};
use parking_lot::{Mutex, RwLock};

use super::{complaints::from_datafusion, relations::RelationProvider};
use crate::{error::Result, limits};

/// What a prepared statement keeps between its runs.
#[derive(Default)]
pub(super) struct Kept(Mutex<State>);

#[derive(Default)]
enum State {
    /// Never run. One run alone is no reason to keep anything.
    #[default]
    New,
    /// Run once.
    Warm,
    Ready(Plan),
    /// Not to be kept.
    Unfit,
}

struct Plan {
    plan: Arc<dyn ExecutionPlan>,
    cells: Arc<Cells>,
    running: Arc<AtomicBool>,
    runs: usize,
}

/// The right to run a kept plan; until it is dropped the plan has no other run.
pub(super) struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What [`Kept::take`] has.
pub(super) enum Taken {
    /// The plan with its values filled in.
    Plan(Arc<dyn ExecutionPlan>, Running),
    /// A plan should be made of this one and given to [`Kept::keep`].
    Make(LogicalPlan, Arc<Cells>),
    /// A plan is to be made for this run alone.
    Nothing,
}

impl Kept {
    /// The kept plan with these values, if there is one and it is free. `plan` is the optimized one.
    pub(super) fn take(&self, plan: &LogicalPlan, values: &[ScalarValue]) -> Result<Taken> {
        let mut state = self.0.lock();
        match &mut *state {
            State::New => {
                *state = State::Warm;
                Ok(Taken::Nothing)
            }
            State::Unfit => Ok(Taken::Nothing),
            State::Ready(kept) if kept.runs < limits::KEPT_PLAN_RUNS => {
                if kept.running.swap(true, Ordering::Acquire) {
                    return Ok(Taken::Nothing);
                }
                let running = Running(kept.running.clone());
                kept.runs += 1;
                *kept.cells.0.write() = values.to_vec();
                let plan = reset_plan_states(kept.plan.clone()).map_err(from_datafusion)?;
                Ok(Taken::Plan(plan, running))
            }
            State::Warm | State::Ready(_) => {
                let fit = fits(plan).map_err(from_datafusion)?;
                *state = if fit { State::Warm } else { State::Unfit };
                if !fit {
                    return Ok(Taken::Nothing);
                }
                let cells = Arc::new(Cells(RwLock::new(values.to_vec())));
                let plan = parameterized(plan.clone(), &cells, values).map_err(from_datafusion)?;
                Ok(Taken::Make(plan, cells))
            }
        }
    }

    /// Keeps a plan made of what [`Taken::Make`] gave; the run that made it has the right to it.
    pub(super) fn keep(&self, plan: &Arc<dyn ExecutionPlan>, cells: Arc<Cells>) -> Running {
        let running = Arc::new(AtomicBool::new(true));
        *self.0.lock() = State::Ready(Plan {
            plan: plan.clone(),
            cells,
            running: running.clone(),
            runs: 1,
        });
        Running(running)
    }

    /// From here on a plan is made for each run.
    pub(super) fn give_up(&self) {
        *self.0.lock() = State::Unfit;
    }
}

/// The values of the run at hand.
#[derive(Debug)]
pub(super) struct Cells(RwLock<Vec<ScalarValue>>);

/// A constant of a plan: known when it was made, or when it runs.
#[derive(Clone, Debug)]
pub(super) enum Constant {
    Known(ScalarValue),
    Late(Arc<Cells>, usize),
}

impl Constant {
    /// The constant that an expression of a plan to be run is.
    pub(super) fn of(expr: &Expr) -> Option<Self> {
        match expr {
            Expr::Literal(value, _) => Some(Self::Known(value.clone())),
            Expr::ScalarFunction(call) => {
                let inner: &dyn std::any::Any = call.func.inner().as_ref();
                let parameter = inner.downcast_ref::<Parameter>()?;
                Some(Self::Late(parameter.cells.clone(), parameter.index))
            }
            _ => None,
        }
    }

    /// Whether an expression is one, or will be once parameters are known.
    pub(super) fn will_be(expr: &Expr) -> bool {
        matches!(expr, Expr::Placeholder(_)) || Self::of(expr).is_some()
    }

    /// Its value in the run at hand.
    pub(super) fn get(&self) -> ScalarValue {
        match self {
            Self::Known(value) => value.clone(),
            Self::Late(cells, index) => cells.0.read().get(*index).cloned().unwrap_or(ScalarValue::Null),
        }
    }
}

/// Whether a plan of this shape may run with other values than it was made with.
fn fits(plan: &LogicalPlan) -> DfResult<bool> {
    let mut fits = true;
    plan.apply_with_subqueries(|node| {
        fits = match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::EmptyRelation(_) => true,
            LogicalPlan::Limit(_) => !has_placeholder(node)?,
            LogicalPlan::TableScan(scan) => reads_late(scan)?,
            // Their state is not known to be reset, or they want constants while they are planned.
            _ => false,
        };
        Ok(if fits {
            TreeNodeRecursion::Continue
        } else {
            TreeNodeRecursion::Stop
        })
    })?;
    Ok(fits)
}

/// Whether a scan looks at its parameters when it starts to read.
fn reads_late(scan: &TableScan) -> DfResult<bool> {
    let provider = source_as_provider(&scan.source)?;
    let any: &dyn std::any::Any = provider.as_ref();
    Ok(any.is::<RelationProvider>())
}

fn has_placeholder(node: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= expr.exists(|e| Ok(matches!(e, Expr::Placeholder(_))))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The plan with its placeholders as calls of [`Parameter`]. Nothing may optimize it afterwards.
fn parameterized(plan: LogicalPlan, cells: &Arc<Cells>, values: &[ScalarValue]) -> DfResult<LogicalPlan> {
    let call = |expr: Expr| match &expr {
        Expr::Placeholder(placeholder) => {
            let number = placeholder.id.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
            let Some(index) = number.and_then(|n| n.checked_sub(1)).filter(|i| *i < values.len()) else {
                return Ok(Transformed::no(expr));
            };
            let field = match &placeholder.field {
                Some(field) => field.as_ref().clone().with_data_type(values[index].data_type()),
                None => datafusion::arrow::datatypes::Field::new("", values[index].data_type(), true),
            };
            let parameter = Parameter {
                cells: cells.clone(),
                index,
                field: Arc::new(field.with_name(format!("${}", index + 1)).with_nullable(true)),
                // Volatile: what it gives must not be taken for a constant of the plan.
                signature: Signature::nullary(Volatility::Volatile),
            };
            let function = Arc::new(ScalarUDF::new_from_impl(parameter));
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(
                function,
                Vec::new(),
            ))))
        }
        _ => Ok(Transformed::no(expr)),
    };
    let plan = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let called = expr.transform_up(call)?;
            Ok(match called.transformed {
                true => called.update_data(|expr| name.restore(expr)),
                false => called,
            })
        })
    })?;
    Ok(plan.data)
}

/// Gives the value of a parameter in the run at hand.
struct Parameter {
    cells: Arc<Cells>,
    index: usize,
    field: FieldRef,
    signature: Signature,
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.index + 1)
    }
}

impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cells, &other.cells) && self.index == other.index
    }
}

impl Eq for Parameter {}

impl Hash for Parameter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.index.hash(state);
    }
}

impl ScalarUDFImpl for Parameter {
    fn name(&self) -> &str {
        "bulkhead_parameter"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(self.field.clone())
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let values = self.cells.0.read();
        let value = values.get(self.index).cloned();
        Ok(ColumnarValue::Scalar(value.unwrap_or(ScalarValue::Null)))
    }
}
