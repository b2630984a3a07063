//! What a client may ask for, and whether it may.

use std::{collections::HashMap, time::Duration};

use acuvim_schemas::reading::{LOAD_TYPE, READINGS};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    access::{covers, visible},
    event::EventKind,
    hub::Connection,
    outbound::{Asked, Visible},
    position::Position,
};
use crate::App;

/// The argument of `Subscribe`. Without devices and groups it is everything that the caller sees.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Subscribe {
    /// These devices.
    pub device_ids: Vec<String>,
    /// The devices of these groups.
    pub group_ids: Vec<Uuid>,
    /// These readings alone.
    pub fields: Vec<String>,
    /// Readings of a device a second, at most.
    pub max_rate: Option<f64>,
    /// These events alone.
    pub types: Vec<String>,
    /// The position behind which to go on: on a connection's first subscription.
    pub since: Option<String>,
    /// Whether to be told positions, to go on behind them later.
    pub positions: bool,
}

/// The argument of `Unsubscribe`. Without devices and groups it ends everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Unsubscribe {
    /// These devices.
    pub device_ids: Vec<String>,
    /// These groups.
    pub group_ids: Vec<Uuid>,
}

/// The rates that may be asked for, a second.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

impl Subscribe {
    /// What it comes to, or what is wrong with it.
    pub fn asked(&self) -> Result<Asked, String> {
        let mut fields: Vec<&'static str> = Vec::new();
        for name in &self.fields {
            let mut known = READINGS.iter().map(|r| r.name).chain([LOAD_TYPE]);
            let known = known.find(|known| known == name).ok_or_else(|| {
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
        Ok(Asked {
            devices: self.device_ids.iter().map(|id| id.as_str().into()).collect(),
            groups: self.group_ids.iter().copied().collect(),
            whole: self.device_ids.is_empty() && self.group_ids.is_empty(),
            kinds: (!kinds.is_empty()).then(|| kinds.into_iter().collect()),
            fields: (!fields.is_empty()).then(|| fields.into()),
            interval,
        })
    }

    /// The position behind which to go on.
    pub fn since(&self) -> Result<Option<Position>, String> {
        let decode = |text: &String| {
            Position::decode(text).ok_or_else(|| "`since` is not a position of this system".into())
        };
        self.since.as_ref().map(decode).transpose()
    }

    /// What a connection would get by it, or what is wrong with it.
    pub async fn covers(
        &self,
        app: &App,
        connection: &Connection,
    ) -> Result<(Asked, Visible), String> {
        let asked = self.asked()?;
        let scope = connection.caller().scope;
        let away = |error: acuvim_control::Error| {
            tracing::info!(%error, "a subscription met a database that is away");
            "the control database is away; try again".to_owned()
        };
        let visible = visible(app, scope.as_ref()).await.map_err(away)?;
        if let Some(visible) = &visible
            && let Some(other) = asked.devices.iter().find(|id| !visible.contains(*id))
        {
            return Err(format!("there is no device `{other}`"));
        }
        for group in &asked.groups {
            if app.control().group(*group, scope.as_ref()).await.map_err(away)?.is_none() {
                return Err(format!("there is no group `{group}`"));
            }
        }
        let covers = covers(app, &asked, &visible, &mut HashMap::new()).await.map_err(away)?;
        Ok((asked, covers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Result<Asked, String> {
        serde_json::from_str::<Subscribe>(json).map_err(|e| e.to_string())?.asked()
    }

    #[test]
    fn what_is_asked_for_is_said_or_refused_by_name() {
        assert!(asked("{}").expect("everything").whole);
        let one = asked(
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
            let error = asked(bad).expect_err(bad);
            assert!(error.to_lowercase().contains(&word.to_lowercase()), "{bad}: {error}");
        }
        let since = Subscribe { since: Some("x".into()), ..Subscribe::default() };
        assert!(since.since().is_err());
    }
}
