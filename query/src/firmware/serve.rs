//! Serving an image: whole or a range of it, out of memory, once it is known to be what was uploaded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use acuvim_control::{Control, StoredFirmware, SystemCondition};
use acuvim_firmware_registry::ErrorKind;
use acuvim_schemas::{api::Firmware, payload::Severity, problem::Code};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::{FirmwareCaller, no_firmware};
use crate::{App, auth::now, problem::ApiError};

/// How long a device's right to a version is taken as known: a download in small ranges asks hundreds
/// of times.
const HOLDS: Duration = Duration::from_secs(5);

/// Rights that are remembered; beyond, those that are over are let go.
const MOST: usize = 20_000;

/// Devices' rights to versions, as they were a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Passes(Mutex<HashMap<(String, String), Pass>>);

#[derive(Debug, Clone)]
struct Pass {
    firmware: Arc<StoredFirmware>,
    until: Instant,
    /// Whether it is noted that the device has begun.
    began: bool,
}

impl Passes {
    fn get(&self, key: &(String, String)) -> Option<Pass> {
        let passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passes.get(key).filter(|pass| pass.until > Instant::now()).cloned()
    }

    fn put(&self, key: (String, String), pass: Pass) {
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if passes.len() >= MOST {
            let now = Instant::now();
            passes.retain(|_, pass| pass.until > now);
        }
        if passes.len() < MOST {
            passes.insert(key, pass);
        }
    }

    /// Forgets a version: it was changed.
    pub(crate) fn forget(&self, version: &str) {
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        passes.retain(|(_, of), _| of != version);
    }
}

/// Answers a download.
pub(crate) async fn serve(
    app: &App,
    caller: &FirmwareCaller,
    version: &str,
    (method, headers): (&Method, &HeaderMap),
) -> Result<Response, ApiError> {
    let (firmware, pass) = match caller {
        FirmwareCaller::Person(_) => {
            let found = app.control().firmware(version).await?;
            (Arc::new(found.ok_or_else(no_firmware)?), None)
        }
        FirmwareCaller::Device(device_id) => {
            let key = (device_id.clone(), version.to_owned());
            let pass = match app.passes.get(&key) {
                Some(pass) => pass,
                None => admitted(app, device_id, version).await?,
            };
            (Arc::clone(&pass.firmware), Some((key, pass)))
        }
    };
    let bytes = trusted(app, &firmware).await?;
    let (mut response, range) = answer(&firmware.firmware, &bytes, headers);
    if let Some((key, mut pass)) = pass {
        if let Some((from, to)) = range.filter(|_| *method != Method::HEAD) {
            if !pass.began {
                app.control().note_fetched(&key.0, version, false).await?;
            }
            pass.began = true;
            if to == bytes.len() {
                let noted = note_end(app.control().clone(), key.clone());
                *response.body_mut() = followed(bytes.slice(from..to), noted);
                put(response.headers_mut(), header::CONTENT_LENGTH, &(to - from).to_string());
            }
        }
        app.passes.put(key, pass);
    }
    Ok(response)
}

/// Bytes that are handed on at a time where it matters when the last has gone.
const CHUNK: usize = 16 << 10;

/// A body that does something once all of it was taken.
fn followed(bytes: Bytes, then: impl Future<Output = ()> + Send + 'static) -> Body {
    let chunks = stream::unfold(bytes, |mut left| async move {
        let chunk = left.split_to(CHUNK.min(left.len()));
        (!chunk.is_empty()).then_some((Ok::<_, std::io::Error>(chunk), left))
    });
    let end = stream::once(async move {
        tokio::spawn(then);
        Ok(Bytes::new())
    });
    Body::from_stream(chunks.chain(end))
}

/// Notes that a device has got the end of an image.
async fn note_end(control: Control, (device_id, version): (String, String)) {
    if let Err(error) = control.note_fetched(&device_id, &version, true).await {
        // Its answer to the command says the same.
        tracing::debug!(%error, device_id, "the end of a download was not noted");
    }
}

/// Whether a device may have a version: a rollout has told it to, or it is there for all.
async fn admitted(app: &App, device_id: &str, version: &str) -> Result<Pass, ApiError> {
    let device = app.control().device(device_id, None).await?;
    if !device.is_some_and(|device| device.enabled) {
        return Err(ApiError::new(Code::Unauthorized, "the device is unknown or disabled"));
    }
    let firmware = app.control().firmware(version).await?.ok_or_else(no_firmware)?;
    let told = app.control().may_fetch(device_id, version).await?;
    let open = firmware.firmware.active
        && !app.control().versions_held().await?.iter().any(|held| held == version);
    if !told && !open {
        app.control().note_refused(device_id, version).await?;
        let detail =
            "this firmware is neither active nor told to this device, or its rollout is held";
        return Err(ApiError::new(Code::Forbidden, detail));
    }
    let until = Instant::now() + HOLDS;
    Ok(Pass { firmware: Arc::new(firmware), until, began: false })
}

/// The image's bytes; ones that are not what was uploaded raise an alert and are not served.
async fn trusted(app: &App, firmware: &StoredFirmware) -> Result<Bytes, ApiError> {
    let shown = &firmware.firmware;
    let size = u64::try_from(shown.file_size).unwrap_or(0);
    let images = &app.parts.firmware.images;
    match images.bytes(&firmware.object, &shown.checksum, size).await {
        Ok(bytes) => Ok(bytes),
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {
            let fault = SystemCondition {
                alert_type: "firmware_damaged",
                subject: shown.id.to_string(),
                severity: Severity::Critical,
                message: format!(
                    "The stored image of firmware {} is not what was uploaded, and is not served: \
                     delete the release and upload it again",
                    shown.version
                ),
                metadata: serde_json::json!({ "version": shown.version, "object": firmware.object }),
            };
            app.control().system_faults(&[fault], now()).await?;
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The response, and which bytes it sends.
fn answer(
    firmware: &Firmware,
    bytes: &Bytes,
    headers: &HeaderMap,
) -> (Response, Option<(usize, usize)>) {
    let etag = format!("\"{}\"", firmware.checksum);
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let matches = |list: &str| {
        list.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|t| t == etag || t == "*")
    };
    if text(header::IF_NONE_MATCH).is_some_and(matches) {
        return (described(StatusCode::NOT_MODIFIED, firmware, &etag, Body::empty()), None);
    }
    // A range of another image than the one that was begun with would be a mixture.
    let same = text(header::IF_RANGE).is_none_or(|tag| tag.trim() == etag);
    let asked = text(header::RANGE).filter(|_| same).and_then(|r| range(r, bytes.len()));
    match asked {
        None => {
            let response = described(StatusCode::OK, firmware, &etag, Body::from(bytes.clone()));
            (response, Some((0, bytes.len())))
        }
        Some(Ok((from, to))) => {
            let part = Body::from(bytes.slice(from..to));
            let mut response = described(StatusCode::PARTIAL_CONTENT, firmware, &etag, part);
            let shown = format!("bytes {from}-{}/{}", to.saturating_sub(1), bytes.len());
            put(response.headers_mut(), header::CONTENT_RANGE, &shown);
            (response, Some((from, to)))
        }
        Some(Err(())) => {
            let detail = format!("the image has {} bytes", bytes.len());
            let mut response = ApiError::new(Code::RangeNotSatisfiable, detail).into_response();
            put(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", bytes.len()));
            (response, None)
        }
    }
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn described(status: StatusCode, firmware: &Firmware, etag: &str, body: Body) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    put(headers, header::CONTENT_TYPE, "application/octet-stream");
    put(headers, header::ACCEPT_RANGES, "bytes");
    put(headers, header::ETAG, etag);
    put(headers, header::CACHE_CONTROL, "private, no-cache");
    let name = format!("attachment; filename=\"{}\"", firmware.filename);
    put(headers, header::CONTENT_DISPOSITION, &name);
    // RFC 3230 and RFC 9530: of the whole image, also with a part of it.
    let hash = STANDARD.encode(unhex(&firmware.checksum));
    put(headers, header::HeaderName::from_static("digest"), &format!("sha-256={hash}"));
    put(headers, header::HeaderName::from_static("repr-digest"), &format!("sha-256=:{hash}:"));
    response
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    let (pairs, _) = digits.as_chunks::<2>();
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}

/// One range of so many bytes (RFC 9110, 14.1.2), the end exclusive. None: it is not understood, or
/// there are several, and the whole is sent; an error: it can't be satisfied.
fn range(text: &str, length: usize) -> Option<Result<(usize, usize), ()>> {
    let spec = text.trim().strip_prefix("bytes=")?.trim();
    let (from, to) = spec.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<usize>().unwrap_or(usize::MAX))
    };
    match (from.trim(), to.trim()) {
        ("", last) => match number(last)? {
            0 => Some(Err(())),
            n => Some(Ok((length.saturating_sub(n), length))),
        },
        (first, last) => {
            let first = number(first)?;
            let last = if last.is_empty() { usize::MAX } else { number(last)? };
            if last < first {
                return None;
            }
            let end = last.saturating_add(1).min(length);
            Some(if first < length { Ok((first, end)) } else { Err(()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_rfc_9110_has_them() {
        for (text, want) in [
            ("bytes=0-3", Some(Ok((0, 4)))),
            ("bytes=4-", Some(Ok((4, 10)))),
            ("bytes=-4", Some(Ok((6, 10)))),
            ("bytes=-40", Some(Ok((0, 10)))),
            ("bytes=9-99", Some(Ok((9, 10)))),
            ("bytes=0-99999999999999999999999", Some(Ok((0, 10)))),
            ("bytes=10-", Some(Err(()))),
            ("bytes=99999999999999999999999-", Some(Err(()))),
            ("bytes=-0", Some(Err(()))),
            ("bytes=3-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=+1-2", None),
            ("bytes=a-b", None),
            ("bytes=", None),
            ("lines=0-3", None),
        ] {
            assert_eq!(range(text, 10), want, "{text}");
        }
    }
}
