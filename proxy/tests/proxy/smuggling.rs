//! Requests that two readers could read in two ways. We read them in one way and write them anew, or refuse them and close;
//! either way, nobody's next request on the same connection upstream gets an answer that is not its own.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use tidegate_policy::model::{AppProtocol, Cors, Listed, Redirect, Resource, RouteFilter, WebScheme};
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::backend::{FaultBackend, Script};
use tidegate_testkit::client::{Client, RawClient};

use crate::mesh::{Gateway, everything_to, get, loopback, sidecar, sidecar_config};

/// A second request that hides behind a first.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("transfer-encoding: chunked\r\n", body)
}

/// What comes back until the proxy closes, which it does by itself.
async fn whole_answer(address: SocketAddr, request: &str) -> String {
    let mut client = RawClient::connect(address).await;
    client.write(request).await;
    client.read_to_end().await
}

fn stalling(app: SocketAddr) -> Running {
    let mut config = sidecar_config(app, AppProtocol::Http1);
    config.stall_timeout = Some(Duration::from_millis(50));
    Proxy::start(config).unwrap()
}

#[tokio::test]
async fn a_request_of_doubtful_length_is_refused_with_all_that_follows() {
    let backend = FaultBackend::start().await;
    let proxy = stalling(backend.address());
    let address = proxy.inbound().unwrap();
    let mut bystander = Client::http1(address).await;
    let lengths = ["3, 3", "3 3", "0x3", "3;a", "", "１", "3\r\ncontent-length: 4", "18446744073709551616"];
    let codings = [
        "chunked\r\ntransfer-encoding: identity",
        "chunked, identity",
        "chunked;a=b",
        "\"chunked\"",
        "chunked\0",
        "ch\tunked",
        "\r\n chunked",
        "",
        "gzip",
    ];
    let mut requests: Vec<_> =
        lengths.iter().map(|l| post(&format!("content-length: {l}\r\n"), "abc")).collect();
    requests.extend(codings.iter().map(|c| post(&format!("transfer-encoding: {c}\r\n"), "0\r\n\r\n")));
    requests.extend([
        post("transfer_encoding\t: chunked\r\n", "0\r\n\r\n"),
        post("content-length : 3\r\n", "abc"),
        post("content-length\r\n: 3\r\n", "abc"),
        post(" content-length: 3\r\n", "abc"),
        post("content-length: 3\rx: y\r\n", "abc"),
        post("x: y\r\r\ncontent-length: 3\r\n", "abc"),
        post("\0: y\r\ncontent-length: 3\r\n", "abc"),
    ]);
    for request in requests {
        let answer = whole_answer(address, &format!("{request}{HIDDEN}")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{request:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{request:?}: {answer}");
        assert_eq!(bystander.get("/own").await.status, 200);
    }
    assert!(backend.seen().iter().all(|head| head.uri == "/own"));
}

#[tokio::test]
async fn a_chunk_of_doubtful_size_is_refused_with_all_that_follows() {
    let backend = FaultBackend::start().await;
    let proxy = stalling(backend.address());
    let address = proxy.inbound().unwrap();
    backend.always(Script::ReadThenReset);
    let endless = format!("3;{}", "a".repeat(200_000));
    for (size, what) in [
        ("+3", "a sign"),
        ("-3", "a negative size"),
        ("0x3", "a prefix"),
        ("", "no size"),
        (" 3", "a space before it"),
        ("3 3", "two sizes"),
        ("3_0", "a separator"),
        ("g", "no number"),
        ("10000000000000003", "a size of more than 64 bits"),
        ("ffffffffffffffff", "the largest size"),
        ("3\n", "a line feed too many"),
        ("3\r", "a carriage return too many"),
        ("3;a=\0b\x7f\r", "an extension with a line break in it"),
        (endless.as_str(), "an extension without end"),
    ] {
        let request = chunked(&format!("{size}\r\nabc\r\n0\r\n\r\n{HIDDEN}"));
        let mut client = RawClient::connect(address).await;
        client.write(request).await;
        let answer = client.read_to_end().await;
        // The largest size is one that can be: its body just never comes whole.
        let refused = answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 408");
        assert!(refused, "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer}");
    }
    assert!(backend.seen().iter().all(|head| head.uri != "/smuggled"));
}

#[tokio::test]
async fn a_body_whose_end_never_comes_is_given_up() {
    let backend = FaultBackend::start().await;
    backend.always(Script::ReadThenReset);
    let proxy = stalling(backend.address());
    for request in [
        chunked("3\r\nabc\r\n0\r\n"),
        chunked("3\r\nabc\r\n"),
        chunked("3\r\nab"),
        chunked("3"),
        post("content-length: 4\r\n", "abc"),
    ] {
        let answer = whole_answer(proxy.inbound().unwrap(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{request:?}: {answer}");
    }
    backend.until(|c| c.requests == c.cancelled).await;
}

#[tokio::test]
async fn what_is_written_oddly_but_means_one_thing_is_written_anew() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let proxy = sidecar(backend.address());
    for (what, request, body) in [
        (
            "line feeds alone, which RFC 9112 section 2.2 lets us take",
            "POST / HTTP/1.1\nhost: a\nconnection: close\ncontent-length: 3\n\nabc".into(),
            "abc",
        ),
        (
            "empty lines before the request",
            format!("\r\n\r\n{}", post("connection: close\r\ncontent-length: 3\r\n", "abc")),
            "abc",
        ),
        (
            "one length, said twice",
            post("connection: close\r\ncontent-length: 3\r\ncontent-length: 3\r\n", "abc"),
            "abc",
        ),
        ("zeros before a length", post("connection: close\r\ncontent-length: 003\r\n", "abc"), "abc"),
        ("spaces around a value", post("connection: close\r\ncontent-length: \t 3 \t \r\n", "abc"), "abc"),
        (
            "chunked in capitals",
            post("connection: close\r\nTRANSFER-ENCODING: Chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            "abc",
        ),
        (
            "a chunk with an extension",
            post(
                "connection: close\r\ntransfer-encoding: chunked\r\n",
                "3;a=b;c=\"d\"\r\nabc\r\n0;e\r\n\r\n",
            ),
            "abc",
        ),
        (
            "zeros before a size",
            post("connection: close\r\ntransfer-encoding: chunked\r\n", "0003\r\nabc\r\n000\r\n\r\n"),
            "abc",
        ),
        (
            "a length that chunked overrides",
            post("content-length: 99\r\ntransfer-encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            "abc",
        ),
        (
            "a connection that wants its own length dropped",
            post("connection: close, content-length\r\ncontent-length: 3\r\n", "abc"),
            "abc",
        ),
    ] {
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write(request).await;
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(body), "{what}: {answer}");
    }
    for head in backend.seen() {
        let both =
            ["content-length", "transfer-encoding"].iter().all(|name| head.headers.contains_key(*name));
        assert!(!both, "{head:?}");
        assert!(head.headers.get_all("content-length").iter().count() < 2, "{head:?}");
    }
}

#[tokio::test]
async fn a_target_that_two_readers_could_read_in_two_ways_is_refused() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let mut taken = Vec::new();
    for line in [
        "GET http://user@b/ HTTP/1.1",
        "GET http://user:pass@b/ HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http:/x HTTP/1.1",
        "GET x HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET / x HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET / HTTP/1.1 HTTP/1.1",
        "GET / HTTP/1.2.3",
        "GET / HTTP/2.0",
        "GET / HTTP/3",
        "GET / http/1.1",
        "GET / HTTP/11",
        "GET /",
        "GET",
        "G\x01T / HTTP/1.1",
        "CONNECT / HTTP/1.1",
    ] {
        let answer =
            whole_answer(proxy.inbound().unwrap(), &format!("{line}\r\nhost: a\r\n\r\n{HIDDEN}")).await;
        if !answer.starts_with("HTTP/1.1 400") || answer.matches("HTTP/1.1").count() != 1 {
            taken.push((line, answer));
        }
    }
    for host in ["a/b", "a b", "a@b", "a?b", "a#b", "a:b:c", "[::1", "a:99999", "", "a\\b"] {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n{HIDDEN}");
        let answer = whole_answer(proxy.inbound().unwrap(), &request).await;
        if !answer.starts_with("HTTP/1.1 400") {
            taken.push((host, answer));
        }
    }
    assert!(taken.is_empty(), "{taken:#?}");
    assert_eq!(backend.seen().len(), 0);
}

#[tokio::test]
async fn an_absolute_target_says_the_host_whatever_the_header_says() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let request = "GET http://right:81/x HTTP/1.1\r\nhost: wrong\r\nconnection: close\r\n\r\n";
    assert!(whole_answer(proxy.inbound().unwrap(), request).await.starts_with("HTTP/1.1 200"));
    let seen = backend.seen();
    assert_eq!(
        (seen[0].uri.to_string(), seen[0].headers["host"].as_bytes()),
        ("/x".into(), &b"right:81"[..])
    );
    assert_eq!(seen[0].headers.get_all("host").iter().count(), 1);
}

#[tokio::test]
async fn what_follows_a_request_is_read_as_the_next_and_answered_by_itself() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let address = proxy.inbound().unwrap();
    // A body of no length: what looks like one is the next request, and makes no sense.
    let answer = whole_answer(address, "GET /one HTTP/1.1\r\nhost: a\r\n\r\nGARBAGE\r\n\r\n").await;
    let statuses: Vec<_> = answer.matches("HTTP/1.1 200").chain(answer.matches("HTTP/1.1 400")).collect();
    assert_eq!(statuses, ["HTTP/1.1 200", "HTTP/1.1 400"], "{answer}");
    // With HTTP/1.0 and without keep-alive, nothing follows at all.
    let answer = whole_answer(address, &format!("GET /two HTTP/1.0\r\nhost: a\r\n\r\n{HIDDEN}")).await;
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
    assert!(backend.seen().iter().all(|head| head.uri != "/smuggled"));
}

#[tokio::test]
async fn trailers_bring_no_fields_that_say_how_to_read_or_route_a_message() {
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let backend = FaultBackend::start().await;
        backend.always(Script::Echo);
        let proxy = Proxy::start(sidecar_config(backend.address(), protocol)).unwrap();
        let fields = "te: trailers\r\nconnection: te, close\r\ntrailer: x-sum, content-length, host, transfer-encoding, authorization, connection\r\ntransfer-encoding: chunked\r\n";
        let trailers = "x-sum: fine\r\ncontent-length: 7\r\nhost: evil\r\ntransfer-encoding: chunked\r\nauthorization: evil\r\nconnection: x-sum\r\nx-tidegate-attempt: 9\r\n";
        let answer = whole_answer(
            proxy.inbound().unwrap(),
            &post(fields, &format!("3\r\nabc\r\n0\r\n{trailers}\r\n")),
        )
        .await;
        // They come back as the backend has read them.
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains("abc") && body.contains("x-sum: fine"), "{protocol:?}: {answer}");
        for gone in ["content-length", "evil", "transfer-encoding", "connection", "attempt"] {
            assert!(!body.contains(gone), "{protocol:?} {gone}: {answer}");
        }
    }
}

#[tokio::test]
async fn no_filter_writes_a_line_break_that_a_request_brought() {
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[loopback(1)]);
    for resource in &mut all {
        if let Resource::Route(route) = resource {
            route.rules[0].filters = vec![
                RouteFilter::Cors(Cors { origins: Listed::All, credentials: true, ..Cors::default() }),
                RouteFilter::Redirect(Redirect {
                    scheme: Some(WebScheme::Https),
                    hostname: None,
                    path: None,
                    port: None,
                    status: StatusCode::FOUND,
                }),
            ];
        }
    }
    gateway.apply(all);
    let address = gateway.address().await;
    for (path, host, origin) in [
        ("/a%0d%0aset-cookie:%20evil=1", "a", "http://a"),
        ("/a%0D%0A%0D%0AHTTP/1.1%20200%20OK", "a", "http://a%0d%0aset-cookie:evil=1"),
        ("/a?b=%0d%0aset-cookie:%20evil=1", "a", "null"),
        ("/\u{560a}\u{560d}set-cookie:evil=1", "a", "http://\u{560a}\u{560d}evil"),
        ("//evil.example/%2e%2e", "a%0d%0aset-cookie:evil", "http://a"),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\nconnection: close\r\n\r\n");
        let answer = whole_answer(address, &request).await;
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.lines().skip(1).all(|line| !line.starts_with("set-cookie")), "{request:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{request:?}: {answer}");
        // A redirect leads to another scheme of this host, never to another host.
        let location = head.lines().find_map(|line| line.strip_prefix("location: "));
        assert!(
            location.is_none_or(|at| at.starts_with("https://a/") || at.starts_with("https://a:")),
            "{answer}"
        );
    }
    let answer = Client::http1(address).await.call(get("/plain")).await;
    assert!(answer.status.is_redirection(), "{answer:?}");
}
