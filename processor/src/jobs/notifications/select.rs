//! Selects the notifications that an event concerns, and composes their titles and items. Pure.

use acuvim_control::{DeviceMembership, NoticeItem};
use acuvim_model::{
    Alert, AlertOrigin, DeliveryKind, Notification, NotificationTopic, RolloutState,
    event::{AlertEvent, AlertStep, Event, RolloutProgress, alert_id},
};
use chrono::TimeDelta;
use serde_json::{Value as Json, json};

/// The alert type of a device that is offline, which is a topic of its own.
const OFFLINE: &str = "offline";

/// The messages of an event, for those of the notifications that it concerns; `place` is the group
/// and the tags of its device.
pub(super) fn select(
    event: &Event,
    all: &[Notification],
    place: &DeviceMembership,
) -> Vec<NoticeItem> {
    let enabled = all.iter().filter(|notification| notification.body.enabled);
    match event {
        Event::Alert(event) => enabled.filter_map(|n| alert(event, n, place)).collect(),
        Event::Rollout(event) => enabled.filter_map(|n| rollout(event, n)).collect(),
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

fn alert(event: &AlertEvent, to: &Notification, place: &DeviceMembership) -> Option<NoticeItem> {
    let (alert, body) = (&event.alert, &to.body);
    let pages = !alert.shadow && !alert.backfilled && !alert.silenced;
    let kind = match event.step {
        AlertStep::Raised if pages => DeliveryKind::Raised,
        // Control sends it only to notifications that the beginning was sent to. The scope is not
        // checked again, since the device may have moved to another group meanwhile.
        AlertStep::Cleared | AlertStep::Resolved | AlertStep::Withdrawn if body.recoveries => {
            DeliveryKind::Recovered
        }
        AlertStep::Reminded | AlertStep::Escalated if pages && body.reminders => {
            DeliveryKind::Reminder
        }
        _ => return None,
    };
    let in_scope = match &alert.device_id {
        Some(device) => body.scope.has(device, place.group_id, &place.tags),
        None => body.scope.is_all(),
    };
    let of_type = body.alert_types.is_empty() || body.alert_types.contains(&alert.alert_type);
    let wanted =
        in_scope && of_type && alert.severity >= body.min_severity && body.is_about(topic(alert));
    if !wanted && kind != DeliveryKind::Recovered {
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
    // The message's id is derived from this key, and events with an equal key are sent once. A
    // stage has one key however often its figures change, and another one when it goes on after a
    // halt. Each halt and each end has a key of its own.
    let reason = event.reason.as_deref().unwrap_or_default();
    let key = match event.state {
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
        alert_id: Some(alert_id(&event.rollout_id.to_string(), &key, 0)),
        group_key: format!("{}/{key}", event.rollout_id),
        title,
        item,
        wait: TimeDelta::zero(),
    })
}

#[cfg(test)]
pub(super) mod tests;
