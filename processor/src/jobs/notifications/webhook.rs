//! Sends messages to webhooks. They are signed as the Standard Webhooks specification says
//! (standardwebhooks.com): `webhook-id`, `webhook-timestamp`, and `webhook-signature` over both and
//! the body.

use std::{net::SocketAddr, time::Duration};

use acuvim_control::DueNotice;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use ring::hmac;

use super::{attempt::Attempt, message::json_of};
use crate::options::{AllowedNetworks, refusal, refused_address};

/// Calls webhooks.
#[derive(Debug)]
pub(super) struct Caller {
    client: Client,
    networks: AllowedNetworks,
}

/// Resolves names to addresses that may be reached, and refuses the others. The connection is made
/// to exactly the address that was checked here, so that a name which resolves differently a moment
/// later (DNS rebinding) gains nothing.
struct CheckedResolver(AllowedNetworks);

/// A name that resolves to an address which may not be reached. Not final: a resolver can answer
/// wrongly for a moment, as that of a captive portal does.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let all: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if let Some(inner) = all.iter().find(|at| !networks.lets(at.ip())) {
                let reason = format!("{host} leads to {}", refusal(inner.ip()));
                return Err(Box::new(Refused(reason)) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(all.into_iter()) as Addrs)
        })
    }
}

impl Caller {
    /// A client that reaches only these networks and the public internet.
    pub fn new(networks: AllowedNetworks, timeout: Duration) -> Result<Self, String> {
        let client = Client::builder()
            // A redirect could lead anywhere in the network, and the signature is for this
            // receiver.
            .redirect(Policy::none())
            // A proxy would resolve names itself, past the check.
            .no_proxy()
            .timeout(timeout)
            .dns_resolver(std::sync::Arc::new(CheckedResolver(networks.clone())))
            .user_agent(concat!("acuvim/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, networks })
    }

    /// Makes one attempt to send a message.
    pub async fn call(&self, notice: &DueNotice, now: DateTime<Utc>) -> Attempt {
        let url = notice.notification.body.url.as_deref().unwrap_or_default();
        let Ok(url) = url::Url::parse(url) else {
            return Attempt::Failed("the webhook's URL is not valid".to_owned());
        };
        // The resolver sees only names: an address in the URL has to be checked here.
        if let Some(reason) = url.host_str().and_then(|h| refused_address(h, &self.networks)) {
            return Attempt::Failed(reason);
        }
        let (id, body) = (notice.id.to_string(), json_of(notice).to_string());
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now.timestamp());
        if let Some(secret) = &notice.secret {
            let signature = signature(secret, &id, now.timestamp(), &body);
            request = request.header("webhook-signature", signature);
        }
        match request.body(body).send().await {
            Ok(answer) if answer.status().is_success() => {
                Attempt::Accepted(answer.status().to_string())
            }
            Ok(answer) if answer.status().is_redirection() => {
                Attempt::Retry(format!("{}: redirects are not followed", answer.status()))
            }
            Ok(answer) if answer.status().as_u16() == 410 => {
                Attempt::Failed("410 Gone: the receiver wants no more messages".to_owned())
            }
            Ok(answer) => Attempt::Retry(answer.status().to_string()),
            Err(error) => failed(&error.without_url()),
        }
    }
}

fn failed(error: &reqwest::Error) -> Attempt {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(cause) = source {
        if let Some(Refused(reason)) = cause.downcast_ref() {
            return Attempt::Retry(reason.clone());
        }
        last = cause.to_string();
        source = cause.source();
    }
    // The text must not name the URL, which may hold a secret.
    Attempt::Retry(last)
}

/// `v1,` and the HMAC-SHA-256 of id, time and body under the secret.
pub(super) fn signature(secret: &str, id: &str, timestamp: i64, body: &str) -> String {
    // Standard Webhooks gives secrets a prefix and encodes them as base64.
    let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
    let key = STANDARD.decode(encoded).unwrap_or_else(|_| encoded.as_bytes().to_vec());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signed = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(signed.as_ref()))
}

#[cfg(test)]
mod tests;
