//! `./dev bench`: performance figures of a release build of the real binary, once as a single process
//! and once with Mosquitto and Kafka.
//!
//! Nothing is asserted: each figure is printed with the CPU time and the memory that it took.

#![allow(clippy::print_stdout)]

mod args;
mod control;
mod firmware;
mod live;
mod loads;
mod peers;
mod rules;
mod server;
mod services;
mod usage;
mod websocket;

use clap::Parser as _;

use args::Args;
use services::Deployment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    println!("release build, {} cores", std::thread::available_parallelism()?);
    let dir = std::path::absolute(args.dir.join("services"))?;
    for (name, deployment) in
        [("embedded", Deployment::Embedded), ("spread", Deployment::Spread(dir))]
    {
        if args.places.iter().any(|wanted| wanted == name) {
            measure(&args, &deployment).await?;
        }
    }
    Ok(())
}

async fn measure(args: &Args, deployment: &Deployment) -> anyhow::Result<()> {
    let wanted = |name: &str| args.only.iter().any(|n| n == name);
    if wanted("ingest") {
        loads::ingest(args, deployment).await?;
    }
    if wanted("stream") {
        loads::stream(args, deployment).await?;
    }
    if wanted("fresh") {
        loads::fresh(args, deployment).await?;
    }
    if wanted("memory") {
        loads::memory(args, deployment).await?;
    }
    if wanted("outage") && matches!(deployment, Deployment::Spread(_)) {
        loads::outage(args, deployment).await?;
    }
    if wanted("commands") {
        control::commands(args, deployment).await?;
    }
    if wanted("alerts") {
        rules::alerts(args, deployment).await?;
    }
    // The rest does not depend on the deployment.
    if matches!(deployment, Deployment::Spread(_)) {
        return Ok(());
    }
    if wanted("list") {
        control::list(args, deployment).await?;
    }
    if wanted("heartbeats") {
        control::heartbeats(args, deployment).await?;
    }
    if wanted("logins") {
        control::logins(args, deployment).await?;
    }
    if wanted("rules") {
        rules::rules(args, deployment).await?;
    }
    if wanted("states") {
        rules::states(args, deployment).await?;
    }
    if wanted("firmware") {
        firmware::firmware(args, deployment).await?;
    }
    if wanted("live") {
        live::live(args, deployment).await?;
    }
    if wanted("peers") {
        peers::peers(args, deployment).await?;
    }
    if wanted("backtest") {
        rules::backtest(args, deployment).await?;
    }
    Ok(())
}
