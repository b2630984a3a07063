//! `acuvim`: the one binary. It reads the settings, wires the stages by hand, and runs them.

mod admin;
mod cli;
mod commands;
mod serve;
mod settings;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command, LogCommand};
use settings::{LogFormat, Settings};

fn main() {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(run(cli));
            // Everything has ended in order by now. To end the runtime as well would take threads
            // away from under libraries that still wait for them, and they would complain.
            std::mem::forget(runtime);
            ended
        }
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            let line = format!("acuvim: {error:#}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            std::process::exit(1)
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    // Two providers are compiled in, so rustls can't choose by itself. A second call is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Serve(flags) => {
            let settings = Settings::load(&flags)?;
            start_tracing(&settings);
            serve::serve(settings).await
        }
        Command::Demo(args) => commands::demo::run(args).await,
        Command::Simulate(args) => commands::simulate::run(args).await,
        Command::Sql(args) => commands::sql::run(args).await,
        Command::Import(args) => commands::import::run(args).await,
        Command::Devices(command) => commands::devices::run(command).await,
        Command::Firmware(command) => commands::firmware::run(command),
        Command::Check(flags) => commands::check::run(&Settings::load(&flags)?).await,
        Command::Config(flags) => commands::config::run(&Settings::load(&flags)?),
        Command::Log(LogCommand::Repartition(args)) => commands::repartition::run(args).await,
    }
}

/// Libraries that call ordinary events errors: mqtt5 warns of every client that goes away without a
/// goodbye, which devices do all day; delta-rs of a table that is not there yet and of columns
/// without statistics. What they fail with reaches us as errors, and is logged where it is handled.
const QUIET: &str = "mqtt5=off,buoyant_kernel=off,deltalake_core=off,\
     object_store=warn,fjall=error,lsm_tree=error,sqlx=error";

/// Lines go to stderr; what a command answers goes to stdout.
fn start_tracing(settings: &Settings) {
    let default = format!("{},{QUIET}", settings.logging.level);
    let filter = EnvFilter::try_new(&default).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only where a subscriber is set already, in which case that one serves.
    let _ = match settings.logging.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}
