//! Answers of queries as responses.

use acuvim_query_sql::answer::AnswerBody;
use axum::{
    body::Body,
    http::header,
    response::{IntoResponse as _, Response},
};

/// An answer's bytes as a body: with its length if it is small.
pub(super) fn body(answer: AnswerBody) -> Body {
    match answer {
        AnswerBody::Whole(bytes) => Body::from(bytes),
        AnswerBody::Chunks(chunks) => Body::from_stream(chunks),
    }
}

/// An answer that is JSON.
pub(super) fn json_answer(answer: AnswerBody) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body(answer)).into_response()
}
