//! Steps of rules and conditions of devices as changes of alerts. Pure.

use acuvim_control::{AlertChange, NewAlert};
use acuvim_model::{
    AlertOrigin, RuleMode,
    event::{Marks, alert_id},
};
use acuvim_rules::{Anomaly, Condition, LiveRule, Open, Step, Stepped};
use acuvim_wire::payload::Severity;
use serde_json::json;

use crate::api_time::api_time;

/// The change that a step of a rule makes.
pub(super) fn rule_change(stepped: &Stepped, rule: &LiveRule) -> AlertChange {
    match stepped.step {
        Step::Raised(open) => {
            let Open { started, raised, flapping, .. } = open;
            let marks = Marks { started, raised, ended: None, flapping };
            AlertChange::Raise(Box::new(rule_alert(stepped, rule, open.id, marks)))
        }
        Step::Cleared { episode, end, confirmed } => {
            let marks = Marks {
                started: episode.started,
                raised: episode.raised,
                ended: Some((end, confirmed)),
                flapping: episode.flapping,
            };
            AlertChange::Clear { id: episode.id, at: api_time(end.ts), marks: Some(marks) }
        }
    }
}

/// The alert of an episode of a rule.
pub(super) fn rule_alert(
    stepped: &Stepped,
    rule: &LiveRule,
    id: uuid::Uuid,
    marks: Marks,
) -> NewAlert {
    NewAlert {
        id,
        device_id: Some(stepped.device_id.to_string()),
        alert_type: rule.body.alert_type.clone(),
        severity: rule.body.severity,
        message: stepped.message.clone(),
        value: stepped.value,
        threshold: stepped.threshold,
        metadata: marks.flapping.then(|| {
            let (count, seconds) = (rule.body.flap_count, rule.body.flap_seconds);
            json!({ "flapping": { "count": count, "seconds": seconds } })
        }),
        origin: AlertOrigin::Rule,
        rule: Some((rule.id, rule.version)),
        marks: Some(marks),
        subject: String::new(),
        shadow: rule.body.mode == RuleMode::Shadow,
        backfilled: stepped.backfilled,
        created_at: api_time(marks.started.ts),
        raised_at: api_time(marks.raised.ts),
        resolved_at: marks.ended.map(|(end, _)| api_time(end.ts)),
    }
}

/// The change that a condition of a device makes, when it begins or ends.
pub(super) fn anomaly_change(device_id: &str, condition: &Condition) -> AlertChange {
    let name = condition.anomaly.as_str();
    let id = alert_id(device_id, name, condition.since);
    if !condition.begins {
        return AlertChange::Clear { id, at: api_time(condition.ts), marks: None };
    }
    let severity = match condition.anomaly {
        Anomaly::CrashLoop => Severity::Critical,
        Anomaly::NoKnownReadings
        | Anomaly::ClockAhead
        | Anomaly::ImplausibleCounter
        | Anomaly::DuplicateId
        | Anomaly::Brownout
        | Anomaly::Crash
        | Anomaly::LowMemory
        | Anomaly::ModbusErrors
        | Anomaly::SdFailure => Severity::Warning,
    };
    AlertChange::Raise(Box::new(NewAlert {
        severity,
        message: format!("{device_id}: {}", condition.message),
        value: condition.value,
        threshold: condition.threshold,
        ..NewAlert::of_health(id, device_id, name, api_time(condition.ts))
    }))
}

#[cfg(test)]
mod tests;
