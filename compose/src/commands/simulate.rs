//! `acuvim simulate`: a simulated fleet that connects to any broker.

use std::time::{Duration, Instant};

use acuvim_simulator::fleet::{self, FleetOptions, Report};
use anyhow::{Context as _, ensure};
use tokio_util::sync::CancellationToken;

use super::print_line;
use crate::cli::SimulateArgs;

/// Runs the fleet until Ctrl-C or `--run-for`; prints every few seconds how many messages were
/// acknowledged.
pub async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let (host, port) = args.broker.rsplit_once(':').context("--broker is HOST:PORT")?;
    let port = port.parse().with_context(|| format!("--broker {}: the port", args.broker))?;
    ensure!((0.01..=86_400.0).contains(&args.interval), "--interval is 0.01 to 86400 seconds");
    ensure!((0.0..=1.0).contains(&args.duplicates), "--duplicates is a share, 0 to 1");
    ensure!((0.0..=1.0).contains(&args.bad), "--bad is a share, 0 to 1");
    let options = FleetOptions {
        host: host.to_owned(),
        port,
        topic_prefix: args.topic_prefix,
        devices: args.devices,
        interval: Duration::from_secs_f64(args.interval),
        seed: args.seed,
        duplicates: args.duplicates,
        bad: args.bad,
        sd_drains: !args.no_sd,
    };
    let (report, stop) = (Report::default(), CancellationToken::new());
    print_line(format!("{} devices against {}; Ctrl-C ends", args.devices, args.broker))?;
    let fleet = tokio::spawn(fleet::run(options, report.clone(), stop.clone()));
    let begun = Instant::now();
    let end = args.run_for.map(Duration::from_secs);
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    ticks.tick().await;
    loop {
        let left = end.map_or(Duration::MAX, |e| e.saturating_sub(begun.elapsed()));
        tokio::select! {
            _ = ticks.tick() => print_line(line(&report, begun))?,
            _ = tokio::signal::ctrl_c() => break,
            () = tokio::time::sleep(left.min(Duration::from_secs(86_400 * 365))) => break,
        }
    }
    stop.cancel();
    let _ = fleet.await;
    print_line(format!("acknowledged in all: {}", line(&report, begun)))
}

fn line(report: &Report, begun: Instant) -> String {
    let t = report.totals();
    let rate = t.readings as f64 / begun.elapsed().as_secs_f64();
    format!(
        "{:>6.0}s  {} live readings ({rate:.0}/s), {} from SD cards, {} repeated, {} heartbeats, \
         {} bad; {} connections broke",
        begun.elapsed().as_secs_f64(),
        t.readings,
        t.sd_readings,
        t.repeated,
        t.heartbeats,
        t.bad,
        t.broken
    )
}
