//! `acuvim firmware`: inspects images, signs them and verifies signatures, without a server.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use acuvim_firmware_registry::{Image, ImageCheck, Manifest, PublicKey, Signed, SigningKey};
use acuvim_rollout::Version;
use anyhow::{Context as _, ensure};
use chrono::{TimeDelta, Utc};

use super::print_line;
use crate::{
    cli::{FirmwareCommand, InspectArgs, KeysArgs, SignArgs, VerifyArgs},
    settings::Settings,
};

/// The largest slot that `firmware.slot_bytes` allows. Which device an image is for is not known
/// while it is signed or verified.
const LARGEST_SLOT: u64 = 16 << 20;

/// Runs one of the subcommands.
pub fn run(command: FirmwareCommand) -> anyhow::Result<()> {
    match command {
        FirmwareCommand::Inspect(args) => inspect(&args),
        FirmwareCommand::Keys(args) => keys(&args),
        FirmwareCommand::Sign(args) => sign(args),
        FirmwareCommand::Verify(args) => verify(&args),
    }
}

fn image(path: &Path, slot: u64) -> anyhow::Result<Image> {
    let shown = || path.display().to_string();
    let bytes = fs::read(path).with_context(shown)?;
    let mut check = ImageCheck::new(slot);
    check.update(&bytes).with_context(shown)?;
    check.finish().with_context(shown)
}

fn inspect(args: &InspectArgs) -> anyhow::Result<()> {
    let slot = match args.slot_bytes {
        Some(slot) => slot,
        None => Settings::built_in()?.firmware.slot_bytes,
    };
    let image = image(&args.image, slot)?;
    print_line(format!("chip      {}", image.chip))?;
    print_line(format!("size      {} bytes of a slot of {slot}", image.size))?;
    print_line(format!("sha256    {}", image.sha256))?;
    let hashed = if image.hashed { "yes, and it is right" } else { "none" };
    print_line(format!("its hash  {hashed}"))?;
    let Some(about) = image.descriptor else { return print_line("no application descriptor") };
    print_line(format!("project   {}", about.project))?;
    print_line(format!("version   {}", about.version))?;
    print_line(format!(
        "built     {} {} with ESP-IDF {}",
        about.date, about.time, about.idf_version
    ))
}

fn keys(args: &KeysArgs) -> anyhow::Result<()> {
    let (key, pem) = SigningKey::generate()?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&args.out).with_context(|| args.out.display().to_string())?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    print_line(key.public().to_base64())
}

fn sign(args: SignArgs) -> anyhow::Result<()> {
    ensure!(
        Version::parse(&args.version).is_some(),
        "--version {}: give a semantic version, such as 1.2.0, of 32 characters at most",
        args.version
    );
    let image = image(&args.image, LARGEST_SLOT)?;
    let shown = || args.key.display().to_string();
    let pem = fs::read_to_string(&args.key).with_context(shown)?;
    let key = SigningKey::from_pem(&pem).with_context(shown)?;
    let manifest = Manifest {
        version: args.version,
        hardware: args.hardware,
        chip: image.chip.as_str().to_owned(),
        size: image.size,
        sha256: image.sha256,
        sequence: args.sequence,
        expires_at: args.expires_days.map(|days| Utc::now() + TimeDelta::days(days.into())),
    };
    let signed = Signed::sign(&manifest, &key)?;
    fs::write(&args.out, serde_json::to_string_pretty(&signed)?)
        .with_context(|| args.out.display().to_string())?;
    print_line(signed.manifest)
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let image = image(&args.image, LARGEST_SLOT)?;
    let shown = || args.signature.display().to_string();
    let signed = Signed::parse(&fs::read_to_string(&args.signature).with_context(shown)?)?;
    let text = match Path::new(&args.public_key).is_file() {
        true => fs::read_to_string(&args.public_key)?,
        false => args.public_key.clone(),
    };
    let manifest = signed.verify(&[PublicKey::parse(&text)?])?;
    manifest.fits(&image, &manifest.version, manifest.hardware.as_deref(), Utc::now())?;
    print_line(format!("good: {}", signed.manifest))
}
