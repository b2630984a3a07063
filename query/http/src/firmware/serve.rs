//! Serving an image, whole or a range of it, out of memory, after checking that it is the uploaded one.

use std::ops::Range;

use acuvim_control::{Control, StoredFirmware, SystemCondition};
use acuvim_firmware_registry::ErrorKind;
use acuvim_model as api;
use acuvim_model::problem::Code;
use acuvim_wire::payload::Severity;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::{
    caller::FirmwareCaller,
    error::no_firmware,
    passes::{Pass, PassKey},
    service::Firmware,
};
use crate::{clock::now, problem::ApiError};

/// A request for an image.
#[derive(Debug)]
pub(crate) struct DownloadRequest<'a> {
    pub caller: FirmwareCaller,
    pub version: &'a str,
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
}

impl Firmware {
    /// Answers a download.
    pub(crate) async fn serve(&self, request: &DownloadRequest<'_>) -> Result<Response, ApiError> {
        let version = request.version;
        match &request.caller {
            FirmwareCaller::Person(_) => {
                let found = self.0.control.firmware(version).await?.ok_or_else(no_firmware)?;
                let bytes = self.trusted(&found).await?;
                Ok(answer(&found.firmware, &bytes, request.headers).response)
            }
            FirmwareCaller::Device(device_id) => {
                let key = PassKey { device_id: device_id.clone(), version: version.to_owned() };
                let pass = match self.0.passes.get(&key) {
                    Some(pass) => pass,
                    None => self.admitted(&key).await?,
                };
                self.serve_device(request, key, pass).await
            }
        }
    }

    /// Answers a device's download, and stores that it has begun and ended.
    async fn serve_device(
        &self,
        request: &DownloadRequest<'_>,
        key: PassKey,
        mut pass: Pass,
    ) -> Result<Response, ApiError> {
        let bytes = self.trusted(&pass.firmware).await?;
        let Answer { mut response, range } =
            answer(&pass.firmware.firmware, &bytes, request.headers);
        // A HEAD transfers nothing, and so is no part of a download.
        if let Some(range) = range.filter(|_| *request.method != Method::HEAD) {
            if !pass.began {
                self.0.control.note_fetched(&key.device_id, &key.version, false).await?;
            }
            pass.began = true;
            if range.end == bytes.len() {
                let length = range.len().to_string();
                let end = store_end(self.0.control.clone(), key.clone());
                *response.body_mut() = followed(bytes.slice(range), end);
                put(response.headers_mut(), header::CONTENT_LENGTH, &length);
            }
        }
        self.0.passes.put(key, pass);
        Ok(response)
    }

    /// The right of a device to a version: it was told to take it by a rollout, or the version is open to all.
    async fn admitted(&self, key: &PassKey) -> Result<Pass, ApiError> {
        let PassKey { device_id, version } = key;
        let control = &self.0.control;
        let device = control.device(device_id, None).await?;
        if !device.is_some_and(|device| device.enabled) {
            return Err(ApiError::new(Code::Unauthorized, "the device is unknown or disabled"));
        }
        let firmware = control.firmware(version).await?.ok_or_else(no_firmware)?;
        let is_told = control.may_fetch(device_id, version).await?;
        let is_open = firmware.firmware.active
            && !control.versions_held().await?.iter().any(|held| held == version);
        if !is_told && !is_open {
            control.note_refused(device_id, version).await?;
            let detail =
                "this firmware is neither active nor told to this device, or its rollout is held";
            return Err(ApiError::new(Code::Forbidden, detail));
        }
        Ok(Pass::new(firmware))
    }

    /// The image's bytes. If they are not those that were uploaded, they are not served, and an alert is
    /// raised.
    async fn trusted(&self, firmware: &StoredFirmware) -> Result<Bytes, ApiError> {
        let shown = &firmware.firmware;
        let size = u64::try_from(shown.file_size).unwrap_or(0);
        match self.0.images.bytes(&firmware.object, &shown.checksum, size).await {
            Ok(bytes) => Ok(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {
                let fault = damaged(firmware);
                self.0.control.system_faults(&[fault], now()).await?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn damaged(firmware: &StoredFirmware) -> SystemCondition {
    let shown = &firmware.firmware;
    SystemCondition {
        alert_type: "firmware_damaged",
        subject: shown.id.to_string(),
        severity: Severity::Critical,
        message: format!(
            "The stored image of firmware {} is not what was uploaded, and is not served: \
             delete the release and upload it again",
            shown.version
        ),
        metadata: serde_json::json!({ "version": shown.version, "object": firmware.object }),
    }
}

/// Bytes of a piece of a body whose end is recorded: small, so that the last one leaves when it is sent.
const PIECE: usize = 16 << 10;

/// A body that runs a future once all of it was taken.
fn followed(bytes: Bytes, then: impl Future<Output = ()> + Send + 'static) -> Body {
    let pieces = stream::unfold(bytes, |mut left| async move {
        let piece = left.split_to(PIECE.min(left.len()));
        (!piece.is_empty()).then_some((Ok::<_, std::io::Error>(piece), left))
    });
    let end = stream::once(async move {
        tokio::spawn(then);
        Ok(Bytes::new())
    });
    Body::from_stream(pieces.chain(end))
}

/// Stores that a device has got the end of an image.
async fn store_end(control: Control, key: PassKey) {
    let PassKey { device_id, version } = key;
    if let Err(error) = control.note_fetched(&device_id, &version, true).await {
        // The device's answer to the command tells the same.
        tracing::debug!(%error, device_id, "the end of a download was not stored");
    }
}

/// A response, and the bytes of the image that it sends.
struct Answer {
    response: Response,
    range: Option<Range<usize>>,
}

fn answer(firmware: &api::Firmware, bytes: &Bytes, headers: &HeaderMap) -> Answer {
    let etag = format!("\"{}\"", firmware.checksum);
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let matches = |list: &str| {
        list.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|t| t == etag || t == "*")
    };
    if text(header::IF_NONE_MATCH).is_some_and(matches) {
        let response = described(StatusCode::NOT_MODIFIED, firmware, &etag, Body::empty());
        return Answer { response, range: None };
    }
    // A range of another image than the one that the download began with would make a mixture of both.
    let same = text(header::IF_RANGE).is_none_or(|tag| tag.trim() == etag);
    let asked = text(header::RANGE).filter(|_| same).and_then(|r| range(r, bytes.len()));
    match asked {
        None => {
            let response = described(StatusCode::OK, firmware, &etag, Body::from(bytes.clone()));
            Answer { response, range: Some(0..bytes.len()) }
        }
        Some(Ok(range)) => {
            let part = Body::from(bytes.slice(range.clone()));
            let mut response = described(StatusCode::PARTIAL_CONTENT, firmware, &etag, part);
            let (first, last) = (range.start, range.end.saturating_sub(1));
            let shown = format!("bytes {first}-{last}/{}", bytes.len());
            put(response.headers_mut(), header::CONTENT_RANGE, &shown);
            Answer { response, range: Some(range) }
        }
        Some(Err(Unsatisfiable)) => {
            let detail = format!("the image has {} bytes", bytes.len());
            let mut response = ApiError::new(Code::RangeNotSatisfiable, detail).into_response();
            put(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", bytes.len()));
            Answer { response, range: None }
        }
    }
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn described(status: StatusCode, firmware: &api::Firmware, etag: &str, body: Body) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    put(headers, header::CONTENT_TYPE, "application/octet-stream");
    put(headers, header::ACCEPT_RANGES, "bytes");
    put(headers, header::ETAG, etag);
    put(headers, header::CACHE_CONTROL, "private, no-cache");
    let name = format!("attachment; filename=\"{}\"", firmware.filename);
    put(headers, header::CONTENT_DISPOSITION, &name);
    // RFC 3230 and RFC 9530: the hash of the whole image, also with a range of it.
    let hash = STANDARD.encode(hex::decode(&firmware.checksum).unwrap_or_default());
    put(headers, header::HeaderName::from_static("digest"), &format!("sha-256={hash}"));
    put(headers, header::HeaderName::from_static("repr-digest"), &format!("sha-256=:{hash}:"));
    response
}

/// A range of which an image has no byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unsatisfiable;

/// The one range that a header names (RFC 9110, 14.1.2). None if it is not understood or names several: then
/// the whole image is sent.
fn range(text: &str, length: usize) -> Option<Result<Range<usize>, Unsatisfiable>> {
    let spec = text.trim().strip_prefix("bytes=")?.trim();
    let (from, to) = spec.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<usize>().unwrap_or(usize::MAX))
    };
    match (from.trim(), to.trim()) {
        ("", last) => match number(last)? {
            0 => Some(Err(Unsatisfiable)),
            n => Some(Ok(length.saturating_sub(n)..length)),
        },
        (first, last) => {
            let first = number(first)?;
            let last = if last.is_empty() { usize::MAX } else { number(last)? };
            if last < first {
                return None;
            }
            let end = last.saturating_add(1).min(length);
            Some(if first < length { Ok(first..end) } else { Err(Unsatisfiable) })
        }
    }
}

#[cfg(test)]
mod tests;
