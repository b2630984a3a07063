use super::*;
use serde_json::json;

/// Browsers and notebooks choose the reader by these.
#[test]
fn each_format_has_its_media_type_and_the_end_of_its_file_name() {
    for (name, media, end) in [
        ("csv", "text/csv; charset=utf-8", "csv"),
        ("ndjson", "application/x-ndjson", "ndjson"),
        ("arrow", "application/vnd.apache.arrow.stream", "arrows"),
        ("parquet", "application/vnd.apache.parquet", "parquet"),
    ] {
        let format: ExportFormat = serde_json::from_value(json!(name)).expect("a format");
        assert_eq!((format.content_type(), format.extension()), (media, end));
    }
    assert_eq!(ExportFormat::default(), ExportFormat::Csv);
    for bad in ["", "CSV", "json", "xlsx"] {
        assert!(serde_json::from_value::<ExportFormat>(json!(bad)).is_err(), "{bad}");
    }
}

#[test]
fn the_latest_reading_leaves_out_what_is_missing_and_keeps_null_metadata() {
    let json = json!({
        "device_id": "d1", "ts": "2026-05-16T17:05:32.000Z", "received_at": "2026-05-16T17:05:33.000Z",
        "source": "live", "connection": null, "data": { "voltage_l1_v": 230.4 }
    });
    let read: LatestReading = serde_json::from_value(json.clone()).expect("a reading");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), json);
}
