//! A backtest's result: the episodes that were found, and how they differ from the recorded ones.

use std::{collections::HashSet, ops::Range};

use acuvim_control::Control;
use acuvim_model::{BacktestDevice, BacktestDifference, BacktestEpisode, BacktestResult};
use acuvim_rules::{FoundEpisode, Replay};
use acuvim_wire::{
    Micros,
    time::{SECOND, to_datetime},
};

use super::{error::BacktestError, request::NewBacktest};

/// Devices, and episodes of all of them, that a result lists.
const DEVICES: usize = 1000;
const EPISODES: usize = 10_000;

/// An episode that begins so soon after the one before is a flap.
const FLAP: Micros = 300 * SECOND;

/// The result of a replay over a range of times.
pub(super) fn result_of(
    replay: &Replay,
    range: Range<Micros>,
    lake_version: i64,
) -> BacktestResult {
    let mut result = BacktestResult { lake_version, ..BacktestResult::default() };
    let mut room = EPISODES;
    result.readings = i64::try_from(replay.readings()).unwrap_or(i64::MAX);
    for (device, found) in replay.found() {
        result.devices += 1;
        let within: Vec<&FoundEpisode> = found.iter().filter(|e| is_within(e, &range)).collect();
        if within.is_empty() {
            continue;
        }
        let of_device = of_device(device, &within, &range, room);
        room -= of_device.list.len();
        result.episodes += of_device.episodes;
        result.seconds_in_alarm += of_device.seconds_in_alarm;
        result.flaps += of_device.flaps;
        result.by_device.push(of_device);
    }
    result.by_device.sort_by(|a, b| b.seconds_in_alarm.total_cmp(&a.seconds_in_alarm));
    result.by_device.truncate(DEVICES);
    result
}

fn of_device(
    device: &str,
    episodes: &[&FoundEpisode],
    range: &Range<Micros>,
    listed: usize,
) -> BacktestDevice {
    let is_flap = |pair: &&[&FoundEpisode]| match pair {
        [before, after] => before.ended.is_some_and(|end| after.started - end < FLAP),
        _ => false,
    };
    // The part of an episode that lies in the range.
    let length = |episode: &&FoundEpisode| {
        let end = episode.ended.unwrap_or(range.end).min(range.end);
        (end - episode.started.max(range.start)).max(0)
    };
    let micros: Micros = episodes.iter().map(length).sum();
    BacktestDevice {
        device_id: device.to_owned(),
        episodes: count(episodes.len()),
        seconds_in_alarm: micros as f64 / 1e6,
        flaps: count(episodes.windows(2).filter(is_flap).count()),
        list: episodes.iter().take(listed).map(|episode| shown(episode)).collect(),
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn is_within(episode: &FoundEpisode, range: &Range<Micros>) -> bool {
    episode.raised < range.end && episode.ended.is_none_or(|end| end >= range.start)
}

fn shown(episode: &FoundEpisode) -> BacktestEpisode {
    let at = |ts| to_datetime(ts).unwrap_or_default();
    BacktestEpisode {
        created_at: at(episode.started),
        raised_at: at(episode.raised),
        resolved_at: episode.ended.map(at),
    }
}

/// An episode to compare: the same device, beginning and end is the same episode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Episode {
    device_id: String,
    started: Micros,
    ended: Option<Micros>,
}

/// Compares the episodes of the replay with those that the stored rule recorded.
pub(super) async fn difference(
    control: &Control,
    new: &NewBacktest,
    replay: &Replay,
) -> Result<BacktestDifference, BacktestError> {
    let range = new.from..new.to;
    let from = to_datetime(range.start).unwrap_or_default();
    let judged: HashSet<&str> = replay.found().map(|(device, _)| device.as_ref()).collect();
    let recorded = control.episodes(None, new.stored, from).await?.into_iter();
    let recorded: HashSet<Episode> = recorded
        .filter(|(device, e)| {
            new.sees(device) && judged.contains(device.as_str()) && e.marks.raised.ts < range.end
        })
        .map(|(device_id, e)| {
            // An end that was confirmed only after the range is still open at the end of the range.
            let ended = e.marks.ended.filter(|(_, confirmed)| confirmed.ts < range.end);
            let ended = ended.map(|(end, _)| end.ts);
            Episode { device_id, started: e.marks.started.ts, ended }
        })
        .filter(|episode| episode.ended.is_none_or(|end| end >= range.start))
        .collect();
    let found: HashSet<Episode> = replay
        .found()
        .flat_map(|(device, found)| found.iter().map(move |e| (device, e)))
        .filter(|(_, episode)| is_within(episode, &range))
        .map(|(device, episode)| Episode {
            device_id: device.to_string(),
            started: episode.started,
            ended: episode.ended,
        })
        .collect();
    Ok(BacktestDifference {
        same: count(found.intersection(&recorded).count()),
        only_backtest: count(found.difference(&recorded).count()),
        only_recorded: count(recorded.difference(&found).count()),
    })
}

#[cfg(test)]
mod tests;
