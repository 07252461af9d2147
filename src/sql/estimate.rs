//! What the calls of models in a statement would cost: the lines that EXPLAIN adds to a plan.
//!
//! The rows that the calls would be made for are computed, which costs nothing but time, and their distinct inputs
//! are sized as the gate sizes them. Nothing is called, reserved or charged.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    common::{ScalarValue, tree_node::TreeNodeRecursion},
    physical_expr::{PhysicalExpr, ScalarFunctionExpr, async_scalar_function::AsyncFuncExpr},
    physical_plan::ExecutionPlan,
};
use futures::TryStreamExt;

use super::{
    complaints::from_datafusion,
    functions::{self, Args, answers},
    session::Session,
    world::World,
};
use crate::{
    ai::tokens::count_tokens,
    error::Result,
    ledger::money::{Day, Nano},
    ledger::usage::now_micros,
    limits,
};

/// One node that calls functions which wait.
const CALLS: &str = "async_func";
/// Functions that call a model.
const MODELS: [&str; 3] = ["ai.complete", "ai.embed", "ai.rag"];

/// A function that calls a model, and its arguments.
type ModelCall = (&'static str, Vec<Arc<dyn PhysicalExpr>>);

/// What is known of the calls of one function.
#[derive(Default)]
struct Estimate {
    calls: u64,
    /// More rows than are looked at.
    open: bool,
    prompt_tokens: i64,
    completion_tokens: i64,
    cost: Nano,
}

impl Session {
    /// A line for each function of the plan that calls a model.
    pub(super) async fn model_calls(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<String>> {
        let World::Tenant(_) = &*self.world else {
            return Ok(Vec::new());
        };
        let mut nodes = vec![plan.clone()];
        let mut lines = Vec::new();
        while let Some(node) = nodes.pop() {
            nodes.extend(node.children().into_iter().cloned());
            if node.name() != CALLS {
                continue;
            }
            let Some(input) = node.children().first().map(|child| (*child).clone()) else {
                continue;
            };
            for (name, arguments) in calls_of(&node)? {
                lines.push(match contains_calls(&input) {
                    true => format!("AI calls: {name}: as many as the calls beneath give inputs"),
                    false => self.estimate(name, &arguments, &input).await?.line(name),
                });
            }
        }
        Ok(lines)
    }

    async fn estimate(
        &self,
        name: &'static str,
        arguments: &[Arc<dyn PhysicalExpr>],
        input: &Arc<dyn ExecutionPlan>,
    ) -> Result<Estimate> {
        let mut estimate = Estimate::default();
        let mut seen: HashSet<Vec<ScalarValue>> = HashSet::new();
        let mut rows = self.stream(input.clone())?;
        let mut looked = 0;
        while let Some(batch) = rows.try_next().await? {
            let columns = arguments
                .iter()
                .map(|argument| argument.evaluate(&batch)?.into_array(batch.num_rows()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(from_datafusion)?;
            for row in 0..batch.num_rows() {
                let values = columns
                    .iter()
                    .map(|column| ScalarValue::try_from_array(column, row))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(from_datafusion)?;
                if seen.insert(values.clone()) {
                    self.add(&mut estimate, name, values).await?;
                }
            }
            looked += batch.num_rows();
            if looked >= limits::EXPLAIN_ROWS {
                estimate.open = true;
                break;
            }
        }
        Ok(estimate)
    }

    /// Adds the call for one input, at its largest.
    async fn add(&self, estimate: &mut Estimate, name: &str, values: Vec<ScalarValue>) -> Result<()> {
        let world = self.world.tenant()?;
        let Some(function) = functions::find(&self.world, name) else {
            return Ok(());
        };
        let args = Args::new(function, values).map_err(from_datafusion)?;
        let Some(text) = args.text_or_null(0) else {
            return Ok(());
        };
        estimate.calls += 1;
        let gateway = world.gateway().await?;
        if name == "ai.embed" {
            let model = world.embedding_model(&gateway, args.text_or_null(1)).await?.model;
            let tokens = i64::try_from(count_tokens(text)).unwrap_or(i64::MAX);
            estimate.prompt_tokens = estimate.prompt_tokens.saturating_add(tokens);
            let today = Day::of_micros(now_micros());
            if let Some(price) = gateway.caller.prices.get(&model.provider, &model.model, today) {
                estimate.cost = estimate.cost.plus(price.embed(tokens)?)?;
            }
            return Ok(());
        }
        let (wishes, context) = match name {
            "ai.rag" => (answers::rag_wishes(&args), limits::RAG_CONTEXT_TOKENS as i64),
            _ => (answers::completion_wishes(&args)?, 0),
        };
        let call = gateway.completion(text, wishes)?;
        let mut size = world.engine.gate.size(&gateway.caller, &call)?;
        size.prompt_tokens = size.prompt_tokens.saturating_add(context);
        size.prompt_bound = size.prompt_bound.saturating_add(context);
        estimate.prompt_tokens = estimate.prompt_tokens.saturating_add(size.prompt_tokens);
        estimate.completion_tokens = estimate.completion_tokens.saturating_add(size.max_tokens);
        estimate.cost = estimate.cost.plus(size.worst()?)?;
        Ok(())
    }
}

impl Estimate {
    fn line(&self, name: &str) -> String {
        let (least, calls) = (if self.open { "at least " } else { "" }, self.calls);
        format!(
            "AI calls: {name}: {least}{calls} (one for each distinct input), about {} prompt tokens, at most {} completion \
             tokens, at most {} USD",
            self.prompt_tokens, self.completion_tokens, self.cost
        )
    }
}

/// The calls of models that a node makes: the function's name and its arguments.
fn calls_of(node: &Arc<dyn ExecutionPlan>) -> Result<Vec<ModelCall>> {
    let mut calls = Vec::new();
    node.apply_expressions(&mut |expression| {
        if let Some(call) = expression.downcast_ref::<AsyncFuncExpr>()
            && let Some(function) = call.func.downcast_ref::<ScalarFunctionExpr>()
            && let Some(name) = MODELS.iter().find(|name| **name == function.name())
        {
            calls.push((*name, function.args().to_vec()));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(from_datafusion)?;
    Ok(calls)
}

fn contains_calls(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.name() == CALLS || plan.children().into_iter().any(contains_calls)
}
