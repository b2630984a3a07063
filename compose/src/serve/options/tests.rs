use std::fmt::Debug;

use acuvim_ingest::BrokerOptions;
use acuvim_log::{EmbeddedOptions, Retention as LogRetention};

use super::*;
use crate::serve::{components, ingest};

/// Compares all fields: what is left to a crate's default on both sides is the same anyway.
fn same(whose: &str, set: &impl Debug, default: &impl Debug) {
    assert_eq!(format!("{set:#?}"), format!("{default:#?}"), "the defaults of {whose}");
}

/// The crates have defaults for their own tests and benchmarks. `default.toml` is what users read and get, so
/// the two must not differ.
#[test]
fn each_crate_has_the_defaults_of_the_settings() {
    let settings = Settings::built_in().expect("the defaults");
    let processor = ProcessorOptions::default();
    let set = processor_options(&settings, processor.shared).expect("options");
    same("the processor", &set, &processor);
    same("SQL", &sql_limits(&settings), &SqlLimits::default());
    same("commands", &command_options(&settings), &CommandOptions::default());
    same("HTTP", &http_limits(&settings).expect("limits"), &HttpLimits::default());
    let live = settings.live.limits(&settings.http.cors_origins);
    same("live events", &live, &acuvim_query::LiveLimits::default());
    same("the broker", &ingest::broker_options(&settings), &BrokerOptions::default());
    let embedded = components::embedded_options(&settings, "log".as_ref());
    same("the embedded log", &embedded, &EmbeddedOptions::at("log"));
    same("its retention", &components::log_retention(&settings), &LogRetention::default());
}
