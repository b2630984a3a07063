//! Replaying dead letters: those that can be decoded now are stored.

use std::sync::Arc;

use acuvim_control::{By, Control};
use acuvim_lakehouse::{Letter, LetterFilter};
use acuvim_log::{Entry, Log, LogTopic};
use acuvim_model::{
    RepairRequest, ReplayFault, ReplayRequest, ReplayResponse, Role, problem::Code,
};
use acuvim_query_sql::Sql;
use acuvim_tables::telemetry::{Decoder, Source};
use acuvim_wire::{
    DeadLetter, Identity, Kind, Position, Reason,
    device::partition_of,
    payload,
    record::RecordFacts,
    telemetry::{Limits, Repair},
    time::{Offset, SECOND},
};
use axum::{Json, extract::State};

use crate::{auth::Caller, extract::Body, problem::ApiError};

/// Dead letters that one request replays.
const DEFAULT_LIMIT: i64 = 1000;
const MAX_LIMIT: i64 = 10_000;

/// Dead letters that are read and appended at a time: each may be as large as a payload.
const PAGE: usize = 100;

/// Identities that one request may name.
const IDENTITIES: usize = 1000;

/// Faults that a dry run names.
const FAULTS: usize = 20;

/// The longest shift of a time, in seconds.
const LONGEST_SHIFT: f64 = 10.0 * 366.0 * 86_400.0;

/// Bring dead letters again, by condition: each is appended to the log anew, naming the old one,
/// mended if that is asked for. What decodes now is stored and marked (SQL table `replays`); what does
/// not is a dead letter again. Those that are stored, or on their way, are passed over. A dry run says
/// what would become of them.
#[utoipa::path(post, path = "/api/dead-letters/replay", tag = "alerts",
    request_body = ReplayRequest, responses((status = 200, body = ReplayResponse)))]
pub(super) async fn replay(
    State(sql): State<Sql>,
    State(log): State<Arc<dyn Log>>,
    State(limits): State<Limits>,
    caller: Caller,
    Body(request): Body<ReplayRequest>,
) -> Result<Json<ReplayResponse>, ApiError> {
    caller.require(Role::Operator)?;
    let limit = limit(&request)?;
    let filter = filter(sql.control(), &caller, &request).await?;
    let repair = request.repair.as_ref().map(repair).transpose()?.unwrap_or_default();
    let by = caller.by();
    // Recorded before the first letter is appended: a replay may break off half-way.
    if !request.dry_run {
        let detail = serde_json::json!({ "request": request });
        sql.control().note(&by, "dead_letters.replay", "dead_letters", detail).await?;
    }
    let replay = Replay { sql: &sql, log: log.as_ref(), limits, repair, by, limit };
    replay.run(filter, request.dry_run).await.map(Json)
}

/// A replay that runs.
struct Replay<'a> {
    sql: &'a Sql,
    log: &'a dyn Log,
    limits: Limits,
    repair: Repair,
    by: By,
    limit: i64,
}

impl Replay<'_> {
    async fn run(
        &self,
        mut filter: LetterFilter,
        dry_run: bool,
    ) -> Result<ReplayResponse, ApiError> {
        let mut answer = ReplayResponse::default();
        loop {
            let wanted = filter.clone();
            let page =
                self.sql.run(move |sql| async move { Ok(sql.lake().dead_letters(&wanted).await?) });
            let page = page.await?;
            // Letters that were replayed still match: without a cursor the first page would come for ever.
            filter.after = page.last().map(|letter| (letter.received_at, letter.identity));
            let is_last = page.len() < filter.limit;
            answer.matched += count(page.len());
            let (mut able, unable): (Vec<_>, Vec<_>) =
                page.into_iter().partition(Letter::can_be_replayed);
            answer.not_replayable += count(unable.len());
            for letter in &mut able {
                letter.payload = self.repair.apply(letter.kind, &letter.payload).into();
            }
            let done = match dry_run {
                true => {
                    try_out(&able, &self.limits, &mut answer);
                    answer.matched
                }
                false => {
                    self.append(able, &mut answer).await?;
                    answer.replayed
                }
            };
            // Checked between pages, so that up to a page more than the limit is replayed.
            if is_last || done >= self.limit {
                answer.more = !is_last;
                return Ok(answer);
            }
        }
    }

    /// Appends the dead letters that were not replayed before, and counts both.
    async fn append(
        &self,
        letters: Vec<Letter>,
        answer: &mut ReplayResponse,
    ) -> Result<(), ApiError> {
        let named: Vec<_> = letters.iter().map(|l| (l.identity, l.device_id.clone())).collect();
        // Claimed before they are appended, so that two replays at once do not bring a letter twice. A
        // claim that no record follows, after a crash, ends by itself.
        let claimed = self.sql.control().claim_replays(&named, &self.by.name, self.by.at).await?;
        let partitions = self.log.partitions();
        let again = letters.into_iter().filter(|letter| claimed.contains(&letter.identity));
        let entries: Vec<(u32, Entry)> = again
            .map(|letter| {
                let partition = partition_of(letter.device_id.as_bytes(), partitions);
                let received_at = chrono::Utc::now().timestamp_micros();
                (partition, Entry::from(letter.into_record(None, received_at)))
            })
            .collect();
        let replayed = entries.len();
        if replayed > 0 {
            self.log.append(LogTopic::Uplink, entries).await.map_err(|error| {
                tracing::info!(%error, "a replay could not reach the log");
                let detail = "the log is away; what is missing can be replayed ten minutes later";
                ApiError::new(Code::Unavailable, detail)
            })?;
        }
        answer.replayed += count(replayed);
        answer.skipped += count(named.len() - replayed);
        Ok(())
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn repair(request: &RepairRequest) -> Result<Repair, ApiError> {
    let offset = request.offset.as_deref().map(|text| {
        let bad = || ApiError::field("repair.offset", "as +02:00, +0200 or Z");
        Offset::parse(text).ok_or_else(bad)
    });
    if !(-LONGEST_SHIFT..=LONGEST_SHIFT).contains(&request.shift_seconds) {
        return Err(ApiError::field("repair.shift_seconds", "ten years at most, either way"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    let shift = (request.shift_seconds * SECOND as f64).round() as i64;
    Ok(Repair { strip_nuls: request.strip_nuls, offset: offset.transpose()?, shift })
}

/// Finds out what would become of dead letters that are replayed now.
fn try_out(letters: &[Letter], limits: &Limits, answer: &mut ReplayResponse) {
    let now = chrono::Utc::now().timestamp_micros();
    for letter in letters {
        match fault(letter, limits, now) {
            None => answer.usable += 1,
            Some((reason, detail)) if answer.faults.len() < FAULTS => {
                let (identity, reason) = (letter.identity.to_string(), reason.as_str().to_owned());
                answer.faults.push(ReplayFault { identity, reason, detail });
            }
            Some(_) => {}
        }
    }
}

/// Why a dead letter would become one again; none if it would be stored.
fn fault(letter: &Letter, limits: &Limits, now: i64) -> Option<payload::Fault> {
    if letter.kind != Kind::Telemetry {
        return match payload::parse(letter.kind, &letter.device_id, &letter.payload) {
            Ok(payload::Payload::Heartbeat(beat)) => {
                beat.ts.and_then(|ts| payload::check_clock(ts.0, now, limits.max_future).err())
            }
            Ok(_) => None,
            Err(fault) => Some(fault),
        };
    }
    let facts = RecordFacts {
        device_id: &letter.device_id,
        kind: letter.kind.as_str(),
        topic: &letter.topic,
        received_at: now,
        epoch: 0,
        position: Position { partition: 0, offset: 0 },
    };
    let mut first = None;
    let source = Source { facts, payload: &letter.payload, resolved_ts: None };
    Decoder::new(*limits, Arc::default()).push(&source, &mut |letter| {
        let DeadLetter { reason, detail, .. } = letter;
        first.get_or_insert((reason, detail));
    });
    first
}

/// Dead letters to replay at most.
fn limit(request: &ReplayRequest) -> Result<i64, ApiError> {
    let limit = request.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) || request.identities.len() > IDENTITIES {
        let text = format!("1 to {MAX_LIMIT}; {IDENTITIES} identities at most");
        return Err(ApiError::field("limit", text));
    }
    Ok(limit)
}

async fn filter(
    control: &Control,
    caller: &Caller,
    request: &ReplayRequest,
) -> Result<LetterFilter, ApiError> {
    let identity = |text: &String| {
        let bad = || ApiError::field("identities", "each is epoch:partition:offset:item");
        Identity::parse(text).ok_or_else(bad)
    };
    let identities = request.identities.iter().map(identity).collect::<Result<Vec<_>, _>>()?;
    if request.reason.as_deref().is_some_and(|reason| Reason::parse(reason).is_none()) {
        let all = Reason::ALL.map(Reason::as_str).join(", ");
        return Err(ApiError::field("reason", format!("one of {all}")));
    }
    if request.kind.as_deref().is_some_and(|kind| Kind::parse(kind).is_none()) {
        return Err(ApiError::field("kind", "telemetry, heartbeat, status, alerts or register"));
    }
    let given = request.device_id.is_some()
        || request.reason.is_some()
        || request.kind.is_some()
        || request.from.is_some()
        || request.to.is_some()
        || !identities.is_empty();
    if !given {
        return Err(ApiError::field("reason", "give at least one condition"));
    }
    let devices = match caller.scope() {
        Some(scope) => Some(control.scoped_device_ids(scope).await?),
        None => None,
    };
    Ok(LetterFilter {
        device_id: request.device_id.clone(),
        reason: request.reason.clone(),
        kind: request.kind.clone(),
        from: request.from.map(|at| at.timestamp_micros()),
        to: request.to.map(|at| at.timestamp_micros()),
        identities,
        devices,
        after: None,
        limit: PAGE,
    })
}
