//! The command line. Doc comments here are the texts of `--help`.

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
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: MQTT broker, log, stream, lake and HTTP in one process.
    Serve(ServeFlags),
    /// Run the server with a simulated fleet, on free ports, in ./demo-data.
    Demo(DemoArgs),
    /// Run a simulated fleet against any MQTT broker.
    Simulate(SimulateArgs),
    /// Send a query to a running server.
    #[command(after_help = "Example: acuvim sql \"SELECT device_id, count(*) AS n FROM telemetry \
        GROUP BY device_id ORDER BY n DESC LIMIT 10\"")]
    Sql(SqlArgs),
    /// Import readings of another system into a running server.
    ///
    /// The file is CSV with a header line, JSON lines or Parquet, by its name. A row is a reading, with
    /// the columns device_id and ts, and readings by their names, or all of them as one JSON object in
    /// the column data. Readings are stored once however often they are sent; an import that is
    /// interrupted resumes where it was when the command is given again.
    #[command(
        after_help = "Examples: acuvim import history.csv --time-zone Africa/Johannesburg\n          \
        acuvim import readings.parquet --device-id-column meter --ts-column recorded_at"
    )]
    Import(HistoryArgs),
    /// Manage the devices of a running server.
    #[command(subcommand)]
    Devices(DevicesCommand),
    /// Inspect firmware images, sign them, and verify signatures.
    #[command(subcommand)]
    Firmware(FirmwareCommand),
    /// Check the settings, and try to reach every component that they name.
    Check(ServeFlags),
    /// Print the settings in force with their descriptions, secrets masked.
    Config(ServeFlags),
    /// Manage the log.
    #[command(subcommand)]
    Log(LogCommand),
}

#[derive(Debug, Subcommand)]
pub enum DevicesCommand {
    /// Create devices from a CSV file; prints a CSV with the MQTT secret of each.
    ///
    /// The file has a header line of device_id and any of name, description, group_id, tags
    /// (separated by ;), nominal_voltage_v, nominal_frequency_hz, max_power_kw, counter_end and
    /// time_zone. Every line is checked before the first device is created. The secrets are shown only
    /// once.
    #[command(after_help = "Example: acuvim devices import fleet.csv >secrets.csv")]
    Import(ImportArgs),
}

#[derive(Debug, Subcommand)]
pub enum FirmwareCommand {
    /// Check an image completely, and print what it is.
    Inspect(InspectArgs),
    /// Create an ed25519 key for signing; prints the public key for firmware.public_keys.
    Keys(KeysArgs),
    /// Sign an image: writes a signed manifest, to be uploaded with the image.
    #[command(after_help = "Example: acuvim firmware sign logger.bin --version 1.3.0 \
        --hardware \"TTGO T-Call v1.4\" --sequence 13 --key release.pem --out logger.sig")]
    Sign(SignArgs),
    /// Verify that a signature was made with a key and is for an image.
    Verify(VerifyArgs),
}

#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// The image.
    pub image: PathBuf,
    /// Size of the flash partition that it must fit into [default: the built-in value of the setting
    /// firmware.slot_bytes].
    #[arg(long, value_name = "BYTES")]
    pub slot_bytes: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub struct KeysArgs {
    /// Where the private key is written, in PEM. The file must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct SignArgs {
    /// The image.
    pub image: PathBuf,
    /// Semantic version of the release.
    #[arg(long)]
    pub version: String,
    /// The hardware that it is for [default: all with the image's chip].
    #[arg(long)]
    pub hardware: Option<String>,
    /// A number that grows with each release, so that a device can refuse older ones.
    #[arg(long)]
    pub sequence: i64,
    /// Days until it must not be installed any more [default: never].
    #[arg(long, value_name = "DAYS")]
    pub expires_days: Option<u32>,
    /// The private key, in PEM.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where the signature is written.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

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

#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// The file: .csv, .ndjson, .jsonl or .parquet.
    pub file: PathBuf,
    /// Column with the device's id.
    #[arg(long, value_name = "NAME", default_value = "device_id")]
    pub device_id_column: String,
    /// Column with the time.
    #[arg(long, value_name = "NAME", default_value = "ts")]
    pub ts_column: String,
    /// Column with all readings as one JSON object.
    #[arg(long, value_name = "NAME", default_value = "data")]
    pub data_column: String,
    /// Time zone of times that name none, such as Africa/Johannesburg.
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Begin with the first row, even if an earlier run was interrupted later.
    #[arg(long)]
    pub restart: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The CSV file.
    pub file: PathBuf,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// URL of the server.
    #[arg(long, env = "ACUVIM_URL", default_value = "http://127.0.0.1:5000")]
    pub url: String,
    /// An API key. Without one, the first admin's initial password is read from --data-dir.
    #[arg(long, env = "ACUVIM_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Data directory of the server, if it runs on this machine.
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Change the number of partitions, or move between the embedded log and Kafka.
    ///
    /// Every process must be stopped in order (SIGTERM), which flushes everything. The settings given
    /// here name the old log; change them to the new one afterwards.
    Repartition(RepartitionArgs),
}

#[derive(Debug, Clone, Args)]
pub struct RepartitionArgs {
    /// The new number of partitions.
    #[arg(long)]
    pub partitions: u32,
    /// Move the log to kafka://host:9092, or to `embedded`.
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Begin a new log without reading the old one, because it is lost. Records that are in no table
    /// yet are given up.
    #[arg(long)]
    pub old_log_is_lost: bool,
    #[command(flatten)]
    pub settings: ServeFlags,
}

#[derive(Debug, Clone, Default, Args)]
pub struct ServeFlags {
    /// A TOML file of settings.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What this process does [default: ingest,processor,query]. Roles in processes of their own
    /// share Kafka (log.url) and PostgreSQL (control.url).
    #[arg(long, value_name = "ROLE,...")]
    pub role: Option<String>,
    /// Directory for everything that has no URL of its own [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of HTTP [default: 127.0.0.1:5000].
    #[arg(long, value_name = "ADDR:PORT")]
    pub http_listen: Option<String>,
    /// Address of the built-in broker [default: 127.0.0.1:1883].
    #[arg(long, value_name = "ADDR:PORT")]
    pub mqtt_listen: Option<String>,
    /// Address of the built-in broker's websockets [default: 127.0.0.1:9001].
    #[arg(long, value_name = "ADDR:PORT")]
    pub mqtt_websocket_listen: Option<String>,
    /// Any setting, as section.key=value; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Number of devices.
    #[arg(long, default_value_t = 20)]
    pub devices: u32,
    /// Seconds between two readings of a device.
    #[arg(long, default_value_t = 2.0)]
    pub interval: f64,
    /// Data directory of the demo.
    #[arg(long, value_name = "DIR", default_value = "./demo-data")]
    pub data_dir: PathBuf,
    /// End after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub run_for: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// Address of the broker.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub broker: String,
    /// First levels of every topic.
    #[arg(long, default_value = "acuvim")]
    pub topic_prefix: String,
    /// Number of devices.
    #[arg(long, default_value_t = 10)]
    pub devices: u32,
    /// Seconds between two readings of a device.
    #[arg(long, default_value_t = 10.0)]
    pub interval: f64,
    /// Seed of the random values; different fleets need different ones.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of readings that are sent twice.
    #[arg(long, default_value_t = 0.01)]
    pub duplicates: f64,
    /// Share of messages that are invalid.
    #[arg(long, default_value_t = 0.002)]
    pub bad: f64,
    /// Send no old readings from SD cards.
    #[arg(long)]
    pub no_sd: bool,
    /// End after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub run_for: Option<u64>,
}

#[derive(Debug, Clone, Args)]
pub struct SqlArgs {
    /// One SELECT.
    pub query: String,
    /// Print CSV instead of a table.
    #[arg(long)]
    pub csv: bool,
    /// Read only what is committed to the lake.
    #[arg(long)]
    pub lake: bool,
    #[command(flatten)]
    pub server: ServerArgs,
}
