//! Log lines of the process.

use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, Settings};

/// Levels of libraries that report ordinary events as errors: mqtt5 warns of every client that
/// disconnects without DISCONNECT, which devices do all day; delta-rs warns of tables that do not
/// exist yet and of columns without statistics. Their real failures are returned to us and logged
/// where they are handled.
const LIBRARY_LEVELS: &str = "mqtt5=off,buoyant_kernel=off,deltalake_core=off,\
     object_store=warn,fjall=error,lsm_tree=error,sqlx=error";

/// Begins to write log lines to stderr; stdout is for the output of commands.
pub fn start(settings: &Settings) {
    let default = format!("{},{LIBRARY_LEVELS}", settings.logging.level);
    let filter = EnvFilter::try_new(&default).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only if a subscriber is already set, which then serves as well.
    let _ = match settings.logging.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}
