//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The backend for fleets of ESP32 loggers on Acuvim II power meters: takes readings in over MQTT,
/// keeps them as Delta tables, and answers SQL and REST over HTTP.
#[derive(Debug, Parser)]
#[command(
    name = "acuvim",
    version,
    after_help = "\
Begin with `acuvim demo`: a server with a simulated fleet, and a query to paste.\n\
Settings come from a TOML file (--config), then from environment variables\n\
ACUVIM__SECTION__KEY, then from flags; `acuvim config` prints what is in force."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: MQTT broker, log, stream, lake and HTTP in one process.
    Serve(ServeFlags),
    /// Run the server with a simulated fleet, on free ports, in ./demo-data.
    Demo(DemoArgs),
    /// Run a simulated fleet against any MQTT broker.
    Simulate(SimulateArgs),
    /// Ask a running server.
    #[command(after_help = "Example: acuvim sql \"SELECT device_id, count(*) AS n FROM telemetry \
        GROUP BY device_id ORDER BY n DESC LIMIT 10\"")]
    Sql(SqlArgs),
    /// Bring readings of another system into a running server.
    ///
    /// The file is CSV with a header line, JSON lines or Parquet, by its name. A row is a reading, with
    /// the columns device_id and ts, and readings by their names, or all of them as one JSON object in
    /// the column data. Readings are stored once however often they are sent; what breaks off goes on
    /// where it was when the command is given again.
    #[command(
        after_help = "Examples: acuvim import history.csv --time-zone Africa/Johannesburg\n          \
        acuvim import readings.parquet --device-id-column meter --ts-column recorded_at"
    )]
    Import(HistoryArgs),
    /// Look after the devices of a running server.
    #[command(subcommand)]
    Devices(DevicesCommand),
    /// Look at firmware images, sign them, and check signatures.
    #[command(subcommand)]
    Firmware(FirmwareCommand),
    /// Check the settings, and reach everything they name.
    Check(ServeFlags),
    /// Print the settings in force, secrets masked.
    Config(ServeFlags),
    /// Look after the log.
    #[command(subcommand)]
    Log(LogCommand),
}

/// What can be done to devices.
#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// Make devices from a CSV file; prints a CSV with the MQTT secret of each.
    ///
    /// The file has a header line of device_id and any of name, description, group_id, tags
    /// (separated by ;), nominal_voltage_v, nominal_frequency_hz, max_power_kw, counter_end and time_zone. Every line is checked
    /// before the first device is made. The secrets are shown this once.
    #[command(after_help = "Example: acuvim devices import fleet.csv >secrets.csv")]
    Import(ImportArgs),
}

/// What can be done to firmware images, without a server.
#[derive(Debug, Subcommand)]
pub enum FirmwareCommand {
    /// Check an image to the last byte, and say what it is.
    Inspect(InspectArgs),
    /// Make an ed25519 key to sign with; prints the public key for firmware.public_keys.
    Keys(KeysArgs),
    /// Sign an image: writes a manifest and its signature, to be uploaded with the image.
    #[command(after_help = "Example: acuvim firmware sign logger.bin --version 1.3.0 \
        --hardware \"TTGO T-Call v1.4\" --sequence 13 --key release.pem --out logger.sig")]
    Sign(SignArgs),
    /// Check that a signature is by a key, and for an image.
    Verify(VerifyArgs),
}

/// An image to look at.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// The image.
    pub image: PathBuf,
    /// Size of the flash partition that it must fit into [default: the one of the setting
    /// firmware.slot_bytes].
    #[arg(long, value_name = "BYTES")]
    pub slot_bytes: Option<u64>,
}

/// A key to be made.
#[derive(Debug, Clone, Args)]
pub struct KeysArgs {
    /// Where the private key goes, in PEM; the file must not be there yet.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// An image to be signed.
#[derive(Debug, Clone, Args)]
pub struct SignArgs {
    /// The image.
    pub image: PathBuf,
    /// The release's semantic version.
    #[arg(long)]
    pub version: String,
    /// The hardware that it is for; all of the chip unless given.
    #[arg(long)]
    pub hardware: Option<String>,
    /// Grows with each release, so that a device can refuse to go back.
    #[arg(long)]
    pub sequence: i64,
    /// Days from now until it is not to be installed any more; never unless given.
    #[arg(long, value_name = "DAYS")]
    pub expires_days: Option<u32>,
    /// The private key, in PEM.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where the signature goes.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// A signature to be checked.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The image.
    pub image: PathBuf,
    /// The signature.
    #[arg(long, value_name = "FILE")]
    pub signature: PathBuf,
    /// The public key: base64, or a PEM file.
    #[arg(long, value_name = "KEY")]
    pub public_key: String,
}

/// A file of readings.
#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// The file: .csv, .ndjson, .jsonl or .parquet.
    pub file: PathBuf,
    /// The column of the device's id.
    #[arg(long, value_name = "NAME", default_value = "device_id")]
    pub device_id_column: String,
    /// The column of the time.
    #[arg(long, value_name = "NAME", default_value = "ts")]
    pub ts_column: String,
    /// The column that has readings as one JSON object.
    #[arg(long, value_name = "NAME", default_value = "data")]
    pub data_column: String,
    /// Whose times they are that name no zone, such as Africa/Johannesburg.
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Begin with the first row, whatever an earlier run has done.
    #[arg(long)]
    pub restart: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// A file of devices.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The CSV file.
    pub file: PathBuf,
    #[command(flatten)]
    pub server: ServerArgs,
}

/// A running server, and how to log in.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The server.
    #[arg(long, env = "ACUVIM_URL", default_value = "http://127.0.0.1:5000")]
    pub url: String,
    /// An API key. Without one, the first admin's password is looked for in --data-dir.
    #[arg(long, env = "ACUVIM_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Where the server keeps its data, if it runs on this machine.
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
}

/// What can be done to the log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Lay it out anew: with another number of partitions, or on Kafka instead of embedded.
    ///
    /// Every process must be stopped, and everything flushed: an ordered stop does that. The
    /// settings name the system as it is; afterwards they must name it as it is then.
    Repartition(RepartitionArgs),
}

/// A new layout of the log.
#[derive(Debug, Clone, Args)]
pub struct RepartitionArgs {
    /// Partitions from now on.
    #[arg(long)]
    pub partitions: u32,
    /// Move to another log: kafka://host:9092, or `embedded`.
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Begin a new log without asking the old one, because it is lost: what of it is in no table yet
    /// is given up.
    #[arg(long)]
    pub old_log_is_lost: bool,
    #[command(flatten)]
    pub settings: ServeFlags,
}

/// Where settings come from.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeFlags {
    /// A TOML file of settings.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What this process does [default: ingest,processor,query]. Roles in processes of their own
    /// share Kafka (log.url) and PostgreSQL (control.url).
    #[arg(long, value_name = "ROLE,...")]
    pub role: Option<String>,
    /// Where everything is kept that has no URL of its own [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where HTTP listens [default: 127.0.0.1:5000].
    #[arg(long, value_name = "ADDR:PORT")]
    pub http_listen: Option<String>,
    /// Where the built-in broker listens [default: 127.0.0.1:1883].
    #[arg(long, value_name = "ADDR:PORT")]
    pub mqtt_listen: Option<String>,
    /// Where the built-in broker listens for websockets [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDR:PORT")]
    pub mqtt_websocket_listen: Option<String>,
    /// Any other setting, as section.key=value; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// The demo's fleet.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How many devices.
    #[arg(long, default_value_t = 20)]
    pub devices: u32,
    /// Seconds between two readings of a device.
    #[arg(long, default_value_t = 2.0)]
    pub interval: f64,
    /// Where the demo keeps its data.
    #[arg(long, value_name = "DIR", default_value = "./demo-data")]
    pub data_dir: PathBuf,
    /// End by itself after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub run_for: Option<u64>,
}

/// A fleet against any broker.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// The broker.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub broker: String,
    /// What topics begin with.
    #[arg(long, default_value = "acuvim")]
    pub topic_prefix: String,
    /// How many devices.
    #[arg(long, default_value_t = 10)]
    pub devices: u32,
    /// Seconds between two readings of a device.
    #[arg(long, default_value_t = 10.0)]
    pub interval: f64,
    /// What makes one fleet differ from another.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of readings that are sent twice.
    #[arg(long, default_value_t = 0.01)]
    pub duplicates: f64,
    /// Share of messages that are nonsense.
    #[arg(long, default_value_t = 0.002)]
    pub bad: f64,
    /// Do not drain old readings from SD cards.
    #[arg(long)]
    pub no_sd: bool,
    /// End by itself after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub run_for: Option<u64>,
}

/// A question to a running server.
#[derive(Debug, Clone, Args)]
pub struct SqlArgs {
    /// One SELECT.
    pub query: String,
    /// Answer as CSV.
    #[arg(long)]
    pub csv: bool,
    /// Only what is committed to the lake.
    #[arg(long)]
    pub lake: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}
