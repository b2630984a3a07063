//! The binary `acuvim`: reads the settings, opens the components that they name, connects them, and
//! runs them.

mod admin;
mod cli;
mod commands;
mod error_line;
mod logging;
mod serve;
mod settings;

use clap::Parser as _;

use cli::{Cli, Command, LogCommand};
use settings::Settings;

fn main() {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli));
            // Every component has stopped in order by now. Dropping the runtime would also end
            // threads that some libraries still wait for, and they would log errors about it.
            std::mem::forget(runtime);
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            let line = format!("acuvim: {}\n", error_line::error_line(&error));
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            std::process::exit(1)
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    // Dependencies compile in two crypto providers, so rustls can't choose one by itself. The call
    // fails if one is installed already, which is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Serve(flags) => {
            let settings = Settings::load(&flags)?;
            logging::start(&settings);
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
