//! `acuvim check`: reaches everything that the settings name, and says how it went.

use std::sync::Arc;

use acuvim_control::Control;
use acuvim_lakehouse::{Engine, EngineLimits, Lake};
use anyhow::{Context as _, bail};

use super::say;
use crate::{serve, settings::Settings};

/// Opens each component; the first that can't be opened is named, and the exit code says so.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    say("ok   settings")?;
    let dir = &settings.data.dir;
    if !dir.exists() {
        say(format!("ok   {} is made at the first start (data.dir)", dir.display()))?;
        return Ok(());
    }
    let mut failed = 0;
    let control = Control::open_sqlite(&dir.join("control.db")).await;
    report("control", &control, &mut failed)?;
    let facts = match control {
        Ok(control) => {
            let facts = control.log_facts(settings.log.partitions).await;
            report("partitions", &facts, &mut failed)?;
            facts.ok()
        }
        Err(_) => None,
    };
    report("log", &serve::open_log(settings).await, &mut failed)?;
    if let Some(facts) = facts {
        let lake = async {
            let engine = Engine::new(&EngineLimits::default())?;
            let lake = Lake::open(serve::lake_options(settings, facts)?, engine).await;
            lake.map(Arc::new).context("lake.url")
        };
        report("lake", &lake.await, &mut failed)?;
    }
    if failed > 0 {
        bail!("{failed} of the components can't be used");
    }
    Ok(())
}

fn report<T, E: std::fmt::Display>(
    component: &str,
    opened: &Result<T, E>,
    failed: &mut u32,
) -> anyhow::Result<()> {
    match opened {
        Ok(_) => say(format!("ok   {component}")),
        Err(error) => {
            *failed += 1;
            say(format!("FAIL {component}: {error:#}"))
        }
    }
}
