//! The two deployments: everything in one process, or with Mosquitto and Kafka as services of their own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use crate::usage::{Usage, usage_of};

const SCRIPT: &str = "compose/services/services.sh";

/// Where broker and log run.
pub enum Deployment {
    /// Built-in broker and embedded log.
    Embedded,
    /// Mosquitto and one Kafka broker, in a folder of their own.
    Spread(PathBuf),
}

impl Deployment {
    /// Restarts the services without data, so that nothing of an earlier run is in their log.
    pub fn reset(&self) -> anyhow::Result<()> {
        let Self::Spread(dir) = self else { return Ok(()) };
        script(&["stop", &text(dir)])?;
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        let kafka = script(&["kafka", &text(dir), "1"])?;
        let mqtt = script(&["mosquitto", &text(dir)])?;
        std::fs::write(dir.join("at"), format!("{kafka}\n{mqtt}"))?;
        Ok(())
    }

    /// The first word of the printed lines.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Spread(_) => "spread  ",
        }
    }

    /// The settings that the binary needs for it.
    pub fn settings(&self, name: &str) -> Vec<String> {
        match self.addresses() {
            Some((kafka, mqtt)) => vec![
                format!("log.url=kafka://{kafka}"),
                format!("mqtt.url=mqtt://{mqtt}"),
                format!("mqtt.client_id=bench-{name}"),
            ],
            None => Vec::new(),
        }
    }

    /// The address that devices connect to.
    pub fn mqtt(&self, own_port: u16) -> anyhow::Result<SocketAddr> {
        match self.addresses() {
            Some((_, mqtt)) => mqtt.parse().context("Mosquitto's address"),
            None => Ok((Ipv4Addr::LOCALHOST, own_port).into()),
        }
    }

    /// The CPU time of Kafka and Mosquitto so far.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let Self::Spread(dir) = self else { return Ok(0.0) };
        let mut all = 0.0;
        for part in ["kafka-1", "mosquitto"] {
            let pid = std::fs::read_to_string(dir.join(format!("{part}.pid")))?;
            all += usage_of(pid.trim().parse()?)?.cpu_seconds;
        }
        Ok(all)
    }

    /// A remark on the CPU time of Kafka and Mosquitto since `before`, compared with ours.
    pub fn broker_share(&self, ours: &Usage, before: f64) -> anyhow::Result<String> {
        let brokers = self.cpu_seconds()? - before;
        let share = 100.0 * brokers / (brokers + ours.cpu_seconds);
        Ok(match self {
            Self::Embedded => String::new(),
            Self::Spread(_) => format!(", the brokers {brokers:.1} CPU s, {share:.0} % of both"),
        })
    }

    pub fn kill(&self, part: &str) -> anyhow::Result<()> {
        let Self::Spread(dir) = self else { return Ok(()) };
        let pid = std::fs::read_to_string(dir.join(format!("{part}.pid")))?;
        ensure!(Command::new("kill").args(["-9", pid.trim()]).status()?.success(), "kill {part}");
        Ok(())
    }

    pub fn restart(&self, part: &str) -> anyhow::Result<()> {
        let Self::Spread(dir) = self else { return Ok(()) };
        script(&["again", &text(dir), part]).map(|_| ())
    }

    fn addresses(&self) -> Option<(String, String)> {
        let Self::Spread(dir) = self else { return None };
        let at = std::fs::read_to_string(dir.join("at")).ok()?;
        let (kafka, mqtt) = at.split_once('\n')?;
        Some((kafka.to_owned(), mqtt.trim().to_owned()))
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if let Self::Spread(dir) = self {
            let _ = script(&["stop", &text(dir)]);
        }
    }
}

fn text(dir: &Path) -> String {
    dir.to_string_lossy().into_owned()
}

fn script(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(SCRIPT)
        .args(args)
        .env("ACUVIM_SERVICES_OWNER", std::process::id().to_string())
        .stdin(Stdio::null())
        .output()
        .context(SCRIPT)?;
    ensure!(output.status.success(), "{SCRIPT}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
