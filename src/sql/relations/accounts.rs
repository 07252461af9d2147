//! Budgets, alerts and rate limits: a tenant's own, and the operator's numbers over all.

use std::{collections::HashMap, sync::Arc};

use tokio::runtime::Handle;

use super::{Out, Scan, rows::Cell, t};
use crate::{
    codec::pgtype::{PgType, Scalar},
    error::{Code, Error, Result},
    ledger::{
        Account,
        account::BudgetRow,
        alert::{self, Source, THRESHOLDS},
        budget::{self, Budget, Window},
        money::Nano,
        plan::TenantPlan,
        tier::Tier,
        usage::now_micros,
    },
    sql::world::{TenantWorld, World},
    tenant::{Operator, Role, Table},
};

/// The operator's: the tenant in front, and no user of it behind.
pub(super) const TENANT_BUDGET_COLUMNS: &[(&str, PgType)] = BUDGETS.split_at(BUDGETS.len() - 1).0;
/// A tenant's own.
pub(super) const BUDGET_COLUMNS: &[(&str, PgType)] = BUDGETS.split_at(1).1;

const BUDGETS: &[(&str, PgType)] = &[
    ("tenant", t(Scalar::Text)),
    ("window", t(Scalar::Text)),
    ("amount_usd", t(Scalar::Numeric)),
    ("spent_usd", t(Scalar::Numeric)),
    ("reserved_usd", t(Scalar::Numeric)),
    ("remaining_usd", t(Scalar::Numeric)),
    ("resets_at", t(Scalar::Timestamptz)),
    ("hard", t(Scalar::Bool)),
    ("set_by", t(Scalar::Text)),
    ("user_id", t(Scalar::Text)),
];

pub(super) const ALERT_COLUMNS: &[(&str, PgType)] = &[
    ("id", t(Scalar::Uuid)),
    ("at", t(Scalar::Timestamptz)),
    ("kind", t(Scalar::Text)),
    ("message", t(Scalar::Text)),
    ("data", t(Scalar::Jsonb)),
];

pub(super) const TENANT_ALERT_COLUMNS: &[(&str, PgType)] = &[
    ("tenant", t(Scalar::Text)),
    ("date", t(Scalar::Date)),
    ("threshold", t(Scalar::Int4)),
    ("alerts", t(Scalar::Int8)),
];

pub(super) const LIMIT_COLUMNS: &[(&str, PgType)] = &[
    ("dimension", t(Scalar::Text)),
    ("capacity", t(Scalar::Int8)),
    ("remaining", t(Scalar::Int8)),
    ("refills_at", t(Scalar::Timestamptz)),
    ("user_id", t(Scalar::Text)),
];

/// The account of a tenant, for a reader on a thread that may wait.
fn account(world: &TenantWorld) -> Result<Arc<Account>> {
    Handle::current().block_on(world.account()).cloned()
}

fn text(value: Option<&str>) -> Cell<'_> {
    value.map_or(Cell::Null, Cell::Text)
}

fn budget_cell(row: &BudgetRow, column: usize) -> Cell<'_> {
    match column {
        0 => Cell::Text(row.window.as_str()),
        1 => Cell::Nano(row.amount.0),
        2 => Cell::Nano(row.spent.0),
        3 => Cell::Nano(row.reserved.0),
        4 => Cell::Nano(row.remaining.0),
        5 => Cell::Time(row.resets_at_micros),
        6 => Cell::Bool(row.hard),
        7 => Cell::Text(row.source.as_str()),
        _ => text(row.user.as_deref()),
    }
}

/// The tenant's, then those of single users: of all of them for who keeps the accounts, else one's own.
pub(super) fn read_budgets(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let world = world.tenant()?;
    let account = account(world)?;
    let users = match world.user.role {
        Role::Owner | Role::Analyst => account.budget_users(),
        Role::Member | Role::Service => vec![world.acting_user()],
    };
    let mut rows = account.budgets(None)?;
    for user in users {
        rows.extend(
            account
                .budgets(Some(&user))?
                .into_iter()
                .filter(|row| row.user.is_some()),
        );
    }
    for row in rows {
        if !out.push(|column| budget_cell(&row, column))? {
            break;
        }
    }
    Ok(())
}

pub(super) fn read_alerts(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for alert in alert::alerts(&world.tenant()?.tenant)? {
        let id = alert.id.to_string();
        let more = out.push(|column| match column {
            0 => Cell::Text(&id),
            1 => Cell::Time(alert.at_micros),
            2 => Cell::Text(&alert.kind),
            3 => Cell::Text(&alert.message),
            _ => Cell::Text(&alert.data),
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

pub(super) fn read_limits(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let world = world.tenant()?;
    for row in account(world)?.rate_limits(Some(&world.acting_user()))? {
        let more = out.push(|column| match column {
            0 => Cell::Text(row.dimension),
            1 => Cell::Int(row.capacity),
            2 => Cell::Int(row.remaining),
            3 => row.refills_at_micros.map_or(Cell::Null, Cell::Time),
            _ => text(row.user.as_deref()),
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

/// The budgets that tiers and the operator set, against what the tenants have published of their windows.
fn tenants_budgets(operator: &Operator) -> Result<Vec<(String, BudgetRow)>> {
    let mut used: HashMap<(u64, Window, i64), Vec<i64>> = HashMap::new();
    for window in Window::ALL {
        let sums = operator.amounts(window.series())?.into_iter();
        used.extend(sums.map(|(id, start, sums)| ((id, window, start), sums.0)));
    }
    let mut rows = Vec::new();
    for tenant in operator
        .tenants()
        .into_iter()
        .filter(|tenant| tenant.state != "dropped")
    {
        let plan = match operator.settings(&tenant.name) {
            Ok(settings) => TenantPlan::decode(&settings.plan)?,
            // Dropped meanwhile.
            Err(error) if error.code() == Code::UndefinedObject => continue,
            Err(error) => return Err(error),
        };
        let tier = operator.get(Table::Tiers, &Tier::key_of(&tenant.tier))?;
        let tier = tier.map(|row| Tier::decode(&row.value)).transpose()?;
        let of_tier = tier.map(|tier| Budget {
            window: Window::Month,
            amount: tier.monthly_budget,
            hard: true,
        });
        let of_tier = of_tier.into_iter().map(|budget| (Source::Tier, budget));
        let of_plan = plan.budgets.iter().map(|budget| (Source::Operator, *budget));
        let zone = budget::zone(&plan.timezone)?;
        for (source, Budget { window, amount, hard }) in of_tier.chain(of_plan) {
            let span = window.span(zone, now_micros());
            let sums = used.get(&(tenant.id, window, span.start_micros));
            let [spent, reserved] = match sums.map(Vec::as_slice) {
                Some([spent, reserved]) => [Nano(*spent), Nano(*reserved)],
                Some(_) => return Err(Error::new(Code::Corrupted, "stored amounts cannot be read")),
                None => [Nano::ZERO; 2],
            };
            rows.push((
                tenant.name.clone(),
                BudgetRow {
                    source,
                    user: None,
                    window,
                    amount,
                    spent,
                    reserved,
                    remaining: Nano(amount.0.saturating_sub(spent.plus(reserved)?.0).max(0)),
                    resets_at_micros: span.end_micros,
                    hard,
                },
            ));
        }
    }
    Ok(rows)
}

pub(super) fn read_all_budgets(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    for (tenant, row) in tenants_budgets(&world.operator()?.operator)? {
        let more = out.push(|column| match column {
            0 => Cell::Text(&tenant),
            other => budget_cell(&row, other - 1),
        })?;
        if !more {
            break;
        }
    }
    Ok(())
}

/// How many alerts each tenant had, by day and threshold. What they say is the tenant's.
pub(super) fn read_all_alerts(world: &World, _scan: &Scan, out: &mut Out<'_>) -> Result<()> {
    let operator = &world.operator()?.operator;
    let tenants: HashMap<u64, String> = operator.tenants().into_iter().map(|t| (t.id, t.name)).collect();
    for (id, day, counts) in operator.amounts(alert::SERIES)? {
        let day = i32::try_from(day).map_err(Error::internal)?;
        for (threshold, count) in THRESHOLDS.into_iter().zip(counts.0).filter(|(_, count)| *count > 0) {
            let more = out.push(|column| match column {
                0 => text(tenants.get(&id).map(String::as_str)),
                1 => Cell::Date(day),
                2 => Cell::Int(threshold),
                _ => Cell::Int(count),
            })?;
            if !more {
                return Ok(());
            }
        }
    }
    Ok(())
}
