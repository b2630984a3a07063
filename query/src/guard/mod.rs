//! What every request passes before its handler: where it comes from, how often, for how long.

mod address;
mod rate;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use acuvim_schemas::problem::Code;
use axum::{
    extract::{ConnectInfo, Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    listen::{ConnectionLimits, Places},
    problem::ApiError,
};

pub(crate) use address::ClientAddress;
pub use address::TrustedProxies;
pub(crate) use rate::{Rates, retry_after};

/// How much is taken from whom.
#[derive(Debug, Clone)]
pub struct GuardLimits {
    /// Requests a second from one address, in the long run; 0: any number.
    pub per_address: u32,
    /// Requests a second of one user or key; 0: any number.
    pub per_user: u32,
    /// How long a request may take.
    pub request_time: Duration,
    /// How many connections there may be.
    pub connections: ConnectionLimits,
    /// Whose word on where a request comes from is taken.
    pub proxies: TrustedProxies,
    /// Web pages of these origins may use the API from a browser.
    pub cors_origins: Vec<String>,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            per_address: 200,
            per_user: 100,
            request_time: Duration::from_secs(60),
            connections: ConnectionLimits::default(),
            proxies: TrustedProxies::default(),
            cors_origins: Vec::new(),
        }
    }
}

/// The guard at the door.
#[derive(Debug)]
pub(crate) struct Guard {
    pub limits: GuardLimits,
    pub rates: Rates,
    pub places: Arc<Places>,
}

impl Guard {
    pub fn new(limits: GuardLimits) -> Arc<Self> {
        let rates = Rates::new(limits.per_address, limits.per_user);
        let places = Places::new(limits.connections.clone(), limits.proxies.clone());
        Arc::new(Self { limits, rates, places })
    }
}

/// Lets a request through, or not.
pub(crate) async fn pass(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = guard.limits.proxies.client(peer.ip(), request.headers());
    // A fleet behind one address fetches firmware in small ranges; a token is checked for next to
    // nothing.
    let uri = request.uri();
    let fetches = uri.path().starts_with("/api/firmware/download/")
        && uri.query().is_some_and(|query| query.starts_with("t="));
    if !fetches && let Err(wait) = guard.rates.address(address) {
        return retry_after(wait, "too many requests from this address").into_response();
    }
    // A compressed body could be a thousand times what it says: none is taken.
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        let detail = "send the body without Content-Encoding";
        return ApiError::new(Code::UnsupportedMediaType, detail).into_response();
    }
    request.extensions_mut().insert(ClientAddress(address));
    // An import lasts as long as its file; a client that stops sending is cut off all the same.
    if request.uri().path() == "/api/import" {
        return next.run(request).await;
    }
    let time = guard.limits.request_time;
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("it took longer than {} s", time.as_secs());
            ApiError::new(Code::DeadlineExceeded, detail).into_response()
        }
    }
}
