//! A device's latest reading as JSON: for one device, for the fleet's list and for live events.
//!
//! `{"device_id":…,"ts":…,"received_at":…,"source":…,"connection":…,"data":{…}}`, an
//! [`acuvim_model::LatestReading`]. Readings that a row lacks are not in `data`.

use acuvim_wire::reading::{LOAD_TYPE, READINGS};
use arrow::array::{AsArray as _, RecordBatch};

use super::cells::Cells;

/// The members before `data`; one that the row lacks is null.
const HEAD: [&str; 5] = ["device_id", "ts", "received_at", "source", "connection"];

/// The names of everything that may be in `data`.
pub fn reading_names() -> impl Iterator<Item = &'static str> {
    READINGS.iter().map(|reading| reading.name).chain([LOAD_TYPE])
}

/// Rows of `telemetry` that are to be written as readings.
pub struct ReadingRows<'a> {
    rows: &'a RecordBatch,
    head: Vec<Member<'a>>,
    data: Vec<Member<'a>>,
}

/// A column, and its key as it stands in the object.
struct Member<'a> {
    name: &'static str,
    key: Vec<u8>,
    cells: Cells<'a>,
}

/// One reading in parts, for callers that send only some members of `data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingParts {
    /// The device that sent it.
    pub device_id: String,
    /// The object up to its last member, `data`.
    pub head: String,
    /// The members of `data` by name, each as `"name":value`.
    pub data: Vec<(&'static str, String)>,
}

impl std::fmt::Debug for ReadingRows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadingRows").field("rows", &self.rows.num_rows()).finish_non_exhaustive()
    }
}

impl<'a> ReadingRows<'a> {
    /// Rows of `telemetry`, with these names in `data`.
    pub fn new(rows: &'a RecordBatch, names: impl IntoIterator<Item = &'static str>) -> Self {
        let member = |name: &'static str| {
            let column = rows.column_by_name(name)?;
            let key = format!("\"{name}\":").into_bytes();
            Some(Member { name, key, cells: Cells::of(column, false) })
        };
        Self {
            rows,
            head: HEAD.into_iter().filter_map(member).collect(),
            data: names.into_iter().filter_map(member).collect(),
        }
    }

    /// Writes a row's object.
    pub fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        self.write_head(row, out);
        out.extend_from_slice(b"\"data\":{");
        let mut is_first = true;
        for Member { key, cells, .. } in &mut self.data {
            let at = out.len();
            if !is_first {
                out.push(b',');
            }
            if cells.json(row, key, out) {
                is_first = false;
            } else {
                out.truncate(at);
            }
        }
        out.extend_from_slice(b"}}");
    }

    /// Writes every row's object, with a comma between two: the items of a list.
    pub fn write_all(&mut self, out: &mut Vec<u8>) {
        for row in 0..self.rows.num_rows() {
            if row > 0 {
                out.push(b',');
            }
            self.write(row, out);
        }
    }

    /// A row in parts.
    pub fn parts(&mut self, row: usize) -> ReadingParts {
        let mut head = Vec::new();
        self.write_head(row, &mut head);
        let mut data = Vec::with_capacity(self.data.len());
        for Member { name, key, cells } in &mut self.data {
            let mut cell = Vec::with_capacity(key.len() + 10);
            if cells.json(row, key, &mut cell) {
                data.push((*name, text(cell)));
            }
        }
        ReadingParts { device_id: self.device_id(row), head: text(head), data }
    }

    fn device_id(&self, row: usize) -> String {
        let ids = self.rows.column_by_name("device_id").and_then(|ids| ids.as_string_opt::<i32>());
        ids.map(|ids| ids.value(row).to_owned()).unwrap_or_default()
    }

    fn write_head(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for Member { key, cells, .. } in &mut self.head {
            if !cells.json(row, key, out) {
                out.extend_from_slice(key);
                out.extend_from_slice(b"null");
            }
            out.push(b',');
        }
    }
}

/// The encoders write JSON, which is UTF-8.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use acuvim_model::LatestReading;
    use arrow::array::{ArrayRef, Decimal128Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn rows() -> RecordBatch {
        let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value, None])) as ArrayRef;
        let ids = Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef;
        let times = TimestampMicrosecondArray::from(vec![0, 1_000_001]).with_timezone("UTC");
        let times = Arc::new(times) as ArrayRef;
        let volts = Decimal128Array::from(vec![Some(2304), None]);
        let volts = Arc::new(volts.with_precision_and_scale(9, 1).expect("fits")) as ArrayRef;
        RecordBatch::try_from_iter([
            ("device_id", ids),
            ("ts", Arc::clone(&times)),
            ("received_at", times),
            ("source", text(Some("sd"))),
            ("connection", text(None)),
            ("voltage_l1_v", volts),
            ("load_type", text(Some("say \"L\""))),
        ])
        .expect("rows")
    }

    #[test]
    fn a_row_is_a_latest_reading_whole_and_in_parts() {
        let rows = rows();
        let mut readings = ReadingRows::new(&rows, reading_names());
        let mut list = b"[".to_vec();
        readings.write_all(&mut list);
        list.push(b']');
        let read: Vec<LatestReading> = serde_json::from_slice(&list).expect("readings");
        assert_eq!(read[0].data["voltage_l1_v"], 230.4);
        assert_eq!(read[0].data["load_type"], "say \"L\"");
        assert_eq!((read[0].source.as_deref(), &read[0].connection), (Some("sd"), &None));
        assert_eq!((read[1].ts.as_str(), read[1].data.len()), ("1970-01-01T00:00:01.000001Z", 0));
        let parts = readings.parts(0);
        let members: Vec<String> = parts.data.into_iter().map(|(_, member)| member).collect();
        let whole = format!("{}\"data\":{{{}}}}}", parts.head, members.join(","));
        assert_eq!(serde_json::from_str::<LatestReading>(&whole).expect("a reading"), read[0]);
        assert_eq!(parts.device_id, "a");
    }

    #[test]
    fn only_the_names_that_are_asked_for_are_written() {
        let rows = rows();
        let mut out = Vec::new();
        ReadingRows::new(&rows, ["load_type"]).write(0, &mut out);
        let read: LatestReading = serde_json::from_slice(&out).expect("a reading");
        assert_eq!(read.data.keys().collect::<Vec<_>>(), ["load_type"]);
    }
}
