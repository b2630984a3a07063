//! Fewer headers for the HTTP clients of modems, whose buffers are small.

use axum::{
    http::{HeaderMap, HeaderName, header},
    response::Response,
};

/// The headers that a modem can use; those for browsers would only fill its buffer.
const KEPT: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::ACCEPT_RANGES,
    header::ETAG,
    header::RETRY_AFTER,
    header::TRANSFER_ENCODING,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("digest"),
];

/// Removes the other headers of a response.
pub(crate) async fn few_headers(mut response: Response) -> Response {
    let all = std::mem::take(response.headers_mut());
    let kept: HeaderMap = all
        .iter()
        .filter(|(name, _)| KEPT.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    *response.headers_mut() = kept;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        address::TrustedProxies,
        listen::{self, ConnectionLimits},
    };
    use axum::{Router, extract::ConnectInfo, middleware::map_response, routing::get};
    use std::net::SocketAddr;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_modem_gets_few_headers_in_title_case() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let answer = || async {
            ([("content-security-policy", "default-src 'self'"), ("etag", "\"x\"")], "image")
        };
        let whose = async |ConnectInfo(from): ConnectInfo<SocketAddr>| from.ip().to_string();
        let routes = Router::new().route("/", get(answer)).route("/who", get(whose));
        let routes = routes.layer(map_response(few_headers));
        let slots =
            listen::ConnectionSlots::new(ConnectionLimits::default(), TrustedProxies::default());
        let names = listen::HeaderNames::TitleCase;
        let stop = CancellationToken::new();
        let server = tokio::spawn(listen::serve(listener, routes, slots, names, stop.clone()));
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(at).await.expect("connect");
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("write");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("an answer");
            text
        };
        let text = ask("/").await;
        for wanted in ["HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n", "Etag: \"x\"\r\n"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert!(!text.to_lowercase().contains("security-policy"), "{text}");
        assert!(text.len() < 250, "{} bytes: {text}", text.len());
        assert!(ask("/who").await.ends_with("127.0.0.1"));
        stop.cancel();
        server.await.expect("it ends");
    }
}
