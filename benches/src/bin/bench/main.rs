//! `./dev bench`: the figures of the main path, on a release build of the real binary: once with all
//! in one process, once behind Mosquitto and on Kafka.
//!
//! Nothing here asserts: a figure is printed with the CPU seconds and the memory it took.

#![allow(clippy::print_stdout)]

mod firmware;
mod fleet;
mod judgement;
mod live;
mod loads;
mod peers;
mod place;
mod server;
mod websocket;

use std::path::PathBuf;

use clap::Parser;

use place::Place;

const PASSWORD: &str = "a password for benchmarks";

/// Prints the figures of the main path.
#[derive(Debug, Parser)]
struct Args {
    /// The binary.
    #[arg(long, default_value = "target/release/acuvim")]
    binary: PathBuf,
    /// Seconds of each load.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Where the runs keep their data: the disk that is measured.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Only these: ingest, stream, fresh, memory, outage, list, heartbeats, commands, logins, rules,
    /// states, alerts, backtest, firmware, live; peers, which compares with other engines, only if it is named.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "ingest,stream,fresh,memory,outage,list,heartbeats,commands,logins,rules,\
                         states,alerts,backtest,firmware,live"
    )]
    only: Vec<String>,
    /// Only these: embedded, spread.
    #[arg(long, value_delimiter = ',', default_value = "embedded,spread")]
    places: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    println!("release build, {} cores", std::thread::available_parallelism()?);
    let dir = std::path::absolute(args.dir.join("services"))?;
    for (name, place) in [("embedded", Place::Embedded), ("spread", Place::Spread(dir))] {
        if args.places.iter().any(|wanted| wanted == name) {
            measure(&args, &place).await?;
        }
    }
    Ok(())
}

async fn measure(args: &Args, place: &Place) -> anyhow::Result<()> {
    let wanted = |name: &str| args.only.iter().any(|n| n == name);
    if wanted("ingest") {
        loads::ingest(args, place).await?;
    }
    if wanted("stream") {
        loads::stream(args, place).await?;
    }
    if wanted("fresh") {
        loads::fresh(args, place).await?;
    }
    if wanted("memory") {
        loads::memory(args, place).await?;
    }
    if wanted("outage") && matches!(place, Place::Spread(_)) {
        loads::outage(args, place).await?;
    }
    if wanted("commands") {
        fleet::commands(args, place).await?;
    }
    if wanted("alerts") {
        judgement::alerts(args, place).await?;
    }
    // The database is the same in either place.
    if matches!(place, Place::Spread(_)) {
        return Ok(());
    }
    if wanted("list") {
        fleet::list(args, place).await?;
    }
    if wanted("heartbeats") {
        fleet::heartbeats(args, place).await?;
    }
    if wanted("logins") {
        fleet::logins(args, place).await?;
    }
    if wanted("rules") {
        judgement::rules(args, place).await?;
    }
    if wanted("states") {
        judgement::states(args, place).await?;
    }
    if wanted("firmware") {
        firmware::firmware(args, place).await?;
    }
    if wanted("live") {
        live::live(args, place).await?;
    }
    if wanted("peers") {
        peers::peers(args, place).await?;
    }
    if wanted("backtest") {
        judgement::backtest(args, place).await?;
    }
    Ok(())
}
