//! Who is told of an event, and what: pure.

use acuvim_control::{DevicePlace, NoticeItem};
use acuvim_schemas::{
    api::{Alert, AlertOrigin, DeliveryKind, Notification, NotificationTopic, RolloutState},
    event::{AlertEvent, AlertStep, Event, RolloutProgress, alert_id},
};
use chrono::TimeDelta;
use serde_json::{Value as Json, json};

/// The alert of a device that is offline.
const OFFLINE: &str = "offline";

/// What people are told of an event; `place` is where its device stands.
pub(super) fn decide(event: &Event, all: &[Notification], place: &DevicePlace) -> Vec<NoticeItem> {
    let told = all.iter().filter(|notification| notification.body.enabled);
    match event {
        Event::Alert(event) => told.filter_map(|n| alert(event, n, place)).collect(),
        Event::Rollout(event) => told.filter_map(|n| rollout(event, n)).collect(),
        Event::Device(_) | Event::Command(_) => Vec::new(),
    }
}

fn topic(alert: &Alert) -> NotificationTopic {
    match alert.origin {
        AlertOrigin::System => NotificationTopic::System,
        AlertOrigin::Health if alert.alert_type == OFFLINE => NotificationTopic::Offline,
        AlertOrigin::Health | AlertOrigin::Device | AlertOrigin::Rule => NotificationTopic::Alerts,
    }
}

fn alert(event: &AlertEvent, to: &Notification, place: &DevicePlace) -> Option<NoticeItem> {
    let (alert, body) = (&event.alert, &to.body);
    let pages = !alert.shadow && !alert.backfilled && !alert.silenced;
    let kind = match event.step {
        AlertStep::Raised if pages => DeliveryKind::Raised,
        // Told only to whom its beginning was told: nothing else needs to be asked, and a device may
        // stand elsewhere by now.
        AlertStep::Cleared | AlertStep::Resolved | AlertStep::Withdrawn if body.recoveries => {
            DeliveryKind::Recovered
        }
        AlertStep::Reminded | AlertStep::Escalated if pages && body.reminders => {
            DeliveryKind::Reminder
        }
        _ => return None,
    };
    let there = match &alert.device_id {
        Some(device) => body.scope.has(device, place.group_id, &place.tags),
        None => body.scope.is_all(),
    };
    let kinds = body.alert_types.is_empty() || body.alert_types.contains(&alert.alert_type);
    let about =
        there && kinds && alert.severity >= body.min_severity && body.is_about(topic(alert));
    if !about && kind != DeliveryKind::Recovered {
        return None;
    }
    Some(NoticeItem {
        notification_id: to.id,
        kind,
        alert_id: Some(alert.id),
        group_key: alert.alert_type.clone(),
        title: title(kind, alert),
        item: json!({"step": event.step.as_str(), "alert": alert}),
        wait: TimeDelta::seconds(body.group_seconds.into()),
    })
}

fn title(kind: DeliveryKind, alert: &Alert) -> String {
    let severity = alert.severity.as_str();
    match kind {
        DeliveryKind::Recovered => format!("Over: {}", alert.message),
        DeliveryKind::Reminder => format!("Still open, {severity}: {}", alert.message),
        _ => format!("{severity}: {}", alert.message),
    }
}

fn rollout(event: &RolloutProgress, to: &Notification) -> Option<NoticeItem> {
    if !to.body.scope.is_all() || !to.body.is_about(NotificationTopic::Rollouts) {
        return None;
    }
    let state = event.state.as_str();
    // Each stage once, however often its figures change, and once more when it goes on after a halt;
    // each halt and each end.
    let reason = event.reason.as_deref().unwrap_or_default();
    let what = match event.state {
        RolloutState::Running if event.resumed > 0 => {
            format!("{state}\0{}\0{}", event.stage, event.resumed)
        }
        RolloutState::Running => format!("{state}\0{}", event.stage),
        _ => format!("{state}\0{}", event.decisions),
    };
    let version = &event.version;
    let title = match event.state {
        RolloutState::Running if event.resumed > 0 => {
            format!("The rollout of {version} goes on in stage {}", event.stage)
        }
        RolloutState::Running => format!("The rollout of {version} is in stage {}", event.stage),
        _ => format!("The rollout of {version} is {state}: {reason}{}", event.progress),
    };
    let item: Json = json!({"rollout": event});
    Some(NoticeItem {
        notification_id: to.id,
        kind: DeliveryKind::Rollout,
        alert_id: Some(alert_id(&event.rollout_id.to_string(), &what, 0)),
        group_key: format!("{}/{what}", event.rollout_id),
        title,
        item,
        wait: TimeDelta::zero(),
    })
}

#[cfg(test)]
mod tests;
