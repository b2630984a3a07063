//! Commissioning many devices at once: a CSV of them in, one with their secrets out.

use acuvim_control::{Control, Created};
use acuvim_model::{
    NewDevice, Role,
    problem::{Code, Problem},
};
use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    auth::Caller,
    checks,
    extract::{media_type, read},
    problem::ApiError,
};

/// Bytes and devices of the largest file.
const MAX_BYTES: usize = 4 << 20;
const MAX_ROWS: usize = 2000;

/// A line of the file. Tags are separated by `;`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    device_id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    group_id: Option<Uuid>,
    #[serde(default)]
    tags: Option<String>,
    #[serde(default)]
    nominal_voltage_v: Option<f64>,
    #[serde(default)]
    nominal_frequency_hz: Option<f64>,
    #[serde(default)]
    max_power_kw: Option<f64>,
    #[serde(default)]
    counter_end: Option<f64>,
    #[serde(default)]
    time_zone: Option<String>,
}

impl From<Line> for NewDevice {
    fn from(line: Line) -> Self {
        let tags = line.tags.unwrap_or_default();
        Self {
            device_id: line.device_id,
            name: line.name,
            description: line.description,
            group_id: line.group_id,
            tags: tags
                .split(';')
                .map(str::trim)
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
                .collect(),
            nominal_voltage_v: line.nominal_voltage_v,
            nominal_frequency_hz: line.nominal_frequency_hz,
            max_power_kw: line.max_power_kw,
            counter_end: line.counter_end,
            time_zone: line.time_zone,
        }
    }
}

/// Make devices from a CSV with a header line of `device_id` and any of `name`, `description`,
/// `group_id`, `tags` (separated by `;`), `nominal_voltage_v`, `nominal_frequency_hz`,
/// `max_power_kw`, `counter_end` and `time_zone`. Every line is checked before the first device is made, and all are made at once or none. The answer is a CSV of
/// `device_id`, `mqtt_username`, `mqtt_password` and `result` (`created`, or why not): the only time
/// that the secrets are shown.
#[utoipa::path(post, path = "/api/devices/import", tag = "devices",
    request_body(content = String, content_type = "text/csv",
        example = "device_id,name,nominal_voltage_v\nACV-AABBCCDDEEFF,Feeder 2,230\n"),
    responses((status = 200, content_type = "text/csv", body = String),
        (status = 400, body = Problem)))]
pub(crate) async fn import(
    State(control): State<Control>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require_all(Role::Admin)?;
    if media_type(request.headers()).as_deref() != Some("text/csv") {
        let detail = "send the file as Content-Type: text/csv";
        return Err(ApiError::new(Code::UnsupportedMediaType, detail));
    }
    let devices = parse(&read(request.into_body(), MAX_BYTES).await?)?;
    let by = caller.by();
    // No cell needs protection against spreadsheet formulas here, and a secret must stay as it is.
    let mut out = csv::Writer::from_writer(Vec::new());
    let broken = |e: csv::Error| ApiError::internal(&e);
    out.write_record(["device_id", "mqtt_username", "mqtt_password", "result"]).map_err(broken)?;
    let created = control.create_devices(&devices, &by).await?;
    for (device, created) in devices.iter().zip(created) {
        let id = &device.device_id;
        let line = match created {
            Created::Done(created) => {
                [id, &created.credentials.username, &created.credentials.password, "created"]
                    .map(str::to_owned)
            }
            Created::Taken => [id, "", "", "it is there already"].map(str::to_owned),
            Created::NoGroup => [id, "", "", "there is no such group"].map(str::to_owned),
        };
        out.write_record(&line).map_err(broken)?;
    }
    let body = out.into_inner().map_err(|e| ApiError::internal(&e.error()))?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"devices.csv\""),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}

/// The devices of a file. An error names the first line that is wrong.
fn parse(file: &[u8]) -> Result<Vec<NewDevice>, ApiError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    let mut devices = Vec::new();
    for (n, line) in reader.deserialize::<Line>().enumerate() {
        // The header is the first line.
        let place = format!("line {}", n + 2);
        if n >= MAX_ROWS {
            return Err(ApiError::field(&place, format!("at most {MAX_ROWS} devices at once")));
        }
        let device: NewDevice =
            line.map_err(|error| ApiError::field(&place, error.to_string()))?.into();
        let checked = checks::device_id("device_id", &device.device_id)
            .and_then(|()| checks::device_edit(&device.as_edit()));
        checked.map_err(|error| ApiError::field(&place, error.problem.detail))?;
        devices.push(device);
    }
    if devices.is_empty() {
        return Err(ApiError::field("body", "a header line and at least one device"));
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_devices_and_a_bad_one_is_named() {
        let file = "device_id,name,tags,nominal_voltage_v\nd1,Feeder 2,a; b,230\nd2,,,\n";
        let devices = parse(file.as_bytes()).expect("good");
        assert_eq!(devices.len(), 2);
        assert_eq!(devices[0].tags, ["a", "b"]);
        assert_eq!((devices[1].name.as_deref(), devices[1].nominal_voltage_v), (None, None));
        for (file, says) in [
            ("", "at least one"),
            ("device_id\n", "at least one"),
            ("device_id\nd1\na b\n", "line 3: device_id"),
            ("device_id,nominal_voltage_v\nd1,x\n", "line 2"),
            ("device_id,colour\nd1,red\n", "colour"),
            ("device_id,time_zone\nd1,Mars/Base\n", "line 2: time_zone"),
        ] {
            let error = parse(file.as_bytes()).expect_err(file);
            assert!(error.problem.detail.contains(says), "{file}: {}", error.problem.detail);
        }
    }
}
