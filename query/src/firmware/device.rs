//! Who asks for firmware: a person or key, or a device by its URL's token, its own credentials, or,
//! where that is allowed, its id.

use std::sync::Arc;

use acuvim_schemas::problem::Code;
use axum::{
    extract::FromRequestParts as _,
    http::{HeaderMap, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    App,
    auth::{Caller, now},
    problem::ApiError,
};

/// Who asks.
#[derive(Debug)]
pub(crate) enum FirmwareCaller {
    /// A person or key.
    Person(Box<Caller>),
    /// A device.
    Device(String),
}

/// What of a query says who asks.
#[derive(Debug, Default)]
pub(crate) struct Shown<'a> {
    /// The URL's token, and the version that it is shown for.
    pub token: Option<(&'a str, &'a str)>,
    /// The id that a device says it has.
    pub device_id: Option<&'a str>,
}

impl FirmwareCaller {
    /// Finds out who asks.
    pub(crate) async fn of(
        app: &Arc<App>,
        parts: &mut Parts,
        shown: Shown<'_>,
    ) -> Result<Self, ApiError> {
        let options = &app.parts.firmware;
        if let Some((token, version)) = shown.token {
            let device = options.token_key.check(token, version, now());
            // Whether the device may still have it is seen where it is served.
            return device.map(|device| Self::Device(device.to_owned())).ok_or_else(|| {
                let detail = "the URL's token is not for this version, or has expired";
                ApiError::new(Code::Unauthorized, detail)
            });
        }
        if let Some((device_id, secret)) = credentials(&parts.headers) {
            return match app.control().is_device_secret(&device_id, &secret).await? {
                true => Ok(Self::Device(device_id)),
                false => {
                    Err(ApiError::new(Code::Unauthorized, "no such device, or not its secret"))
                }
            };
        }
        let says_who = ["x-api-key", header::AUTHORIZATION.as_str()];
        let nameless = says_who.iter().all(|name| !parts.headers.contains_key(*name));
        if let Some(device_id) =
            shown.device_id.filter(|_| nameless && options.allow_bare_device_id)
        {
            return Self::enabled(app, device_id).await;
        }
        Caller::from_request_parts(parts, app).await.map(|caller| Self::Person(Box::new(caller)))
    }

    async fn enabled(app: &App, device_id: &str) -> Result<Self, ApiError> {
        let device = app.control().device(device_id, None).await?;
        match device.filter(|device| device.enabled) {
            Some(device) => Ok(Self::Device(device.device_id)),
            None => Err(ApiError::new(Code::Unauthorized, "the device is unknown or disabled")),
        }
    }
}

/// A device's own credentials: Basic, and not with an API key.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, value) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    (!password.starts_with("acv_")).then(|| (user.to_owned(), password.to_owned()))
}
