//! A device's history: raw readings, or buckets of them, a page at a time.
//!
//! The parts from the ground up, each using only those before it: `aggregate`, `fold`, `fill`, `request`,
//! `site`, `bucket_query`, `page`, `sources`, `neighbours`, `rollup`, then `raw` and `buckets`.

mod aggregate;
mod bucket_query;
mod buckets;
mod fill;
mod fold;
mod neighbours;
mod page;
mod raw;
mod request;
mod rollup;
mod site;
mod sources;

use acuvim_wire::Micros;
use chrono::Utc;
use serde_json::Value;

use crate::{
    answer::{Answer, AnswerBody},
    engine::{Lane, Sql, ViewState},
    error::QueryError,
};

use bucket_query::BucketQuery;
use fold::Meter;
use request::Shape;

pub use request::{HistoryColumn, HistoryRequest, Order, RequestTexts, fields, time_zone};
pub use site::{Site, site_rows};

/// A page of a site's history as a JSON object: the fields of `before`, the rows, and the fields that are only
/// known with the rows.
///
/// # Errors
/// When lake or tail can't be read.
pub async fn history(
    sql: &Sql,
    site: Site,
    request: HistoryRequest,
    before: Value,
) -> Result<AnswerBody, QueryError> {
    sql.require_tail()?;
    let now = Utc::now().timestamp_micros();
    let work = move |sql| answer(sql, site, request, before, now);
    let ((), body) = sql.answer(sql.limits().timeout, work).await?;
    Ok(body)
}

async fn answer(
    sql: Sql,
    site: Site,
    request: HistoryRequest,
    before: Value,
    now: Micros,
) -> Result<datafusion::error::Result<Answer<()>>, QueryError> {
    let permit = sql.permit(Lane::Queries).await?;
    // Before the view is taken: a rollup that covers more by then does no harm, one that covers less
    // would leave readings out.
    let not_rolled_up = match (&request.shape, site.only()) {
        (Shape::Buckets { .. }, Some(logger)) => {
            sql.lake().not_rolled_up(&logger.device_id).await?
        }
        _ => None,
    };
    if request.counts() {
        sql.lake().refresh_meter_changes(now).await;
    }
    // Of the newest logger: when a logger is replaced, its meter stays.
    let newest = site.newest().map_or("", |logger| logger.device_id.as_str());
    let meter = Meter {
        terms: sql.engine().meters().terms_of(newest),
        changes: sql.engine().meter_changes(newest),
    };
    let view = sql.lake().view(true)?;
    let context = sql.session_over(&view)?;
    let page = match request.shape.clone() {
        Shape::Raw => raw::page(&context, &site, &request).await,
        Shape::Buckets { buckets, aggregates, fill, .. } => {
            let query =
                BucketQuery { site, request, buckets, aggregates, fill, now, meter, not_rolled_up };
            query.read(&context).await
        }
    };
    let pieces = page.map(|page| page.into_pieces(&before, ViewState::from(&view)));
    Ok(pieces.map(|pieces| Answer { facts: (), pieces, permit, memory: None }))
}

#[cfg(test)]
mod tests;
