//! Pages, cursors and times of lists.

use super::*;
use axum::http::Request;

async fn list(query: &str) -> Result<List<PagesByName>, ApiError> {
    let request = Request::builder().uri(format!("/list{query}")).body(()).expect("a request");
    List::from_request_parts(&mut request.into_parts().0, &()).await
}

#[tokio::test]
async fn a_page_has_a_limit_within_bounds() {
    for (query, limit) in [("", 50), ("?limit=1", 1), ("?limit=1000&cursor=x", 1000)] {
        assert_eq!(list(query).await.map(|list| list.limit).ok(), Some(limit), "{query}");
    }
    for (query, field) in [
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?limit=few", "limit"),
        ("?page=2", "page"),
    ] {
        let error = list(query).await.err().expect(query);
        assert_eq!(error.problem.errors[0].field, field, "{query}");
    }
}

#[test]
fn only_a_full_page_has_a_next_one() {
    let next = |items: Vec<u8>| page(items, 9, 2, |n| n.to_string()).0.next_cursor;
    assert_eq!(next(vec![4, 5]).as_deref(), Some("5"));
    assert_eq!(next(vec![4]), None);
    assert_eq!(next(Vec::new()), None);
}

#[test]
fn a_time_cursor_reads_back() {
    let (at, id) = (DateTime::UNIX_EPOCH, Uuid::from_u128(7));
    assert_eq!(time_cursor(&time_cursor_of(at, id)).ok(), Some((at, id)));
    for bad in ["", "1", "x_y", "9223372036854775807_00000000-0000-0000-0000-000000000007"] {
        assert!(time_cursor(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_moment_is_a_time_with_its_zone_or_a_unix_number() {
    let at = |text: &str| moment("from", text).map(|at| at.timestamp_micros());
    let want = 1_777_593_600_000_000;
    for text in [
        "2026-05-01T00:00:00Z",
        "2026-05-01T02:00:00+02:00",
        // What a browser makes of a `+` that was not encoded.
        "2026-05-01T02:00:00 02:00",
        "2026-04-30T19:00:00-05:00",
        "2026-05-01T00:00:00.000000Z",
        "1777593600",
        "1777593600000",
        "1777593600.0",
    ] {
        assert_eq!(at(text).ok(), Some(want), "{text}");
    }
    assert_eq!(at("0").ok(), Some(0));
}

#[test]
fn what_is_no_moment_is_a_400_of_its_field() {
    for text in [
        "",
        " ",
        "now",
        "2026-05-01",
        "2026-05-01T00:00:00",
        "2026-02-30T00:00:00Z",
        "nan",
        "inf",
        "-inf",
        "-1",
        "1e300",
        "1969-12-31T23:59:59Z",
        "9223372036854775807",
        "+12026-01-01T00:00:00Z",
        "2026-05-01T00:00:00Z'; DROP TABLE devices",
    ] {
        let error = moment("from", text).expect_err(text);
        assert_eq!(error.problem.status, 400);
        assert_eq!(error.problem.errors[0].field, "from", "{text}");
    }
}

#[test]
fn a_hostile_cursor_is_a_400() {
    let id = Uuid::from_u128(7);
    for bad in [
        format!("_{id}"),
        format!("1777593600000000_{id}x"),
        format!("1777593600000000-{id}"),
        format!("-1_{id}"),
        format!("1.5_{id}"),
        format!("99999999999999999999999999_{id}"),
        format!("253402300800000000_{id}"),
        "1777593600000000_".to_owned(),
        "\u{0}".repeat(1000),
    ] {
        let error = time_cursor(&bad).expect_err(&bad);
        assert_eq!(error.problem.errors[0].field, "cursor", "{bad}");
    }
    let last = DateTime::from_timestamp_micros(253_402_300_799_999_999).expect("a time");
    assert_eq!(time_cursor(&time_cursor_of(last, id)).ok(), Some((last, id)), "the year 9999");
}

#[test]
fn a_list_without_pages_counts_itself() {
    let Page { items, total, next_cursor } = whole(vec!["a", "b"]).0;
    assert_eq!((items.len(), total, next_cursor), (2, 2, None));
}
