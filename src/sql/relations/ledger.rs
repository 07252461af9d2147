//! `bulkhead.usage` and `bulkhead.costs`: a tenant's own, and the operator's amounts over all.

use std::collections::HashMap;

use super::{Out, Scan, rows::Cell, t};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Error, Result},
    ledger::{
        books::{self, Amounts},
        money::{Day, Nano},
    },
    sql::world::World,
    tenant::AMOUNTS_BY_DAY,
};

pub(super) const USAGE_COLUMNS: &[(&str, PgType)] = &[
    ("id", t(Scalar::Uuid)),
    ("at", t(Scalar::Timestamptz)),
    ("user_id", t(Scalar::Text)),
    ("operation", t(Scalar::Text)),
    ("model", t(Scalar::Text)),
    ("prompt_tokens", t(Scalar::Int8)),
    ("cached_tokens", t(Scalar::Int8)),
    ("completion_tokens", t(Scalar::Int8)),
    ("cost_usd", t(Scalar::Numeric)),
    ("status", t(Scalar::Text)),
    ("estimated", t(Scalar::Bool)),
    ("latency_ms", t(Scalar::Int4)),
    ("conversation_id", t(Scalar::Uuid)),
    ("price_id", t(Scalar::Text)),
];

pub(super) const COSTS_COLUMNS: &[(&str, PgType)] = TENANT_COSTS_COLUMNS.split_at(1).1;

/// The operator's: the tenant in front.
pub(super) const TENANT_COSTS_COLUMNS: &[(&str, PgType)] = &[
    ("tenant", t(Scalar::Text)),
    ("date", t(Scalar::Date)),
    ("llm_tokens", t(Scalar::Int8)),
    ("llm_cost_usd", t(Scalar::Numeric)),
    ("db_query_count", t(Scalar::Int8)),
    ("db_cost_usd", t(Scalar::Numeric)),
    ("vector_search_count", t(Scalar::Int8)),
    ("vector_search_cost_usd", t(Scalar::Numeric)),
    ("total_cost_usd", t(Scalar::Numeric)),
];

pub(super) const TENANT_USAGE_COLUMNS: &[(&str, PgType)] = &[
    ("tenant", t(Scalar::Text)),
    ("date", t(Scalar::Date)),
    ("kind", t(Scalar::Text)),
    ("quantity", t(Scalar::Int8)),
    ("cost_usd", t(Scalar::Numeric)),
];

pub(super) const CACHE_COLUMNS: &[(&str, PgType)] = &[
    ("entries", t(Scalar::Int8)),
    ("bytes", t(Scalar::Int8)),
    ("hits", t(Scalar::Int8)),
    ("misses", t(Scalar::Int8)),
    ("saved_usd", t(Scalar::Numeric)),
];

/// Runs on a thread for blocking work.
pub(super) fn read_cache(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let statistics = world.tenant()?.state.cache.statistics();
    let seen = tokio::runtime::Handle::current().block_on(statistics)?;
    out.push(|column| match column {
        0 => Cell::Int(i64::try_from(seen.entries).unwrap_or(i64::MAX)),
        1 => Cell::Int(i64::try_from(seen.bytes).unwrap_or(i64::MAX)),
        2 => Cell::Int(seen.hits),
        3 => Cell::Int(seen.misses),
        4 => Cell::Nano(seen.saved.0),
        _ => Cell::Null,
    })?;
    Ok(())
}

pub(super) const TENANT_STATS_COLUMNS: &[(&str, PgType)] = &[
    ("tenant", t(Scalar::Text)),
    ("tier", t(Scalar::Text)),
    ("state", t(Scalar::Text)),
    ("created_at", t(Scalar::Timestamptz)),
    ("active_days", t(Scalar::Int8)),
    ("last_active", t(Scalar::Date)),
    ("llm_tokens", t(Scalar::Int8)),
    ("llm_cost_usd", t(Scalar::Numeric)),
    ("db_query_count", t(Scalar::Int8)),
    ("vector_search_count", t(Scalar::Int8)),
    ("total_cost_usd", t(Scalar::Numeric)),
];

pub(super) fn read_usage(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for line in books::usage(&world.tenant()?.state.meter) {
        let line = line?;
        let id = line.id.to_string();
        let conversation = line.conversation_id.map(|c| c.to_string());
        let more = out.push(|column| match column {
            0 => Cell::Text(&id),
            1 => Cell::Time(line.at_micros),
            2 => Cell::Text(&line.user_id),
            3 => Cell::Text(line.operation.as_str()),
            4 => Cell::Text(&line.model),
            5 => Cell::Int(line.prompt_tokens),
            6 => Cell::Int(line.cached_tokens),
            7 => Cell::Int(line.completion_tokens),
            8 => Cell::Nano(line.cost.0),
            9 => Cell::Text(line.status.as_str()),
            10 => Cell::Bool(line.estimated),
            11 => Cell::Int(line.latency_ms.into()),
            12 => conversation.as_deref().map_or(Cell::Null, Cell::Text),
            13 => line.price_id.as_deref().map_or(Cell::Null, Cell::Text),
            _ => Cell::Null,
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

/// A day's amounts by the place of a column of [`COSTS_COLUMNS`].
fn cost_cell<'a>(day: Day, amounts: &Amounts, total: Nano, column: usize) -> Cell<'a> {
    match column {
        0 => Cell::Date(day.0),
        1 => Cell::Int(amounts.llm_tokens),
        2 => Cell::Nano(amounts.llm.0),
        3 => Cell::Int(amounts.db_queries),
        4 => Cell::Nano(amounts.database.0),
        5 => Cell::Int(amounts.vector_searches),
        6 => Cell::Nano(amounts.vector_search.0),
        7 => Cell::Nano(total.0),
        _ => Cell::Null,
    }
}

pub(super) fn read_costs(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for (day, amounts) in books::costs(&world.tenant()?.state.meter, Day(0), Day(i32::MAX))? {
        let total = amounts.total()?;
        if !out.push(|column| cost_cell(day, &amounts, total, column))? {
            break;
        }
    }
    Ok(())
}

/// Every tenant's amounts by day, in the order of names and days.
fn all_costs(world: &World) -> Result<Vec<(String, Day, Amounts)>> {
    let operator = &world.operator()?.operator;
    let tenants: HashMap<u64, String> = operator.tenants().into_iter().map(|t| (t.id, t.name)).collect();
    let mut all = Vec::new();
    for (id, day, sums) in operator.amounts(AMOUNTS_BY_DAY)? {
        let day = i32::try_from(day).map_err(Error::internal)?;
        let tenant = tenants.get(&id).cloned().unwrap_or_default();
        all.push((tenant, Day(day), Amounts::from_sums(&sums)?));
    }
    all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    Ok(all)
}

pub(super) fn read_all_costs(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for (tenant, day, amounts) in all_costs(world)? {
        let total = amounts.total()?;
        let more = out.push(|column| match column {
            0 => Cell::Text(&tenant),
            other => cost_cell(day, &amounts, total, other - 1),
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

pub(super) fn read_all_usage(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for (tenant, day, amounts) in all_costs(world)? {
        let kinds = [
            ("llm_tokens", amounts.llm_tokens, amounts.llm),
            ("statements", amounts.db_queries, amounts.database),
            ("vector_searches", amounts.vector_searches, amounts.vector_search),
        ];
        for (kind, quantity, cost) in kinds {
            let more = out.push(|column| match column {
                0 => Cell::Text(&tenant),
                1 => Cell::Date(day.0),
                2 => Cell::Text(kind),
                3 => Cell::Int(quantity),
                4 => Cell::Nano(cost.0),
                _ => Cell::Null,
            })?;
            if !more {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// One line for each tenant there ever was. Of several of one name each has its own.
pub(super) fn read_tenant_stats(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let operator = &world.operator()?.operator;
    let mut sums: HashMap<u64, (i64, i64, Amounts)> = HashMap::new();
    for (id, day, day_sums) in operator.amounts(AMOUNTS_BY_DAY)? {
        let (days, last, sum) = sums.entry(id).or_insert((0, day, Amounts::default()));
        (*days, *last) = (*days + 1, (*last).max(day));
        *sum = sum.plus(Amounts::from_sums(&day_sums)?)?;
    }
    for tenant in operator.tenants() {
        let stats = sums.get(&tenant.id);
        let amounts = stats.map(|(_, _, sum)| *sum).unwrap_or_default();
        let last = stats.and_then(|(_, last, _)| i32::try_from(*last).ok());
        let total = amounts.total()?;
        let more = out.push(|column| match column {
            0 => Cell::Text(&tenant.name),
            1 => Cell::Text(&tenant.tier),
            2 => Cell::Text(tenant.state),
            3 => Cell::Time(tenant.created_at_micros),
            4 => Cell::Int(stats.map_or(0, |(days, _, _)| *days)),
            5 => last.map_or(Cell::Null, Cell::Date),
            6 => Cell::Int(amounts.llm_tokens),
            7 => Cell::Nano(amounts.llm.0),
            8 => Cell::Int(amounts.db_queries),
            9 => Cell::Int(amounts.vector_searches),
            _ => Cell::Nano(total.0),
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}
