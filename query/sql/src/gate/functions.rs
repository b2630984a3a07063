//! The functions that queries may call.

/// The functions that a query may call. The result of each is about as large as its arguments at most.
#[rustfmt::skip]
pub(super) const FUNCTIONS: &[&str] = &[
    // aggregates
    "approx_distinct", "approx_median", "approx_percentile_cont", "avg", "bit_and", "bit_or",
    "bool_and", "bool_or", "corr", "count", "covar_pop", "covar_samp", "first_value", "last_value",
    "max", "mean", "median", "min", "nth_value", "percentile_cont", "regr_intercept", "regr_r2", "regr_slope",
    "counter_delta", "stddev", "stddev_pop", "stddev_samp", "sum", "var", "var_pop", "var_samp",
    // windows
    "cume_dist", "dense_rank", "lag", "lead", "ntile", "percent_rank", "rank", "row_number",
    // numbers
    "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "cos", "degrees", "exp", "floor",
    "greatest", "isnan", "iszero", "least", "ln", "log", "log10", "log2", "mod", "nanvl", "pi",
    "pow", "power", "radians", "round", "signum", "sin", "sqrt", "tan", "trunc",
    // times
    "current_date", "current_timestamp", "date_bin", "date_format", "date_part", "date_trunc",
    "extract", "from_unixtime", "make_date", "now", "time_bucket", "to_char", "to_date", "to_local_time",
    "to_timestamp", "to_timestamp_micros", "to_timestamp_millis", "to_timestamp_seconds",
    "to_unixtime",
    // texts
    "ascii", "bit_length", "btrim", "char_length", "character_length", "contains", "decode", "encode", "ends_with", "left", "length", "lower", "ltrim",
    "octet_length", "position", "regexp_like", "right", "rtrim", "sha256", "split_part",
    "starts_with", "strpos", "substr", "substring", "trim", "upper",
    // choices and types
    "arrow_typeof", "coalesce", "ifnull", "nullif", "nvl", "nvl2",
];

/// Functions whose arguments after the first are patterns, formats or flags.
pub(super) const WITH_PATTERN: &[&str] = &[
    "date_format",
    "regexp_like",
    "to_char",
    "to_date",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_seconds",
    "to_unixtime",
];
