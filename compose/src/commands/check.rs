//! `acuvim check`: tries to reach every component that the settings name.

use std::time::Duration;

use anyhow::bail;
use tokio::net::TcpStream;

use super::print_line;
use crate::{error_line::error_line, serve, settings::Settings};

/// Time limit of a connection to the MQTT broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens each component and prints the result. The exit code is 1 if one can't be used.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    print_line("ok   settings")?;
    let dir = &settings.data.dir;
    if !dir.exists() && settings.control.url.is_none() {
        print_line(format!("ok   {} is made at the first start (data.dir)", dir.display()))?;
        return Ok(());
    }
    let mut failed = 0;
    if let Some(broker) = settings.mqtt.remote_broker()? {
        report("mqtt", &reach(&broker.host, broker.port).await, &mut failed)?;
    }
    let control = serve::control(settings).await;
    report("control", &control, &mut failed)?;
    let facts = match &control {
        Ok(control) => {
            let facts = control.log_facts(settings.log.partitions).await;
            report("partitions", &facts, &mut failed)?;
            facts.ok()
        }
        Err(_) => None,
    };
    if let Some(facts) = facts {
        report("log", &serve::AnyLog::open(settings, facts).await, &mut failed)?;
        let lake = serve::lake(settings, facts, serve::engine(settings)?).await;
        report("lake", &lake, &mut failed)?;
    }
    let images = async {
        let store = acuvim_firmware_registry::ImageStore::open(&settings.firmware_url()?)?;
        store.list().await?;
        anyhow::Ok(())
    };
    report("firmware", &images.await.map_err(|error| error_line(&error)), &mut failed)?;
    if failed > 0 {
        bail!("{failed} of the components can't be used");
    }
    Ok(())
}

async fn reach(host: &str, port: u16) -> anyhow::Result<()> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => bail!("{host}:{port} (mqtt.url): {error}"),
        Err(_) => bail!("{host}:{port} (mqtt.url) does not answer"),
    }
}

fn report<T, E: std::fmt::Display>(
    component: &str,
    opened: &Result<T, E>,
    failed: &mut u32,
) -> anyhow::Result<()> {
    match opened {
        Ok(_) => print_line(format!("ok   {component}")),
        Err(error) => {
            *failed += 1;
            print_line(format!("FAIL {component}: {error}"))
        }
    }
}
