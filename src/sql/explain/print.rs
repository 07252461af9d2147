//! A plan as PostgreSQL prints it: text, one line a row, or JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{
    Options, Times,
    plan::{Actual, Node},
};
use crate::sql::pg::catalog::quote_ident;

/// The lines of the text form.
pub(super) fn text(node: &Node, options: Options, times: &Times, notes: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    node_lines(node, options, 0, &mut lines);
    if options.summary {
        lines.push(format!("Planning Time: {:.3} ms", times.planning));
        if let Some(execution) = times.execution {
            lines.push(format!("Execution Time: {execution:.3} ms"));
        }
    }
    lines.extend(notes.iter().cloned());
    lines
}

/// `Seq Scan on t`, `Index Scan using t_pkey on t`, `Function Scan on f`, `Insert on t`.
fn title(node: &Node) -> String {
    let mut title = node.title.clone().unwrap_or_else(|| node.kind.clone());
    // Writing to a string does not fail.
    if let Some(index) = &node.index {
        let _ = write!(title, " using {}", quote_ident(index));
    }
    if let Some(name) = node.relation.as_ref().or(node.function.as_ref()) {
        let _ = match name.contains('*') {
            true => write!(title, " on \"{name}\""),
            false => write!(title, " on {}", plain_or_quoted(name)),
        };
    }
    title
}

/// A function's name may have its schema before it.
fn plain_or_quoted(name: &str) -> String {
    name.split('.').map(quote_ident).collect::<Vec<_>>().join(".")
}

fn node_lines(node: &Node, options: Options, level: usize, lines: &mut Vec<String>) {
    let mut line = match level {
        0 => String::new(),
        level => format!("{}->  ", " ".repeat(6 * (level - 1) + 2)),
    };
    line.push_str(&title(node));
    if options.costs {
        let _ = write!(
            line,
            "  (cost={:.2}..{:.2} rows={:.0} width={})",
            node.startup, node.total, node.rows, node.width
        );
    }
    if options.analyze
        && let Some(actual) = node.actual
    {
        let gap = if options.costs { " " } else { "  " };
        let rows = rows_of(actual);
        let _ = match options.timing {
            true => write!(
                line,
                "{gap}(actual time={millis:.3}..{millis:.3} rows={rows} loops=1)",
                millis = actual.millis
            ),
            false => write!(line, "{gap}(actual rows={rows} loops=1)"),
        };
    }
    lines.push(line);
    let indent = " ".repeat(6 * level + 2);
    if let Some(output) = node.output.as_ref().filter(|output| !output.is_empty()) {
        lines.push(format!("{indent}Output: {}", output.join(", ")));
    }
    for (label, values) in &node.details {
        lines.push(format!("{indent}{label}: {}", values.join(", ")));
    }
    for child in &node.children {
        node_lines(child, options, level + 1, lines);
    }
}

fn rows_of(actual: Actual) -> u64 {
    actual.rows.unwrap_or(0)
}

/// The JSON form, as one text.
pub(super) fn json(node: &Node, options: Options, times: &Times, notes: &[String]) -> String {
    let mut whole = json!({ "Plan": node_json(node, options, None) });
    if options.summary {
        whole["Planning Time"] = rounded(times.planning);
        if options.analyze {
            whole["Triggers"] = json!([]);
        }
        if let Some(execution) = times.execution {
            whole["Execution Time"] = rounded(execution);
        }
    }
    if !notes.is_empty() {
        whole["AI calls"] = json!(notes);
    }
    // Printing a value made of texts and finite numbers does not fail.
    serde_json::to_string_pretty(&json!([whole])).unwrap_or_default()
}

fn rounded(number: f64) -> Value {
    json!((number * 1_000.0).round() / 1_000.0)
}

fn node_json(node: &Node, options: Options, relationship: Option<&str>) -> Value {
    let mut plan = json!({
        "Node Type": node.kind,
        "Parallel Aware": false,
        "Async Capable": false,
    });
    if let Some(relationship) = relationship {
        plan["Parent Relationship"] = json!(relationship);
    }
    if let (Some(verb), "ModifyTable") = (&node.title, node.kind.as_str()) {
        plan["Operation"] = json!(verb);
    }
    if let Some(relation) = &node.relation {
        plan["Relation Name"] = json!(relation);
        plan["Alias"] = json!(relation);
    }
    if let Some(function) = &node.function {
        plan["Function Name"] = json!(function);
        plan["Alias"] = json!(function.rsplit('.').next().unwrap_or(function));
    }
    if let Some(index) = &node.index {
        plan["Scan Direction"] = json!("Forward");
        plan["Index Name"] = json!(index);
    }
    if let Some(join_type) = node.join_type {
        plan["Join Type"] = json!(join_type);
    }
    match node.kind.as_str() {
        "HashAggregate" => {
            plan["Node Type"] = json!("Aggregate");
            plan["Strategy"] = json!("Hashed");
        }
        "Aggregate" => plan["Strategy"] = json!("Plain"),
        _ => {}
    }
    if options.costs {
        plan["Startup Cost"] = json!((node.startup * 100.0).round() / 100.0);
        plan["Total Cost"] = json!((node.total * 100.0).round() / 100.0);
        plan["Plan Rows"] = json!(node.rows.round() as u64);
        plan["Plan Width"] = json!(node.width);
    }
    if options.analyze
        && let Some(actual) = node.actual
    {
        if options.timing {
            plan["Actual Startup Time"] = rounded(actual.millis);
            plan["Actual Total Time"] = rounded(actual.millis);
        }
        plan["Actual Rows"] = json!(rows_of(actual));
        plan["Actual Loops"] = json!(1);
    }
    if let Some(output) = &node.output {
        plan["Output"] = json!(output);
    }
    for (label, values) in &node.details {
        // Keys are a list even where there is one.
        plan[*label] = match label.ends_with("Key") {
            true => json!(values),
            false => json!(values.join(" AND ")),
        };
    }
    let relationships = ["Outer", "Inner"];
    let child = |(at, child): (usize, &Node)| {
        let relationship = match node.kind.as_str() {
            "Append" => "Member",
            _ => relationships[at.min(1)],
        };
        node_json(child, options, Some(relationship))
    };
    if !node.children.is_empty() {
        plan["Plans"] = node.children.iter().enumerate().map(child).collect();
    }
    plan
}
