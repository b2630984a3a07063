//! The caller of a firmware request: a user or key, or a device by its URL's token, its own credentials, or,
//! where that is allowed, its id.

use acuvim_model::problem::Code;
use axum::{
    extract::FromRequestParts as _,
    http::{HeaderMap, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::service::Firmware;
use crate::{
    auth::{Authenticator, Caller},
    clock::now,
    problem::ApiError,
};

/// The caller of a check or download.
#[derive(Debug)]
pub(crate) enum FirmwareCaller {
    /// A user or key.
    Person(Box<Caller>),
    /// A device, by its id.
    Device(String),
}

/// The parts of a URL that identify the caller.
#[derive(Debug, Default)]
pub(crate) struct Identification<'a> {
    pub token: Option<UrlToken<'a>>,
    /// The id that a device claims to have.
    pub device_id: Option<&'a str>,
}

/// The token of a download URL.
#[derive(Debug)]
pub(crate) struct UrlToken<'a> {
    pub text: &'a str,
    /// The version that the URL is for.
    pub version: &'a str,
}

impl Firmware {
    /// Finds out who is calling.
    pub(crate) async fn caller(
        &self,
        authenticator: &Authenticator,
        parts: &mut Parts,
        identification: Identification<'_>,
    ) -> Result<FirmwareCaller, ApiError> {
        if let Some(UrlToken { text, version }) = identification.token {
            // Whether the device may still have the version is checked where it is served.
            let device = self.0.urls.token_key.check(text, version, now());
            return device.map(|id| FirmwareCaller::Device(id.to_owned())).ok_or_else(|| {
                let detail = "the URL's token is not for this version, or has expired";
                ApiError::new(Code::Unauthorized, detail)
            });
        }
        if let Some(Credentials { device_id, secret }) = credentials(&parts.headers) {
            return match self.0.control.is_device_secret(&device_id, &secret).await? {
                true => Ok(FirmwareCaller::Device(device_id)),
                false => {
                    Err(ApiError::new(Code::Unauthorized, "no such device, or not its secret"))
                }
            };
        }
        let identifying = ["x-api-key", header::AUTHORIZATION.as_str()];
        // A request with a wrong key must fail, and not pass as that of a bare device.
        let is_anonymous = identifying.iter().all(|name| !parts.headers.contains_key(*name));
        if let Some(device_id) =
            identification.device_id.filter(|_| is_anonymous && self.0.allow_bare_device_id)
        {
            return self.enabled(device_id).await;
        }
        let caller = Caller::from_request_parts(parts, authenticator).await?;
        Ok(FirmwareCaller::Person(Box::new(caller)))
    }

    async fn enabled(&self, device_id: &str) -> Result<FirmwareCaller, ApiError> {
        let device = self.0.control.device(device_id, None).await?;
        match device.filter(|device| device.enabled) {
            Some(device) => Ok(FirmwareCaller::Device(device.device_id)),
            None => Err(ApiError::new(Code::Unauthorized, "the device is unknown or disabled")),
        }
    }
}

/// A device's own credentials.
struct Credentials {
    device_id: String,
    secret: String,
}

/// The credentials of a device: Basic, unless the password is an API key.
fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, value) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    (!password.starts_with("acv_"))
        .then(|| Credentials { device_id: user.to_owned(), secret: password.to_owned() })
}
