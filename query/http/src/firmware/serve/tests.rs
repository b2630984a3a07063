//! Ranges and conditions of downloads.

use super::*;
use crate::testing::release;

#[test]
fn ranges_as_rfc_9110_has_them() {
    for (text, want) in [
        ("bytes=0-3", Some(Ok(0..4))),
        ("bytes=4-", Some(Ok(4..10))),
        ("bytes=-4", Some(Ok(6..10))),
        ("bytes=-40", Some(Ok(0..10))),
        ("bytes=9-99", Some(Ok(9..10))),
        ("bytes=0-99999999999999999999999", Some(Ok(0..10))),
        ("bytes=10-", Some(Err(Unsatisfiable))),
        ("bytes=99999999999999999999999-", Some(Err(Unsatisfiable))),
        ("bytes=-0", Some(Err(Unsatisfiable))),
        ("bytes=3-2", None),
        ("bytes=0-1,3-4", None),
        ("bytes=+1-2", None),
        ("bytes=a-b", None),
        ("bytes=", None),
        ("lines=0-3", None),
    ] {
        assert_eq!(range(text, 10), want, "{text}");
    }
}

/// The answer to a request with these headers for an image of ten bytes: its status, body and range.
async fn answered(asked: &[(&str, &str)]) -> (u16, Bytes, Option<Range<usize>>, HeaderMap) {
    use http_body_util::BodyExt as _;
    let bytes = Bytes::from_static(b"0123456789");
    let mut headers = HeaderMap::new();
    for (name, value) in asked {
        let name: header::HeaderName = name.parse().expect("a name");
        headers.insert(name, value.parse().expect("a value"));
    }
    let Answer { response, range } = answer(&release("1.2.0"), &bytes, &headers);
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (parts.status.as_u16(), body, range, parts.headers)
}

fn etag() -> String {
    format!("\"{}\"", "00ff".repeat(16))
}

#[tokio::test]
async fn a_whole_image_has_its_hash_and_says_that_ranges_are_taken() {
    let (status, body, range, headers) = answered(&[]).await;
    assert_eq!((status, body.as_ref(), range), (200, &b"0123456789"[..], Some(0..10)));
    assert_eq!(headers["accept-ranges"], "bytes");
    assert_eq!(headers["etag"], etag().as_str());
    let hash = STANDARD.encode([0x00, 0xff].repeat(16));
    assert_eq!(headers["digest"], format!("sha-256={hash}").as_str());
    assert_eq!(headers["repr-digest"], format!("sha-256=:{hash}:").as_str());
    assert_eq!(headers["content-disposition"], "attachment; filename=\"logger.bin\"");
}

#[tokio::test]
async fn a_range_is_sent_with_its_place() {
    let (status, body, range, headers) = answered(&[("range", "bytes=4-7")]).await;
    assert_eq!((status, body.as_ref(), range), (206, &b"4567"[..], Some(4..8)));
    assert_eq!(headers["content-range"], "bytes 4-7/10");
    let (status, body, ..) = answered(&[("range", "bytes=-1")]).await;
    assert_eq!((status, body.as_ref()), (206, &b"9"[..]));
    let (status, _, range, headers) = answered(&[("range", "bytes=10-")]).await;
    assert_eq!((status, range), (416, None));
    assert_eq!(headers["content-range"], "bytes */10");
    let (status, body, ..) = answered(&[("range", "bytes=0-1,3-4")]).await;
    assert_eq!((status, body.len()), (200, 10), "several ranges are the whole image");
}

#[tokio::test]
async fn a_download_that_began_with_another_image_begins_again() {
    let etag = etag();
    let of =
        async |if_range: &str| answered(&[("range", "bytes=4-"), ("if-range", if_range)]).await.0;
    assert_eq!(of(&etag).await, 206);
    assert_eq!(of("\"another\"").await, 200);
    assert_eq!(
        of(&format!("W/{etag}")).await,
        200,
        "a weak tag does not prove that bytes are equal"
    );
    assert_eq!(of("Wed, 21 Oct 2026 07:28:00 GMT").await, 200);
}

#[tokio::test]
async fn an_image_that_the_client_has_is_not_sent_again() {
    let etag = etag();
    for tags in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let (status, body, range, headers) = answered(&[("if-none-match", &tags)]).await;
        assert_eq!((status, body.len(), range), (304, 0, None), "{tags}");
        assert_eq!(headers["etag"], etag.as_str());
    }
    assert_eq!(answered(&[("if-none-match", "\"x\"")]).await.0, 200);
}

#[tokio::test]
async fn the_end_of_a_body_is_told_only_once_all_of_it_was_taken() {
    use http_body_util::BodyExt as _;
    let (tell, mut told) = tokio::sync::oneshot::channel();
    let bytes = Bytes::from(vec![7; PIECE * 2 + 1]);
    let mut body = followed(bytes.clone(), async move {
        let _ = tell.send(());
    });
    let mut got = 0;
    while got < bytes.len() {
        assert!(told.try_recv().is_err(), "at {got}");
        let frame = body.frame().await.expect("a frame").expect("no error");
        let data = frame.into_data().expect("data");
        assert!(data.len() <= PIECE);
        got += data.len();
    }
    assert!(
        body.frame().await.is_none_or(|frame| frame
            .expect("no error")
            .into_data()
            .expect("data")
            .is_empty())
    );
    told.await.expect("it is told");
}
