//! The middleware of every request: it determines the client's address, and limits rate and time.

mod limits;
mod rate;

use std::{net::SocketAddr, sync::Arc};

use acuvim_model::problem::Code;
use axum::{
    extract::{ConnectInfo, Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{address::ClientAddress, listen::ConnectionSlots, problem::ApiError};

pub use limits::HttpLimits;
pub(crate) use rate::{Rates, retry_after};

/// The state of the middleware.
#[derive(Debug, Clone)]
pub(crate) struct Middleware {
    pub limits: Arc<HttpLimits>,
    pub rates: Arc<Rates>,
    pub slots: Arc<ConnectionSlots>,
}

impl Middleware {
    pub fn new(limits: HttpLimits) -> Self {
        let rates = Arc::new(Rates::new(limits.per_address, limits.per_user));
        let slots = ConnectionSlots::new(limits.connections.clone(), limits.proxies.clone());
        Self { limits: Arc::new(limits), rates, slots }
    }
}

/// Passes a request on to its handler, or refuses it.
pub(crate) async fn pass(
    State(middleware): State<Middleware>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let limits = &middleware.limits;
    let address = limits.proxies.client(peer.ip(), request.headers());
    // Before anything that costs more: a flood of requests must not reach the database.
    if !is_download_by_token(&request)
        && let Err(wait) = middleware.rates.address(address)
    {
        return retry_after(wait, "too many requests from this address").into_response();
    }
    // Compressed bodies are not taken: one could be a thousand times as large as its bytes.
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        let detail = "send the body without Content-Encoding";
        return ApiError::new(Code::UnsupportedMediaType, detail).into_response();
    }
    request.extensions_mut().insert(ClientAddress(address));
    // An import may last as long as its file; a client that stops sending is cut off all the same.
    if request.uri().path() == "/api/import" {
        return next.run(request).await;
    }
    let time = limits.request_time;
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("it took longer than {} s", time.as_secs());
            ApiError::new(Code::DeadlineExceeded, detail).into_response()
        }
    }
}

/// Such requests are not counted by address: a fleet behind one address fetches its firmware in small
/// ranges, and checking a token costs next to nothing.
fn is_download_by_token(request: &Request) -> bool {
    let uri = request.uri();
    uri.path().starts_with("/api/firmware/download/")
        && uri.query().is_some_and(|query| query.starts_with("t="))
}

#[cfg(test)]
mod tests;
