//! Readings of devices that had no clock: brought again, with their time, once that is known.

use acuvim_control::Clockless;
use acuvim_lakehouse::{Letter, LetterFilter};
use acuvim_log::{Entry, LogTopic};
use acuvim_schemas::{Micros, Reason, device::partition_of, payload};
use chrono::{DateTime, TimeDelta, Utc};

use crate::Parts;

/// Boots that one look takes, and dead letters that are read at a time.
const BOOTS: i64 = 50;
const LETTERS: usize = 2000;

/// Records of one append.
const APPEND: usize = 500;

/// How long nothing new must have come of a boot until it is over; and what it was known by without a
/// letter of it being found.
const QUIET: TimeDelta = TimeDelta::minutes(1);
const FORGOTTEN: TimeDelta = TimeDelta::days(1);

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Brings again what can be.
pub(super) async fn replay_clockless(parts: &Parts) -> Result<(), Failed> {
    for boot in parts.control.clockless(BOOTS).await? {
        let now = Utc::now();
        let mut filter = LetterFilter {
            device_id: Some(boot.device_id.clone()),
            reason: Some(Reason::ClockUnset.as_str().to_owned()),
            limit: LETTERS,
            ..LetterFilter::default()
        };
        let (mut known, mut settled, mut again) = (0, 0, 0);
        loop {
            let page = parts.lake.dead_letters(&filter).await?;
            filter.after = page.last().map(|letter| (letter.received_at, letter.identity));
            let is_last = page.len() < LETTERS;
            let theirs: Vec<(Letter, Micros)> = page
                .into_iter()
                .filter_map(|letter| time_of(&letter, &boot).map(|ts| (letter, ts)))
                .collect();
            known += theirs.len();
            let named: Vec<_> = theirs.iter().map(|(letter, _)| letter.identity).collect();
            settled += parts.control.replayed(&named).await?;
            again += replay(parts, &boot, theirs, now).await?;
            if is_last {
                break;
            }
        }
        if again > 0 {
            let (device, boot) = (&boot.device_id, boot.boot);
            tracing::info!(device, boot, count = again, "readings got their time");
            continue;
        }
        // Once it is known what became of all of them, nothing waits for this boot any more.
        let all = i64::try_from(known).is_ok_and(|known| known == settled);
        let quiet = if known > 0 { QUIET } else { FORGOTTEN };
        if all && now - boot.newest_at > quiet {
            parts.control.settle_clockless(&boot).await?;
        }
    }
    Ok(())
}

/// Appends those again that were not before; answers with how many.
async fn replay(
    parts: &Parts,
    boot: &Clockless,
    letters: Vec<(Letter, Micros)>,
    now: DateTime<Utc>,
) -> Result<usize, Failed> {
    let named: Vec<_> =
        letters.iter().map(|(letter, _)| (letter.identity, boot.device_id.clone())).collect();
    let claimed = parts.control.claim_replays(&named, "system", now).await?;
    let partition = partition_of(boot.device_id.as_bytes(), parts.log.partitions());
    let entries: Vec<(u32, Entry)> = letters
        .into_iter()
        .filter(|(letter, _)| claimed.contains(&letter.identity))
        .map(|(letter, ts)| {
            (partition, Entry::from(letter.into_record(Some(ts), now.timestamp_micros())))
        })
        .collect();
    for some in entries.chunks(APPEND) {
        parts.log.append(LogTopic::Uplink, some.to_vec()).await?;
    }
    Ok(entries.len())
}

/// When a reading of a boot was taken; none if it is of another.
fn time_of(letter: &Letter, boot: &Clockless) -> Option<Micros> {
    let fields = payload::fields(&letter.payload).ok()?;
    let whole = |name: &str| fields.get(name).and_then(payload::whole);
    let ts = boot.started.checked_add(whole("uptime_ms")?.checked_mul(1000)?)?;
    (whole("boot")? == boot.boot).then_some(ts)
}
