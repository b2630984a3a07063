//! Replays readings of devices that had no clock. They are dead letters until a heartbeat of the
//! same boot has a time: then it is known when the boot began, and so when each of them was taken.

use acuvim_control::Clockless;
use acuvim_lakehouse::{Letter, LetterFilter};
use acuvim_log::{Entry, LogTopic};
use acuvim_wire::{Micros, Reason, device::partition_of, payload};
use chrono::{DateTime, TimeDelta, Utc};

use crate::dependencies::Dependencies;

/// Boots that one call takes on, and dead letters that are read at a time.
const MAX_BOOTS: i64 = 50;
const LETTERS_PAGE: usize = 2000;

/// The most records of one append.
const MAX_APPEND: usize = 500;

/// How long nothing new must have come of a boot until it is settled; longer if no dead letter of
/// it was found, since the lake may not have them yet.
const SETTLED_AFTER: TimeDelta = TimeDelta::minutes(1);
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(1);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// How many dead letters of a boot were found, and what has become of them.
#[derive(Default)]
struct BootLetters {
    found: usize,
    settled: i64,
    replayed: usize,
}

/// Replays the readings of boots whose beginning is known by now.
pub(super) async fn replay_clockless(dependencies: &Dependencies) -> Result<(), AnyError> {
    for boot in dependencies.control.clockless(MAX_BOOTS).await? {
        let now = Utc::now();
        let letters = replay_boot(dependencies, &boot, now).await?;
        if letters.replayed > 0 {
            let (device, boot) = (&boot.device_id, boot.boot);
            tracing::info!(device, boot, count = letters.replayed, "readings got their time");
            continue;
        }
        // Once the outcome of every replay is known, nothing waits for this boot any more.
        let all = i64::try_from(letters.found).is_ok_and(|found| found == letters.settled);
        let wait = if letters.found > 0 { SETTLED_AFTER } else { FORGOTTEN_AFTER };
        if all && now - boot.newest_at > wait {
            dependencies.control.settle_clockless(&boot).await?;
        }
    }
    Ok(())
}

async fn replay_boot(
    dependencies: &Dependencies,
    boot: &Clockless,
    now: DateTime<Utc>,
) -> Result<BootLetters, AnyError> {
    let mut filter = LetterFilter {
        device_id: Some(boot.device_id.clone()),
        reason: Some(Reason::ClockUnset.as_str().to_owned()),
        limit: LETTERS_PAGE,
        ..LetterFilter::default()
    };
    let mut letters = BootLetters::default();
    loop {
        let page = dependencies.lake.dead_letters(&filter).await?;
        filter.after = page.last().map(|letter| (letter.received_at, letter.identity));
        let is_last = page.len() < LETTERS_PAGE;
        let of_boot: Vec<(Letter, Micros)> = page
            .into_iter()
            .filter_map(|letter| time_of(&letter, boot).map(|ts| (letter, ts)))
            .collect();
        letters.found += of_boot.len();
        let identities: Vec<_> = of_boot.iter().map(|(letter, _)| letter.identity).collect();
        letters.settled += dependencies.control.replayed(&identities).await?;
        letters.replayed += replay(dependencies, boot, of_boot, now).await?;
        if is_last {
            return Ok(letters);
        }
    }
}

/// Appends the letters that were not replayed before, and returns how many those are.
async fn replay(
    dependencies: &Dependencies,
    boot: &Clockless,
    letters: Vec<(Letter, Micros)>,
    now: DateTime<Utc>,
) -> Result<usize, AnyError> {
    let identities: Vec<_> =
        letters.iter().map(|(letter, _)| (letter.identity, boot.device_id.clone())).collect();
    let claimed = dependencies.control.claim_replays(&identities, "system", now).await?;
    let partition = partition_of(boot.device_id.as_bytes(), dependencies.log.partitions());
    let entries: Vec<(u32, Entry)> = letters
        .into_iter()
        .filter(|(letter, _)| claimed.contains(&letter.identity))
        .map(|(letter, ts)| {
            (partition, Entry::from(letter.into_record(Some(ts), now.timestamp_micros())))
        })
        .collect();
    for chunk in entries.chunks(MAX_APPEND) {
        dependencies.log.append(LogTopic::Uplink, chunk.to_vec()).await?;
    }
    Ok(entries.len())
}

/// When a reading was taken; `None` if it is of another boot.
fn time_of(letter: &Letter, boot: &Clockless) -> Option<Micros> {
    let fields = payload::fields(&letter.payload).ok()?;
    let whole = |name: &str| fields.get(name).and_then(payload::whole);
    let ts = boot.started.checked_add(whole("uptime_ms")?.checked_mul(1000)?)?;
    (whole("boot")? == boot.boot).then_some(ts)
}

#[cfg(test)]
mod tests;
