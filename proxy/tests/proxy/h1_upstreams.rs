//! Endpoints that speak HTTP/1.1 badly, by mistake or on purpose: our client gets a clear answer or a body that is cut, never
//! one that is another's, and the next request on the same pool gets its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{Method, Request};
use tidegate_policy::model::AppProtocol;
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::{Answer, Client, RawClient};
use tokio::net::{TcpListener, TcpStream};

use crate::mesh::sidecar_config;

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
/// What nobody must ever get as an answer.
const EVIL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";

const EARLY: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";

/// What an endpoint does after its bytes.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Waits for the next request.
    Wait,
    Close,
    /// Sends this again and again.
    Repeat(&'static str),
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// An answer of ours that names the endpoint as the one at fault.
    Refused,
    /// A body that breaks off.
    Cut,
    /// The endpoint's answer, with this body.
    Body(&'static str),
}

type Case = (&'static str, String, Then, Want);

fn case(what: &'static str, bytes: impl Into<String>, want: Want) -> Case {
    (what, bytes.into(), Then::Wait, want)
}

fn head(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

/// The second request of all gets the mischief, so that it meets a pool that has been used; the others get [`GOOD`].
async fn endpoint(bytes: String, then: Then) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<AtomicU32>::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, bytes.clone(), then, asked.clone()));
        }
    });
    address
}

async fn serve(stream: TcpStream, bytes: String, then: Then, asked: Arc<AtomicU32>) {
    let mut server = RawClient::from(stream);
    while server.read_until("\r\n\r\n").await.ends_with("\r\n\r\n") {
        if asked.fetch_add(1, Ordering::Relaxed) != 1 {
            server.try_write(GOOD).await;
            continue;
        }
        server.try_write(&bytes).await;
        match then {
            Then::Wait => {}
            Then::Close => return,
            Then::Repeat(more) => while server.try_write(more).await {},
        }
    }
}

fn proxy(endpoint: SocketAddr) -> Running {
    let mut config = sidecar_config(endpoint, AppProtocol::Http1);
    config.request_timeout = Some(Duration::from_millis(300));
    config.stall_timeout = Some(Duration::from_millis(300));
    Proxy::start(config).unwrap()
}

/// What the client saw, in the words of [`Want`].
async fn ask(client: &mut Client, method: &Method) -> Result<Answer, Want> {
    let request = Request::builder().method(method).uri("/").body(empty()).unwrap();
    let response = client.send(request).await.map_err(|_| Want::Cut)?;
    Answer::read(response).await.map_err(|_| Want::Cut)
}

fn is(saw: &Result<Answer, Want>, want: Want) -> bool {
    const FAULTS: [&str; 3] = ["upstream_protocol", "upstream_reset", "request_timeout"];
    match (saw, want) {
        (Err(saw), want) => *saw == want,
        (Ok(answer), Want::Body(body)) => answer.reason().is_none() && answer.body == body,
        (Ok(answer), Want::Refused) => {
            answer.status.is_server_error() && answer.reason().is_some_and(|why| FAULTS.contains(&why))
        }
        (Ok(_), Want::Cut) => false,
    }
}

async fn hold(method: Method, cases: Vec<Case>) {
    let mut failures = Vec::new();
    for (what, bytes, then, want) in &cases {
        let proxy = proxy(endpoint(bytes.clone(), *then).await);
        let address = proxy.inbound().unwrap();
        // By HTTP/2, so that a body that is cut costs this client nothing but the body.
        let mut client = Client::http2(address).await;
        assert_eq!(client.get("/").await.body, "good", "{what}");
        let saw = ask(&mut client, &method).await;
        if !is(&saw, *want) {
            failures.push(format!("{what}: wanted {want:?}, saw {saw:?}"));
        }
        for _ in 0..3 {
            let next = ask(&mut client, &Method::GET).await;
            if !next.as_ref().is_ok_and(|answer| answer.body == "good") {
                failures.push(format!("{what}: afterwards {next:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[tokio::test]
async fn an_answer_of_doubtful_length_is_refused_or_read_in_the_one_safe_way() {
    hold(
        Method::GET,
        vec![
            // RFC 9112, section 6.3: chunked wins, and the length goes no further.
            case(
                "a length beside chunked",
                head("content-length: 2\r\ntransfer-encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n"),
                Want::Body("body"),
            ),
            case("two lengths", head("content-length: 4\r\ncontent-length: 5\r\n", "bodyx"), Want::Refused),
            case("two lengths in one field", head("content-length: 4, 5\r\n", "bodyx"), Want::Refused),
            case("a negative length", head("content-length: -4\r\n", "body"), Want::Refused),
            case("a length with a sign", head("content-length: +4\r\n", "body"), Want::Refused),
            case(
                "a length of more than 64 bits",
                head("content-length: 18446744073709551617\r\n", "b"),
                Want::Refused,
            ),
            case("a length in other digits", head("content-length: 0x4\r\n", "body"), Want::Refused),
            case(
                "the same length twice",
                head("content-length: 4\r\ncontent-length: 4\r\n", "body"),
                Want::Body("body"),
            ),
            case("a space before the colon", head("content-length : 4\r\n", "body"), Want::Refused),
            case("a folded length", head("content-length:\r\n 4\r\n", "body"), Want::Refused),
            ("neither length nor chunks", head("", "body"), Then::Close, Want::Body("body")),
            ("less than the length", head("content-length: 9\r\n", "body"), Then::Close, Want::Cut),
            case(
                "more than the length",
                head("content-length: 4\r\n", &format!("body{EVIL}")),
                Want::Body("body"),
            ),
            case(
                "a second answer",
                format!("{}{EVIL}", head("content-length: 4\r\n", "body")),
                Want::Body("body"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn chunks_that_cannot_be_read_cut_the_answer() {
    let chunked = |body: &str| head("transfer-encoding: chunked\r\n", body);
    hold(
        Method::GET,
        vec![
            case(
                "chunks with extensions and trailers",
                chunked("4;a=b\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n"),
                Want::Body("body"),
            ),
            case("a size that is no number", chunked("4\r\nbody\r\nz\r\n"), Want::Cut),
            case("a size with a sign", chunked("4\r\nbody\r\n+1\r\nx\r\n0\r\n\r\n"), Want::Cut),
            case("a size of more than 64 bits", chunked("4\r\nbody\r\n10000000000000001\r\nx"), Want::Cut),
            case("a chunk longer than its size", chunked("4\r\nbodyx\r\n0\r\n\r\n"), Want::Cut),
            ("an end without the last chunk", chunked("4\r\nbody\r\n"), Then::Close, Want::Cut),
            case("an end that never comes", chunked("4\r\nbody\r\n0\r\n"), Want::Cut),
            ("a stop in the middle of a chunk", chunked("9\r\nbo"), Then::Wait, Want::Cut),
            case(
                "a second answer behind chunks",
                format!("{}{EVIL}", chunked("4\r\nbody\r\n0\r\n\r\n")),
                Want::Body("body"),
            ),
            ("an extension without end", chunked("4;"), Then::Repeat("aaaaaaaaaaaaaaaa"), Want::Cut),
            (
                "trailers without end",
                chunked("4\r\nbody\r\n0\r\n"),
                Then::Repeat("x-a: aaaaaaaaaaaaaaaa\r\n"),
                Want::Cut,
            ),
            // Not ours to decode, and not to be passed on as if it were plain.
            case(
                "a coding that is not chunked",
                head("transfer-encoding: gzip, chunked\r\n", "4\r\nbody\r\n0\r\n\r\n"),
                Want::Refused,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn heads_that_make_no_sense_are_502() {
    let many = "x-a: b\r\n".repeat(2_000);
    let large = format!("x-a: {}\r\n", "a".repeat(300_000));
    hold(
        Method::GET,
        vec![
            case(
                "a line break in a value",
                head("x-a: b\rset-cookie: evil=1\r\ncontent-length: 0\r\n", ""),
                Want::Refused,
            ),
            case("a NUL in a value", head("x-a: b\0c\r\ncontent-length: 0\r\n", ""), Want::Refused),
            case("a folded value", head("x-a: b\r\n c\r\ncontent-length: 0\r\n", ""), Want::Refused),
            case("a field without a name", head(": a\r\ncontent-length: 0\r\n", ""), Want::Refused),
            case("a line without a colon", head("nonsense\r\ncontent-length: 0\r\n", ""), Want::Refused),
            case("a name with a space", head("x a: b\r\ncontent-length: 0\r\n", ""), Want::Refused),
            case("a status of two digits", "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n", Want::Refused),
            case("a status of four digits", "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n", Want::Refused),
            case("a status below all", "HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n", Want::Refused),
            case("a version that is none", "HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n", Want::Refused),
            case("HTTP/2", "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n", Want::Refused),
            case("no HTTP", "220 mail.example ESMTP\r\n\r\n", Want::Refused),
            ("HTTP/0.9", "<html>evil</html>\r\n\r\n".into(), Then::Close, Want::Refused),
            case("too many fields", head(&many, ""), Want::Refused),
            case("a field that is too large", head(&large, ""), Want::Refused),
            case(
                "101 that nobody asked for",
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
                Want::Refused,
            ),
            case(
                "a line feed alone for a line break",
                "HTTP/1.1 200 OK\ncontent-length: 4\n\nbody",
                Want::Body("body"),
            ),
            case("no reason phrase", "HTTP/1.1 200\r\ncontent-length: 4\r\n\r\nbody", Want::Body("body")),
            // To GET, asked again on another connection: this one may have died before it saw the request.
            (
                "an end in the middle of a head",
                "HTTP/1.1 200 OK\r\ncontent-".into(),
                Then::Close,
                Want::Body("good"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_endpoint_that_never_comes_to_its_answer_is_given_up() {
    hold(
        Method::GET,
        vec![
            ("a stop in the middle of a head", "HTTP/1.1 200 OK\r\nx-a: ".into(), Then::Wait, Want::Refused),
            (
                "a head without end",
                "HTTP/1.1 200 OK\r\n".into(),
                Then::Repeat("x-a: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"),
                Want::Refused,
            ),
            (
                "a field without end",
                "HTTP/1.1 200 OK\r\nx-a: ".into(),
                Then::Repeat("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
                Want::Refused,
            ),
            (
                "a status line without end",
                "HTTP/1.1 200 ".into(),
                Then::Repeat("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
                Want::Refused,
            ),
            ("informational answers for ever", EARLY.into(), Then::Repeat(EARLY), Want::Refused),
            case(
                "informational answers and then the answer",
                format!("{EARLY}{EARLY}{GOOD}"),
                Want::Body("good"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_answer_that_has_no_body_takes_none_from_what_follows() {
    let bodies = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nevil");
    hold(
        Method::GET,
        vec![
            case("204 with a body", bodies("204 No Content"), Want::Body("")),
            case("304 with a body", bodies("304 Not Modified"), Want::Body("")),
            case(
                "204 with chunks",
                "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
                Want::Body(""),
            ),
        ],
    )
    .await;
    hold(
        Method::HEAD,
        vec![
            case("a body for HEAD", bodies("200 OK"), Want::Body("")),
            case(
                "chunks for HEAD",
                head("transfer-encoding: chunked\r\n", "4\r\nevil\r\n0\r\n\r\n"),
                Want::Body(""),
            ),
        ],
    )
    .await;
}
