//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// The password of the user admin.
pub const PASSWORD: &str = "a password for benchmarks";

/// Prints the figures of the main path.
#[derive(Debug, Parser)]
pub struct Args {
    /// The binary.
    #[arg(long, default_value = "target/release/acuvim")]
    pub binary: PathBuf,
    /// Seconds of each load.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// The folder for the data of the runs, on the disk to measure.
    #[arg(long, default_value = "target/bench")]
    pub dir: PathBuf,
    /// Only these benchmarks: ingest, stream, fresh, memory, outage, list, heartbeats, commands,
    /// logins, rules, states, alerts, backtest, firmware, live. The comparison with other engines,
    /// peers, runs only if it is named.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "ingest,stream,fresh,memory,outage,list,heartbeats,commands,logins,rules,\
                         states,alerts,backtest,firmware,live"
    )]
    pub only: Vec<String>,
    /// Only these deployments: embedded, spread.
    #[arg(long, value_delimiter = ',', default_value = "embedded,spread")]
    pub places: Vec<String>,
}
