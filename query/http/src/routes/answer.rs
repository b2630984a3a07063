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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_small_answer_has_a_length_and_a_broken_one_no_end() {
        let whole = body(AnswerBody::Whole("rows".into()));
        assert_eq!(http_body::Body::size_hint(&whole).exact(), Some(4));
        let broken = [Ok("rows".into()), Err(std::io::Error::other("it broke off"))];
        let broken = AnswerBody::Chunks(futures::stream::iter(broken).boxed());
        body(broken).collect().await.expect_err("broken off");
    }
}
