//! Lists: one way to ask for a page, and to answer with one.

use acuvim_model::Page;
use acuvim_wire::time;
use axum::{Json, extract::FromRequestParts, http::request::Parts};
use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{extract::Params, problem::ApiError};

/// Items of a page, unless the caller says.
const DEFAULT_LIMIT: i64 = 50;

/// Items of the largest page.
const MAX_LIMIT: i64 = 1000;

/// Parameters of a list that has pages.
pub(super) trait Paged {
    /// The limit as it was given.
    fn limit(&self) -> Option<i64>;
}

/// Implements [`Paged`] for parameters with a field `limit`.
macro_rules! paged {
    ($($params:ident),*) => {
        $(impl $crate::routes::list::Paged for $params {
            fn limit(&self) -> Option<i64> {
                self.limit
            }
        })*
    };
}
pub(super) use paged;

/// Parameters of a list that is only divided into pages, by the type of its cursor.
macro_rules! pages {
    ($($name:ident: $cursor:ident),*) => {
        $(#[derive(Deserialize, IntoParams)]
        #[into_params(parameter_in = Query)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            /// Items of a page, 1 to 1000; 50 unless given.
            limit: Option<i64>,
            /// `next_cursor` of the page before.
            pub cursor: Option<$cursor>,
        }
        paged!($name);)*
    };
}

pages!(PagesByName: String, PagesById: Uuid, PagesByNumber: i64);

/// A request for a page of a list.
pub(super) struct List<P> {
    pub params: P,
    /// Items of the page.
    pub limit: i64,
}

impl<S: Send + Sync, P: DeserializeOwned + Paged> FromRequestParts<S> for List<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Params(params) = Params::<P>::from_request_parts(parts, state).await?;
        match params.limit().unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=MAX_LIMIT => Ok(Self { params, limit }),
            _ => Err(ApiError::field("limit", format!("1 to {MAX_LIMIT}"))),
        }
    }
}

/// The page of these items, out of `total`. The cursor of the next page is made of the last item; a page
/// that is not full is the last one.
pub(super) fn page<T>(
    items: Vec<T>,
    total: i64,
    limit: i64,
    cursor: impl Fn(&T) -> String,
) -> Json<Page<T>> {
    // Looking for one more item would cost a row each time; a total that is a multiple of the limit
    // ends with an empty page instead.
    let is_full = i64::try_from(items.len()).is_ok_and(|n| n == limit);
    let next_cursor = items.last().filter(|_| is_full).map(cursor);
    Json(Page { items, total, next_cursor })
}

/// A list without pages.
pub(super) fn whole<T>(items: Vec<T>) -> Json<Page<T>> {
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    Json(Page { items, total, next_cursor: None })
}

/// Parameters of a route that takes none: an unknown one is a 400 all the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

/// A cursor of a time and an id, as [`time_cursor_of`] wrote it.
pub(super) fn time_cursor(cursor: &str) -> Result<(DateTime<Utc>, Uuid), ApiError> {
    let parse = || {
        let (at, id) = cursor.split_once('_')?;
        let at = time::to_datetime(at.parse().ok()?)?;
        (1970..=9999).contains(&at.year()).then_some((at, id.parse().ok()?))
    };
    parse().ok_or_else(|| ApiError::field("cursor", "not a next_cursor of this list"))
}

pub(super) fn time_cursor_of(at: DateTime<Utc>, id: Uuid) -> String {
    format!("{}_{id}", at.timestamp_micros())
}

/// A time of a query: RFC 3339 with a zone, or Unix seconds or milliseconds. A `+` that arrived as a space is
/// understood.
pub(super) fn moment(field: &str, text: &str) -> Result<DateTime<Utc>, ApiError> {
    let parsed = match text.parse::<f64>() {
        Ok(number) => time::from_unix_number(number),
        Err(_) => time::parse_rfc3339(&text.replace(' ', "+")),
    };
    parsed
        .and_then(time::to_datetime)
        .filter(|at| (1970..=9999).contains(&at.year()))
        .ok_or_else(|| ApiError::field(field, "a time with its zone, such as 2026-05-01T00:00:00Z"))
}

#[cfg(test)]
mod tests;
