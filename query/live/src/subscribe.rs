//! Subscriptions as clients request them, limited to what the client may see.

use std::time::Duration;

use acuvim_query_sql::encode::reading_names;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    access::{GroupMembers, covered, visible},
    connection::Connection,
    event::EventKind,
    outbound::{EventFilter, Visible},
    position::StreamPosition,
    state::Live,
};

/// The argument of `Subscribe`. Without devices and groups it selects everything that the caller sees.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Subscribe {
    /// Ids of devices, each of which the caller has to see.
    pub device_ids: Vec<String>,
    /// Groups, for all of their devices.
    pub group_ids: Vec<Uuid>,
    /// Only these members of a reading's `data`.
    pub fields: Vec<String>,
    /// Readings a second of one device, at most.
    pub max_rate: Option<f64>,
    /// Only these kinds of events.
    pub types: Vec<String>,
    /// The position to go on from; only on a connection's first subscription.
    pub since: Option<String>,
    /// Whether to get positions, to go on from later.
    pub positions: bool,
}

/// The argument of `Unsubscribe`. Without devices and groups it ends all subscriptions.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Unsubscribe {
    /// Devices to remove from all subscriptions.
    pub device_ids: Vec<String>,
    /// Groups to remove from them.
    pub group_ids: Vec<Uuid>,
}

/// What a subscription selects, and the devices that this covers now.
#[derive(Debug)]
pub(crate) struct Selection {
    pub filter: EventFilter,
    pub covers: Visible,
}

/// Rates that may be asked for, in readings a second.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

impl Subscribe {
    /// The filter that it means, or what is wrong with it.
    fn filter(&self) -> Result<EventFilter, String> {
        let mut fields: Vec<&'static str> = Vec::new();
        for name in &self.fields {
            let known = reading_names().find(|known| known == name).ok_or_else(|| {
                format!("there is no reading `{name}`; GET /api/sql/tables lists them")
            })?;
            if !fields.contains(&known) {
                fields.push(known);
            }
        }
        let kind = |name: &String| {
            let all: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
            EventKind::parse(name)
                .ok_or_else(|| format!("there is no event `{name}`: there are {}", all.join(", ")))
        };
        let kinds: Vec<EventKind> = self.types.iter().map(kind).collect::<Result<_, _>>()?;
        let interval = match self.max_rate {
            None => Duration::ZERO,
            Some(rate) if RATES.contains(&rate) => Duration::from_secs_f64(1.0 / rate),
            Some(_) => return Err("max_rate is 0.001 to 1000 readings of a device a second".into()),
        };
        Ok(EventFilter {
            devices: self.device_ids.iter().map(|id| id.as_str().into()).collect(),
            groups: self.group_ids.iter().copied().collect(),
            whole: self.device_ids.is_empty() && self.group_ids.is_empty(),
            kinds: (!kinds.is_empty()).then(|| kinds.into_iter().collect()),
            fields: (!fields.is_empty()).then(|| fields.into()),
            interval,
        })
    }

    /// The position to go on from.
    pub(crate) fn since(&self) -> Result<Option<StreamPosition>, String> {
        let decode = |text: &String| {
            StreamPosition::decode(text)
                .ok_or_else(|| "`since` is not a position of this system".into())
        };
        self.since.as_ref().map(decode).transpose()
    }

    /// What it would give a connection, or what is wrong with it.
    pub(crate) async fn selection(
        &self,
        live: &Live,
        connection: &Connection,
    ) -> Result<Selection, String> {
        let filter = self.filter()?;
        let scope = connection.subscriber().scope;
        let away = |error: acuvim_control::Error| {
            tracing::info!(%error, "a subscription could not reach the control database");
            "the control database is away; try again".to_owned()
        };
        let visible = visible(live, scope.as_ref()).await.map_err(away)?;
        if let Some(visible) = &visible
            && let Some(other) = filter.devices.iter().find(|id| !visible.contains(*id))
        {
            // The same as for a device that does not exist: whether it does is not theirs to know.
            return Err(format!("there is no device `{other}`"));
        }
        for group in &filter.groups {
            if live.control().group(*group, scope.as_ref()).await.map_err(away)?.is_none() {
                return Err(format!("there is no group `{group}`"));
            }
        }
        let groups = &mut GroupMembers::new();
        let covers = covered(live, &filter, &visible, groups).await.map_err(away)?;
        Ok(Selection { filter, covers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: &str) -> Result<EventFilter, String> {
        serde_json::from_str::<Subscribe>(json).map_err(|e| e.to_string())?.filter()
    }

    #[test]
    fn what_is_asked_for_is_said_or_refused_by_name() {
        assert!(filter("{}").expect("everything").whole);
        let one = filter(
            r#"{"device_ids":["d1"],"fields":["voltage_l1_v"],"max_rate":4,"types":["AlertCreated"]}"#,
        );
        let one = one.expect("one device");
        assert!(!one.whole && one.interval == Duration::from_millis(250));
        assert_eq!(one.kinds.map(|k| k.len()), Some(1));
        for (bad, word) in [
            (r#"{"device_id":["d1"]}"#, "device_id"),
            (r#"{"device_ids":"d1"}"#, "sequence"),
            (r#"{"fields":["volts"]}"#, "volts"),
            (r#"{"types":["alertcreated"]}"#, "AlertResolved"),
            (r#"{"max_rate":0}"#, "max_rate"),
            (r#"{"max_rate":1e9}"#, "max_rate"),
            (r#"{"group_ids":["x"]}"#, "UUID"),
        ] {
            let error = filter(bad).expect_err(bad);
            assert!(error.to_lowercase().contains(&word.to_lowercase()), "{bad}: {error}");
        }
        let since = Subscribe { since: Some("x".into()), ..Subscribe::default() };
        assert!(since.since().is_err());
    }

    #[test]
    fn a_rate_is_within_its_bounds() {
        let interval = |rate: f64| {
            let subscribe = Subscribe { max_rate: Some(rate), ..Subscribe::default() };
            subscribe.filter().map(|filter| filter.interval)
        };
        assert_eq!(interval(0.001), Ok(Duration::from_secs(1000)));
        assert_eq!(interval(1000.0), Ok(Duration::from_millis(1)));
        for bad in [0.000_99, 1000.1, -1.0, f64::NAN, f64::INFINITY] {
            assert!(interval(bad).is_err_and(|e| e.contains("0.001 to 1000")), "{bad}");
        }
        let none = Subscribe::default().filter().expect("no rate");
        assert_eq!(none.interval, Duration::ZERO, "every reading");
    }

    #[test]
    fn what_is_asked_for_twice_counts_once() {
        let filter = filter(
            r#"{"device_ids":["a","a"],"fields":["voltage_l1_v","voltage_l1_v","load_type"],
                "types":["AlertCreated","AlertCreated"]}"#,
        );
        let filter = filter.expect("good");
        assert_eq!((filter.devices.len(), filter.kinds.map(|k| k.len())), (1, Some(1)));
        assert_eq!(filter.fields.as_deref(), Some(&["voltage_l1_v", "load_type"][..]));
    }

    #[test]
    fn empty_lists_are_no_choice() {
        let all = filter(r#"{"device_ids":[],"group_ids":[],"fields":[],"types":[]}"#);
        let all = all.expect("everything");
        assert!(all.whole && all.kinds.is_none() && all.fields.is_none());
        let group = filter(r#"{"group_ids":["00000000-0000-0000-0000-000000000007"]}"#);
        assert!(!group.expect("a group").whole);
    }

    #[test]
    fn a_position_to_go_on_from_reads_back() {
        let position = StreamPosition { epoch: 3, partitions: vec![] };
        let since = Subscribe { since: Some(position.encode()), ..Subscribe::default() };
        assert_eq!(since.since(), Ok(Some(position)));
        assert_eq!(Subscribe::default().since(), Ok(None));
    }
}
