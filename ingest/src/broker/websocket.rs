//! The websocket handshake: which web pages may connect, and how large a message may be.

use std::{io, net::SocketAddr};

use mqtt5::broker::websocket_server::WebSocketStreamWrapper;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderMap, HeaderValue, StatusCode, header},
        protocol::WebSocketConfig,
    },
};

use super::unfinished::MAX_PACKET;

/// The path of MQTT over websockets.
const PATH: &str = "/mqtt";

/// Small buffers, because there are thousands of connections.
const BUFFER: usize = 4 << 10;

/// A connection after its handshake.
pub(super) struct Upgraded<S: AsyncRead + AsyncWrite + Unpin> {
    pub stream: WebSocketStreamWrapper<S>,
    /// Whether a web page opened it.
    pub from_a_page: bool,
}

/// Answers the handshake, or refuses it with the status that says why.
pub(super) async fn accept<S>(
    stream: S,
    from: SocketAddr,
    origins: &[String],
) -> Result<Upgraded<S>, io::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut from_a_page = false;
    let check = |request: &Request, mut response: Response| {
        from_a_page = request.headers().contains_key(header::ORIGIN);
        if let Err(status) = check_request(request, origins) {
            tracing::info!(%from, %status, "a websocket was refused");
            return Err(refusal(status));
        }
        // Only if it was offered: a browser closes a connection with a protocol that it did not ask for.
        if speaks_mqtt(request.headers()) {
            let mqtt = HeaderValue::from_static("mqtt");
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, mqtt);
        }
        Ok(response)
    };
    // The default of 64 MiB would apply before anybody has logged in.
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_PACKET))
        .max_frame_size(Some(MAX_PACKET))
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER);
    let upgraded = accept_hdr_async_with_config(stream, check, Some(config)).await;
    let stream = WebSocketStreamWrapper::new(upgraded.map_err(io::Error::other)?);
    Ok(Upgraded { stream, from_a_page })
}

fn refusal(status: StatusCode) -> ErrorResponse {
    let mut refused = ErrorResponse::new(None);
    *refused.status_mut() = status;
    refused
}

fn check_request(request: &Request, origins: &[String]) -> Result<(), StatusCode> {
    if request.uri().path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    match is_allowed(request.headers(), origins) {
        true => Ok(()),
        false => Err(StatusCode::FORBIDDEN),
    }
}

/// Whether the page's origin is allowed: this server's own, or one of `http.cors_origins`, as with the hub.
/// Clients that are no browser send no origin.
fn is_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    // Only host and port are compared: behind a proxy that ends TLS the scheme differs.
    let ours = origin.split_once("://").is_some_and(|(_, at)| Some(at) == host);
    ours || allowed.iter().any(|one| one == origin)
}

fn speaks_mqtt(headers: &HeaderMap) -> bool {
    let named = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|v| v.to_str().ok());
    named.is_some_and(|names| names.split(',').any(|name| name.trim() == "mqtt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(path: &str, origin: Option<&str>) -> Result<(), u16> {
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().expect("a path");
        let headers = request.headers_mut();
        headers.insert(header::HOST, "acuvim.example:9001".parse().expect("a host"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("an origin"));
        }
        let allowed = ["https://dash.example".to_owned()];
        check_request(&request, &allowed).map_err(|status| status.as_u16())
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        assert_eq!(answer("/mqtt", None), Ok(()), "not a browser");
        assert_eq!(answer("/mqtt", Some("http://acuvim.example:9001")), Ok(()), "our own");
        assert_eq!(answer("/mqtt", Some("https://dash.example")), Ok(()));
        for other in ["https://evil.example", "http://acuvim.example:5000", "null", ""] {
            assert_eq!(answer("/mqtt", Some(other)), Err(403), "{other}");
        }
        assert_eq!(answer("/", None), Err(404));
    }

    #[test]
    fn an_origin_is_compared_whole() {
        for other in [
            "https://dash.example.evil",
            "https://dash.example:8443",
            "http://dash.example",
            "https://DASH.example",
            "dash.example",
            "acuvim.example:9001",
            "https://acuvim.example",
            "https://acuvim.example:9001.evil",
            "https://dash.example, https://evil.example",
        ] {
            assert_eq!(answer("/mqtt", Some(other)), Err(403), "{other}");
        }
        assert_eq!(answer("/mqtt?token=x", None), Ok(()), "a query is none of our business");
        for path in ["/mqtt/", "/MQTT", "/mqtt/x"] {
            assert_eq!(answer(path, None), Err(404), "{path}");
        }
    }

    /// Without a host there is nothing that an origin could be the same as.
    #[test]
    fn a_request_without_a_host_or_with_bytes_for_an_origin_is_refused() {
        let mut headers = HeaderMap::new();
        assert!(is_allowed(&headers, &[]), "not a browser");
        headers.insert(header::ORIGIN, HeaderValue::from_static("http://"));
        assert!(!is_allowed(&headers, &[]));
        let bytes = HeaderValue::from_bytes(b"http://\xff").expect("a value");
        headers.insert(header::ORIGIN, bytes);
        headers.insert(header::HOST, HeaderValue::from_static("x"));
        assert!(!is_allowed(&headers, &["http://x".to_owned()]));
    }

    #[test]
    fn the_protocol_is_answered_if_it_is_among_those_offered() {
        let speaks = |offered: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offered));
            speaks_mqtt(&headers)
        };
        for offered in ["mqtt", "mqttv3.1, mqtt", " mqtt ,chat"] {
            assert!(speaks(offered), "{offered}");
        }
        for offered in ["", "mqttv3.1", "xmqtt", "chat,mqtt5"] {
            assert!(!speaks(offered), "{offered}");
        }
        assert!(!speaks_mqtt(&HeaderMap::new()));
    }

    /// A handshake that is refused must say so, and not just close the connection.
    #[tokio::test]
    async fn a_refusal_is_an_answer_with_its_status() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        for (path, origin, status) in [
            ("/other", "", "404 Not Found"),
            ("/mqtt", "Origin: https://evil.example\r\n", "403 Forbidden"),
        ] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                 {origin}\r\n"
            );
            let (mut client, server) = tokio::io::duplex(4096);
            client.write_all(request.as_bytes()).await.expect("written");
            let at = "127.0.0.1:1".parse().expect("an address");
            assert!(accept(server, at, &[]).await.is_err(), "{path}");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("an answer");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }

    /// A browser is never anonymous, whatever page it shows.
    #[tokio::test]
    async fn a_request_with_an_origin_is_known_as_such() {
        for (origin, want) in [("", false), ("Origin: https://dash.example\r\n", true)] {
            let request = format!(
                "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                 {origin}\r\n"
            );
            let (mut client, server) = tokio::io::duplex(4096);
            tokio::io::AsyncWriteExt::write_all(&mut client, request.as_bytes())
                .await
                .expect("written");
            let at = "127.0.0.1:1".parse().expect("an address");
            let allowed = ["https://dash.example".to_owned()];
            let upgraded = accept(server, at, &allowed).await.expect("a websocket");
            assert_eq!(upgraded.from_a_page, want, "{origin}");
        }
    }
}
