//! Sending configuration again that a device has not confirmed.

use std::collections::BTreeMap;

use acuvim_model::Deliver;
use acuvim_wire::config::Section;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value as Json, json};

use super::{
    give::{Given, NewCommand, give},
    waiting::CHUNK,
};
use crate::{audit::By, db::Tx, device_updates::DeviceUpdate, error::Error, statement::Statement};

/// How long after a section was sent it is sent again. A device that reconnected gets it at once.
const RETRY_AFTER: TimeDelta = TimeDelta::minutes(10);

/// How configuration is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resend {
    /// The first level of all topics.
    pub topic_prefix: String,
    /// Seconds until the first answer.
    pub first_timeout_s: i64,
    /// Seconds from an `ack` to the last answer.
    pub ack_timeout_s: i64,
}

impl Default for Resend {
    fn default() -> Self {
        Self { topic_prefix: "acuvim".into(), first_timeout_s: 60, ack_timeout_s: 120 }
    }
}

/// Sends the unconfirmed configuration of devices with live messages again. Returns whether there was
/// any.
pub(crate) async fn resend_config(
    tx: &mut Tx,
    heard: &[&DeviceUpdate],
    resend: &Resend,
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let mut any = false;
    for updates in heard.chunks(CHUNK) {
        // Compares texts, and so finds some devices too many, such as one that printed 60 as 60.0. `drift`
        // compares the values.
        let mut find = Statement::new("SELECT DISTINCT device_id FROM configs WHERE device_id IN");
        find.push_list(updates.iter().map(|update| (&update.device_id).into()));
        find.push("AND desired IS NOT NULL AND (reported IS NULL OR reported <> desired)", []);
        let found: Vec<(String,)> = tx.select(find).await?;
        for (device_id,) in found {
            let back = updates.iter().any(|update| update.back && update.device_id == device_id);
            for (section, values) in tx.drift(&device_id).await? {
                let since = if back { at } else { at - RETRY_AFTER };
                if !is_sent_since(tx, &device_id, section, since).await? {
                    let again = SectionValues { device_id: &device_id, section, values };
                    any |= give_again(tx, again, resend, at).await?;
                }
            }
        }
    }
    Ok(any)
}

/// Whether a section is on its way to a device, or was sent after a moment.
async fn is_sent_since(
    tx: &mut Tx,
    device_id: &str,
    section: Section,
    since: DateTime<Utc>,
) -> Result<bool, Error> {
    let sent = tx
        .count(
            "SELECT COUNT(*) FROM commands WHERE device_id = $1 AND config_section = $2
                 AND (status IN ('pending', 'sent', 'ack') OR created_at > $3)",
            vec![device_id.into(), section.as_str().into(), since.into()],
        )
        .await?;
    Ok(sent > 0)
}

/// Values of a section that a device has not confirmed.
struct SectionValues<'a> {
    device_id: &'a str,
    section: Section,
    values: BTreeMap<String, Json>,
}

/// Gives a section again in one command or, if that is too large for the device, in one command for each
/// value.
async fn give_again(
    tx: &mut Tx,
    unconfirmed: SectionValues<'_>,
    resend: &Resend,
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let SectionValues { device_id, section, values } = unconfirmed;
    let by = By::system(at);
    let again = |values: Json| NewCommand {
        device_id: device_id.to_owned(),
        command: "set_config".to_owned(),
        params: [("section", json!(section.as_str())), ("values", values)]
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect(),
        deliver: Deliver::Now,
        first_timeout_s: resend.first_timeout_s,
        ack_timeout_s: resend.ack_timeout_s,
        expires_s: resend.first_timeout_s,
        idempotency_key: None,
        topic_prefix: resend.topic_prefix.clone(),
        section: Some(section),
        desired: false,
        group_command: None,
    };
    match give(tx, &again(json!(values)), None, &by).await? {
        Given::Stored(_) => return Ok(true),
        Given::TooLarge { .. } if values.len() > 1 => {}
        _ => return Ok(false),
    }
    let mut any = false;
    for (key, value) in values {
        let one = again(json!({ key: value }));
        any |= matches!(give(tx, &one, None, &by).await?, Given::Stored(_));
    }
    Ok(any)
}
