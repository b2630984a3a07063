//! Errors as clients get them.

use http_body_util::BodyExt as _;

use super::*;

async fn shown(error: ApiError) -> (u16, axum::http::HeaderMap, Problem) {
    let (parts, body) = error.into_response().into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).expect("a problem"))
}

#[tokio::test]
async fn every_code_is_a_problem_with_its_status_and_the_headers_that_belong_to_it() {
    for code in Code::ALL {
        let (status, headers, problem) = shown(ApiError::new(code, "why")).await;
        let (name, want, _) = code.row();
        assert_eq!((status, problem.status, problem.code.as_str()), (want, want, name));
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(problem.detail, "why");
        let retry = headers.get("retry-after").is_some();
        assert_eq!(retry, want == 503 || want == 429, "{name}");
        assert_eq!(headers.get("www-authenticate").is_some(), want == 401, "{name}");
    }
}

#[tokio::test]
async fn a_known_wait_is_told_and_an_unknown_one_is_short() {
    let mut error = ApiError::new(Code::TooManyRequests, "wait");
    error.retry_after = Some(60);
    assert_eq!(shown(error).await.1["retry-after"], "60");
    assert_eq!(shown(ApiError::new(Code::Unavailable, "away")).await.1["retry-after"], "2");
}

#[tokio::test]
async fn an_internal_fault_does_not_say_what_it_knows() {
    let (status, _, problem) = shown(ApiError::internal(&"postgres://user:secret@db/x")).await;
    assert_eq!(status, 500);
    assert!(!problem.detail.contains("secret"), "{}", problem.detail);
    let error = acuvim_control::Error::new(acuvim_control::ErrorKind::Internal, "UPDATE users SET");
    let (_, _, problem) = shown(error.into()).await;
    assert!(!problem.detail.contains("UPDATE"), "{}", problem.detail);
}

#[test]
fn an_error_of_a_store_is_what_its_kind_says() {
    use acuvim_control::ErrorKind as Control;
    use acuvim_firmware_registry::ErrorKind as Images;
    let control = |kind| ApiError::from(acuvim_control::Error::new(kind, "x")).problem.status;
    assert_eq!(control(Control::Unavailable), 503);
    assert_eq!(control(Control::Conflict), 409);
    assert_eq!(control(Control::Invalid), 400);
    assert_eq!(control(Control::Setup), 500);
    let images = |kind| ApiError::from(acuvim_firmware_registry::Error::new(kind, "x")).problem;
    assert_eq!(images(Images::Unavailable).status, 503);
    assert_eq!(images(Images::Invalid).status, 422);
    assert_eq!(images(Images::Damaged).code, "damaged");
    assert_eq!(images(Images::NotFound).code, "damaged", "a release whose image is gone");
    assert_eq!(images(Images::Internal).code, "internal");
}
