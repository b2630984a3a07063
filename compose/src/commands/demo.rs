//! `acuvim demo`: a server and a simulated fleet in one process, to try the system.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use acuvim_simulator::fleet::{self, FleetOptions, Report};
use anyhow::{bail, ensure};
use tokio_util::sync::CancellationToken;

use super::print_line;
use crate::{
    admin::PASSWORD_FILE,
    cli::{DemoArgs, ServeFlags},
    logging,
    serve::Server,
    settings::Settings,
};

/// Runs server and fleet until Ctrl-C or `--run-for`.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    ensure!((0.05..=3600.0).contains(&args.interval), "--interval is 0.05 to 3600 seconds");
    let mut settings = Settings::load(&ServeFlags {
        data_dir: Some(args.data_dir.clone()),
        set: vec!["lake.flush_interval_ms=5000".to_owned()],
        ..ServeFlags::default()
    })?;
    // The demo runs on this machine alone, even if the environment names other components.
    (settings.mqtt.url, settings.log.url, settings.control.url) = (None, None, None);
    settings.process = Settings::built_in()?.process;
    settings.http.listen = free(&settings.http.listen);
    settings.mqtt.listen = free(&settings.mqtt.listen);
    settings.mqtt.websocket_listen = free(&settings.mqtt.websocket_listen);
    settings.logging.level = "warn".to_owned();
    logging::start(&settings);
    let set_by_user = settings.admin.password.clone();
    let topic_prefix = settings.mqtt.topic_prefix.clone();
    let server = Server::start(settings).await?;
    let file = args.data_dir.join(PASSWORD_FILE);
    let password = match set_by_user {
        Some(password) => password,
        None => std::fs::read_to_string(&file)
            .unwrap_or_else(|_| format!("(the one you set; {} is gone)", file.display())),
    };
    let Some(mqtt) = server.addresses.mqtt else { bail!("the demo has no broker") };
    welcome(&server, mqtt, &password)?;
    let stop = CancellationToken::new();
    let (report, fleet_stop) = (Report::default(), stop.clone());
    let options = FleetOptions {
        host: mqtt.ip().to_string(),
        port: mqtt.port(),
        topic_prefix,
        devices: args.devices,
        interval: Duration::from_secs_f64(args.interval),
        seed: 1,
        duplicates: 0.02,
        bad: 0.01,
        sd_drains: true,
    };
    let fleet = tokio::spawn(fleet::run(options, report.clone(), fleet_stop));
    let stopper = stop.clone();
    tokio::spawn(async move {
        let end = args.run_for.unwrap_or(u64::from(u32::MAX));
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = tokio::time::sleep(Duration::from_secs(end)) => {}
            () = progress(&report) => {}
        }
        stopper.cancel();
    });
    let result = server.run_until(stop.clone()).await;
    stop.cancel();
    let _ = fleet.await;
    result
}

fn welcome(server: &Server, mqtt: SocketAddr, password: &str) -> anyhow::Result<()> {
    let http = server.addresses.http;
    print_line(format!(
        "
  Tau Acuvim demo: a simulated fleet sends readings over MQTT, now.

    API        http://{http}/swagger
    MQTT       {mqtt}
    user       admin
    password   {password}

  Count the readings, a few times:

    curl -s -u :$KEY http://{http}/api/sql -H 'Content-Type: application/json' \\
      -d '{{\"query\":\"SELECT device_id, count(*) AS n, max(ts) AS latest FROM telemetry GROUP BY device_id\"}}'

  with a key from:

    TOKEN=$(curl -s http://{http}/api/auth/login -H 'Content-Type: application/json' \\
      -d '{{\"username\":\"admin\",\"password\":\"{password}\"}}' | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')
    KEY=$(curl -s http://{http}/api/keys -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
      -d '{{\"name\":\"me\",\"role\":\"Viewer\"}}' | sed 's/.*\"secret\":\"\\([^\"]*\\)\".*/\\1/')

  Ctrl-C ends the demo.
"
    ))
}

async fn progress(report: &Report) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let t = report.totals();
        let line = format!(
            "{} live readings acknowledged, {} from SD cards, {} bad messages",
            t.readings, t.sd_readings, t.bad
        );
        if print_line(line).is_err() {
            return;
        }
    }
}

/// The address, with the next free port if its own is taken.
fn free(address: &str) -> String {
    let Some((host, port)) = address.rsplit_once(':') else { return address.to_owned() };
    let first: u16 = port.parse().unwrap_or(0);
    (first..first.saturating_add(100))
        .map(|port| format!("{host}:{port}"))
        .find(|address| TcpListener::bind(address).is_ok())
        .unwrap_or_else(|| format!("{host}:0"))
}
