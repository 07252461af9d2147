//! Which of DataFusion's own functions exist here: an allow-list, so that an upgrade adds none by
//! itself.

use std::sync::Arc;

use datafusion::{
    config::ConfigOptions,
    execution::SessionStateDefaults,
    logical_expr::{AggregateUDF, ScalarUDF},
};

use super::{bounded::bounded, judged::judged, retyped::retyped};

/// Functions in FROM.
pub(super) const TABLE_FUNCTIONS: &[&str] = &["generate_series", "range"];

const SCALAR: &[&str] = &[
    // mathematics
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "cos",
    "cosh",
    "cot",
    "degrees",
    "exp",
    "isnan",
    "iszero",
    "ln",
    "log",
    "log10",
    "log2",
    "nanvl",
    "pi",
    "power",
    "radians",
    "random",
    "round",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    // strings
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "contains",
    "ends_with",
    "find_in_set",
    "initcap",
    "left",
    "levenshtein",
    "lower",
    "ltrim",
    "md5",
    "octet_length",
    "overlay",
    "replace",
    "reverse",
    "right",
    "rtrim",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "starts_with",
    "strpos",
    "substr",
    "substr_index",
    "to_hex",
    "translate",
    "upper",
    "digest",
    "encode",
    "decode",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    // conditions
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "nvl",
    "nvl2",
    // times
    "current_date",
    "current_time",
    "date_bin",
    "from_unixtime",
    "now",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    // arrays
    "array_any_value",
    "array_append",
    "array_concat",
    "array_distance",
    "array_distinct",
    "array_element",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_max",
    "array_min",
    "array_ndims",
    "array_pop_back",
    "array_pop_front",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_reverse",
    "array_slice",
    "array_sort",
    "array_to_string",
    "array_union",
    "cardinality",
    "empty",
    "flatten",
    "make_array",
    "string_to_array",
    // rows and casts that DataFusion's own planner makes
    "get_field",
    "named_struct",
    "struct",
    "arrow_cast",
    "arrow_typeof",
];

const AGGREGATE: &[&str] = &[
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "first_value",
    "grouping",
    "last_value",
    "max",
    "median",
    "min",
    "nth_value",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "string_agg",
    "sum",
    "var",
    "var_pop",
];

/// DataFusion's scalar functions that exist here.
pub(super) fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let all = SessionStateDefaults::default_scalar_functions();
    let mut config = ConfigOptions::default();
    config.execution.time_zone = Some("UTC".to_owned());
    let configured = |f: Arc<ScalarUDF>| f.inner().with_updated_config(&config).map_or(f, Arc::new);
    all.into_iter()
        .map(configured)
        .filter_map(|f| {
            if SCALAR.contains(&f.name()) {
                Some(judged(retyped(f)))
            } else {
                bounded(f)
            }
        })
        .collect()
}

/// DataFusion's aggregate functions that exist here.
pub(super) fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let mut all = SessionStateDefaults::default_aggregate_functions();
    all.retain(|f| AGGREGATE.contains(&f.name()));
    let named = |f: Arc<AggregateUDF>| match f.name() {
        "var" => Arc::new(AggregateUDF::clone(&f).with_aliases(["variance"])),
        _ => f,
    };
    all.into_iter().map(named).map(super::pg::aggregates::typed).collect()
}
