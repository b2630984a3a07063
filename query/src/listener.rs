//! HTTP/1 as the small clients of modems read it: the names of headers in title case, as most servers
//! write them, and few of them.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Extension, Router,
    extract::ConnectInfo,
    http::{HeaderMap, HeaderName, header},
    middleware::map_response,
    response::Response,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// What a modem can make use of; what is for browsers would only fill its buffer.
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

/// Serves routes to modems until `stop`; requests under way are finished first.
pub(crate) async fn serve_modems(listener: TcpListener, routes: Router, stop: CancellationToken) {
    let routes = routes.layer(map_response(few_headers));
    let mut http = http1::Builder::new();
    http.title_case_headers(true).timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, from)) => {
                let served = connection(http.clone(), routes.clone(), stream, from, stop.clone());
                connections.spawn(served);
            }
            Err(error) => {
                // Too many open files, as a rule: a pause lets some of them close.
                tracing::warn!(%error, "can't accept a device's connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn connection(
    http: http1::Builder,
    routes: Router,
    stream: TcpStream,
    from: SocketAddr,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(routes.layer(Extension(ConnectInfo(from))));
    let mut connection = Box::pin(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "a device's connection ended");
    }
}

async fn few_headers(mut response: Response) -> Response {
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
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_modem_gets_few_headers_in_title_case() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let answer = || async {
            ([("content-security-policy", "default-src 'self'"), ("etag", "\"x\"")], "image")
        };
        let whose = async |ConnectInfo(from): ConnectInfo<SocketAddr>| from.ip().to_string();
        let routes = Router::new().route("/", get(answer)).route("/who", get(whose));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve_modems(listener, routes, stop.clone()));
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
