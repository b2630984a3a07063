//! Origins and tokens of live connections.

use super::*;

fn origin(origin: Option<&'static str>, allowed: &[&str]) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, "acuvim.example:5000".parse().expect("a header"));
    if let Some(origin) = origin {
        headers.insert(header::ORIGIN, origin.parse().expect("a header"));
    }
    let allowed: Vec<String> = allowed.iter().map(|&o| o.to_owned()).collect();
    check_origin(&headers, &allowed).is_ok()
}

#[test]
fn pages_of_other_origins_are_refused() {
    assert!(origin(None, &[]), "not a browser");
    assert!(origin(Some("https://acuvim.example:5000"), &[]), "our own, behind a TLS proxy");
    for other in ["https://evil.example", "http://acuvim.example:5001", "null", ""] {
        assert!(!origin(Some(other), &[]), "{other}");
    }
    assert!(origin(Some("https://dash.example"), &["https://dash.example"]));
}

#[test]
fn a_token_is_found_in_the_query() {
    assert_eq!(in_query("id=1&access_token=a.b%2Bc").as_deref(), Some("a.b+c"));
    assert_eq!(in_query("id=1"), None);
}

#[test]
fn an_origin_is_ours_by_its_whole_host_and_port() {
    for other in [
        "https://acuvim.example",
        "https://acuvim.example:5000.evil.example",
        "https://evil.example/acuvim.example:5000",
        "https://user@acuvim.example:5000",
        "acuvim.example:5000",
    ] {
        assert!(!origin(Some(other), &[]), "{other}");
    }
    assert!(!origin(Some("https://dash.example.evil"), &["https://dash.example"]));
    let mut no_host = HeaderMap::new();
    no_host.insert(header::ORIGIN, "https://acuvim.example".parse().expect("a header"));
    assert!(check_origin(&no_host, &[]).is_err(), "nobody says who we are");
}

#[test]
fn the_first_token_of_a_query_counts() {
    assert_eq!(in_query("access_token=a&access_token=b").as_deref(), Some("a"));
    assert_eq!(in_query("access_token="), Some(String::new()), "which is no valid one");
    assert_eq!(in_query("ACCESS_TOKEN=a"), None);
    assert_eq!(in_query("access%5Ftoken=a").as_deref(), Some("a"));
}
