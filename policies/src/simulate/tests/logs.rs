use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::Reason;
use log::{Format, Line, Missing, Reader};

const OURS: &str = r#"{"time":"2026-11-28T18:10:28.123Z","request_id":"r-1","duration_ms":23.5,"tidegate.direction":"gateway","http.request.method":"POST","url.scheme":"http","url.path":"/cart/7","network.protocol.version":"1.1","client.address":"10.1.2.3","server.address":"shop.example","server.port":8080,"user_agent.original":"curl/8","http.response.status_code":201,"http.request.body.size":0,"http.response.body.size":5,"tidegate.route":"shop/cart","tidegate.rule":"all","decisions":[{"policy":"shop/p","kind":"RateLimitPolicy"}]}"#;
const ENVOY: &str = r#"{"START_TIME":"2026-11-28T18:10:28.123Z","method":"GET","path":"/cart?x=1","PROTOCOL":"HTTP/1.1","response_code":503,"response_flags":"UF","bytes_sent":91,"duration":"12","upstream_service_time":null,"x-forwarded-for":"10.9.8.7, 10.0.0.1",":authority":"shop.example","user-agent":"a","x-user":"ann"}"#;
const COMBINED: &str = r#"10.1.2.3 - frank [10/Oct/2000:13:55:36 -0700] "GET /a/b?x=1 HTTP/1.1" 200 2326 "http://r/" "Moz \"5\"""#;

fn reader(format: Format) -> Reader {
    Reader::new(format, HeaderValue::from_static("usual.example"), "gateway", 1)
}

fn read(format: Format, line: &str) -> Request {
    let mut request = Request::default();
    assert_eq!(reader(format).read(line.as_bytes(), &mut request), Line::Request, "{line}");
    request
}

fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.head.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

fn millis(request: &Request) -> u64 {
    request.at.as_nanos() / 1_000_000
}

#[test]
fn a_line_of_ours_is_the_request_that_it_tells_of() {
    let request = read(Format::Tidegate, OURS);
    // It is written at the end.
    assert_eq!(request.at.as_nanos(), 1_795_889_428_123_000_000 - 23_500_000);
    assert_eq!(
        (request.head.method.as_str(), request.head.uri.to_string()),
        ("POST", String::from("/cart/7"))
    );
    assert_eq!(header(&request, "host"), "shop.example:8080");
    assert_eq!((header(&request, "user-agent"), header(&request, "x-request-id")), ("curl/8", "r-1"));
    assert_eq!(request.peer.address.ip().to_string(), "10.1.2.3");
    let answer = request.logged.answer.unwrap();
    assert_eq!((answer.result, answer.latency), (CallResult::Status(201), Duration::from_micros(23_500)));
}

#[test]
fn what_a_proxy_has_answered_itself_is_no_answer_of_a_backend() {
    let of = |reason: &str, status: u16| {
        let line = OURS.replace(r#""decisions""#, &format!(r#""tidegate.reason":"{reason}","decisions""#));
        read(Format::Tidegate, &line.replace("201", &status.to_string())).logged
    };
    assert_eq!(of("rate_limited", 429), Logged { status: Some(429), answer: None });
    let failed = of("connect_failed", 503).answer.unwrap();
    assert_eq!(failed.result, CallResult::Failed(Reason::ConnectFailed));
    let envoy = |flags: &str| read(Format::Envoy, &ENVOY.replace("\"UF\"", &format!("\"{flags}\""))).logged;
    assert_eq!(envoy("UF").answer.unwrap().result, CallResult::Failed(Reason::ConnectFailed));
    assert_eq!(envoy("RL").answer, None);
    assert_eq!(envoy("-").answer.unwrap().result, CallResult::Status(503));
    assert_eq!(envoy("UT,DC").answer.unwrap().result, CallResult::Failed(Reason::RequestTimeout));
}

#[test]
fn a_line_of_envoy_is_read_whatever_its_fields_are_called() {
    let request = read(Format::Envoy, ENVOY);
    assert_eq!(millis(&request), 1_795_889_428_123);
    assert_eq!(request.head.uri.to_string(), "/cart?x=1");
    assert_eq!((header(&request, "host"), header(&request, "x-user")), ("shop.example", "ann"));
    assert_eq!(request.peer.address.ip().to_string(), "10.9.8.7");
    assert_eq!(request.logged.answer.unwrap().latency, Duration::from_millis(12));
    let other = r#"{"start_time":"2026-11-28T18:10:28Z","authority":"a","path":"/","method":"GET","response_code":"200","duration":7,"upstream_service_time":"5","downstream_remote_address":"[::1]:5000"}"#;
    let request = read(Format::Envoy, other);
    assert_eq!(request.logged.answer.unwrap().latency, Duration::from_millis(5));
    assert_eq!(request.peer.address.to_string(), "[::1]:5000");
    // Whole seconds are spread.
    assert!((1_795_889_428_000..1_795_889_429_000).contains(&millis(&request)));
}

#[test]
fn a_header_comes_from_the_field_that_is_named_for_it() {
    let mut reader = reader(Format::Envoy);
    reader.header("x-tenant".parse().unwrap(), String::from("tenant"));
    let line = ENVOY.replace(r#""bytes_sent""#, r#""tenant":"t1","bytes_sent""#);
    let mut request = Request::default();
    assert_eq!(reader.read(line.as_bytes(), &mut request), Line::Request);
    assert_eq!(header(&request, "x-tenant"), "t1");
}

#[test]
fn lines_are_read_alike_whatever_fields_the_line_before_had() {
    let mut rng = fastrand::Rng::with_seed(5);
    let fields = [
        r#""start_time":"2026-11-28T18:10:28.5Z""#,
        r#""path":"/a""#,
        r#""Method":"PUT""#,
        r#""authority":"a.example""#,
        r#""response_code":404"#,
        r#""x-user":"ann""#,
        r#""tenant":"t1""#,
        r#""bytes":{"x-user":[1]}"#,
        r#""duration":3"#,
    ];
    let with_header = || {
        let mut reader = reader(Format::Envoy);
        reader.header("x-tenant".parse().unwrap(), String::from("tenant"));
        reader
    };
    let (mut one, mut request) = (with_header(), Request::default());
    let (mut chosen, mut many) = (Vec::new(), String::new());
    for _ in 0..1000 {
        // Now and then as the line before, but for a value.
        if rng.u8(..3) > 0 {
            chosen = fields.map(str::to_owned).to_vec();
            rng.shuffle(&mut chosen);
            chosen.truncate(rng.usize(5..=fields.len()));
            // More than are remembered by their place.
            many = (0..rng.usize(..80)).map(|n| format!("\"f{n}\":{n},")).collect();
        }
        let at = rng.usize(..chosen.len());
        chosen[at] = chosen[at].replace("ann", "bob").replace("t1", "\u{1}t2").replace(":", ": ");
        let line = format!("{{{many}{}}}", chosen.join(","));
        let read = |reader: &mut Reader, request: &mut Request| match reader.read(line.as_bytes(), request) {
            Line::Request => format!("{request:?}"),
            other => format!("{other:?}"),
        };
        assert_eq!(read(&mut one, &mut request), read(&mut with_header(), &mut Request::default()), "{line}");
    }
}

#[test]
fn common_and_combined_lines_are_read_with_and_without_a_host() {
    let request = read(Format::Combined, COMBINED);
    assert_eq!(millis(&request) / 1000, 971_211_336);
    assert_eq!(request.head.uri.to_string(), "/a/b?x=1");
    assert_eq!(header(&request, "host"), "usual.example");
    assert_eq!((header(&request, "referer"), header(&request, "user-agent")), ("http://r/", "Moz \"5\""));
    let common = "::1 - - [10/Oct/2000:13:55:36.250 +0000] \"GET http://h.example:81/x HTTP/1.0\" 404 -";
    let request = read(Format::Combined, common);
    assert_eq!(
        (header(&request, "host"), request.head.uri.to_string()),
        ("h.example:81", String::from("/x"))
    );
    assert_eq!(millis(&request), 971_186_136_250);
    let hosted = format!("v.example:80 {COMBINED}");
    let request = read(Format::Combined, &hosted);
    assert_eq!(header(&request, "host"), "v.example:80");
    assert_eq!(request.peer.address.ip().to_string(), "10.1.2.3");
}

#[test]
fn what_a_line_does_not_say_has_a_default_and_is_counted() {
    let mut reader = reader(Format::Envoy);
    let mut request = Request::default();
    let line = r#"{"start_time":"2026-11-28T18:10:28.5Z","path":"/","response_code":0.5,"duration":-3}"#;
    assert_eq!(reader.read(line.as_bytes(), &mut request), Line::Request);
    let missing: Vec<_> = reader.missing().collect();
    let want = [Missing::Host, Missing::Client, Missing::Status, Missing::Duration].map(|what| (what, 1));
    assert_eq!(missing, want);
    assert_eq!((request.head.method.as_str(), header(&request, "host")), ("GET", "usual.example"));
    assert_eq!(request.logged, Logged::default());
}

#[test]
fn lines_of_another_side_are_left_out_and_counted() {
    let mut reader = reader(Format::Tidegate);
    let mut request = Request::default();
    let other = OURS.replace("\"gateway\"", "\"outbound\"");
    assert_eq!(reader.read(other.as_bytes(), &mut request), Line::Other);
    assert_eq!(reader.read(b"  ", &mut request), Line::Other);
    assert_eq!(reader.others(), 1);
}

#[test]
fn garbage_is_told_from_lines_by_what_is_wrong_with_it() {
    let cases: &[(Format, &[u8], &str)] = &[
        (Format::Envoy, b"hello", "no JSON object"),
        (Format::Envoy, b"{\"path\":\"/\"", "not valid JSON"),
        (Format::Envoy, b"{\"path\":\"/\"} x", "something follows"),
        (Format::Envoy, b"{\"path\":\"/\"}", "no time"),
        (Format::Envoy, b"{\"path\":\"/\",\"time\":\"yesterday\"}", "no time"),
        (Format::Envoy, b"{\"time\":1}", "no path"),
        (Format::Envoy, b"{\"time\":1,\"path\":\"/%zz\\u0000\"}", "none that a proxy would take"),
        (Format::Envoy, b"{\"time\":1,\"path\":\"/\",\"method\":\"A B\"}", "no method"),
        (Format::Envoy, b"{\"time\":1,\"path\":\"/\",\"host\":\"a\\nb\"}", "host is none"),
        (Format::Combined, b"\xff\xfe [", "not UTF-8"),
        (Format::Combined, b"1.2.3.4 - - \"GET / HTTP/1.1\"", "no time in brackets"),
        (Format::Combined, b"1.2.3.4 - - [x] GET", "no request in quotes"),
        (Format::Combined, b"1.2.3.4 - - [x] \"GET / HT", "does not end"),
        (Format::Combined, b"1.2.3.4 - - [x] \"-\" 400 0", "no request"),
        (Format::Combined, b"1.2.3.4 - - [99/Foo/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 1", "no time"),
    ];
    for (format, line, wrong) in cases {
        let got = reader(*format).read(line, &mut Request::default());
        let shown = String::from_utf8_lossy(line);
        assert!(matches!(got, Line::Garbage(why) if why.contains(wrong)), "{shown}: {got:?}");
    }
}

#[test]
fn a_format_is_known_by_the_first_lines() {
    let detect =
        |lines: &[&str]| Format::detect(&lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>());
    assert_eq!(detect(&["garbage", OURS, OURS]), Some(Format::Tidegate));
    assert_eq!(detect(&[ENVOY]), Some(Format::Envoy));
    assert_eq!(detect(&[COMBINED, "x", "y"]), Some(Format::Combined));
    assert_eq!(detect(&["x", "y", ""]), None);
}

#[test]
fn calls_of_grpc_are_told_by_their_code_or_content() {
    let line = OURS.replace(
        r#""decisions""#,
        r#""rpc.system.name":"grpc","rpc.response.status_code":"UNAVAILABLE","decisions""#,
    );
    let request = read(Format::Tidegate, &line);
    assert!(request.grpc);
    assert_eq!(request.logged.answer.unwrap().result, CallResult::Grpc(14));
    let envoy = ENVOY.replace("\"UF\"", "\"-\"").replace("bytes_sent\":91", "grpc_status\":\"NotFound\"");
    assert_eq!(read(Format::Envoy, &envoy).logged.answer.unwrap().result, CallResult::Grpc(5));
}

#[test]
fn no_line_makes_the_reader_panic() {
    let mut rng = fastrand::Rng::with_seed(11);
    for format in [Format::Tidegate, Format::Combined] {
        let mut reader = reader(format);
        for seed in [OURS, ENVOY, COMBINED] {
            for _ in 0..3000 {
                let mut line = seed.as_bytes().to_vec();
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(..line.len());
                    match rng.u8(..3) {
                        0 => line[at] = rng.u8(..),
                        1 => line.truncate(at + 1),
                        _ => line.insert(at, rng.u8(..)),
                    }
                }
                reader.read(&line, &mut Request::default());
            }
        }
    }
}

/// A value of JSON as loggers write it, or as they do not.
fn any_value() -> impl Strategy<Value = String> {
    const OTHERS: &[&str] = &[
        "true",
        "false",
        "null",
        "tru",
        "nulls",
        "{}",
        "[1, {\"a\": 1}]",
        "[1,",
        "",
        "012",
        "00",
        "0.",
        ".5",
        "1.",
        "-1",
        "1e3",
        "1.2.3",
        "1.5e1",
        "1234567890123456",
        "0.123456789012345",
        "12a",
        "\"\\n\"",
        "\"\t\"",
        "\"é\"",
        "\"a\"b\"",
    ];
    prop_oneof![
        3 => "\"[a-z0-9 .:/-]{0,12}\"",
        3 => "(0|[1-9][0-9]{0,16})([.][0-9]{1,10})?",
        3 => proptest::sample::select(OTHERS).prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The quick way of reading a line is a way of reading the same: an escape in it, in a field that nobody asks for, is
    /// enough to have it read by the parser.
    #[test]
    fn lines_are_read_alike_in_one_pass_and_by_the_parser(
        fields in proptest::collection::vec((proptest::sample::select(vec![
            "start_time", "path", "Method", "authority", "response_code", "duration", "x-user", "tenant", "port", "e\\u0041",
        ]), any_value(), any_value()), 0..4),
        space in " {0,2}",
        other_space in " {0,1}",
        end in prop_oneof![4 => Just("}"), 1 => proptest::sample::select(vec!["} ", "}}", "},", ",}", "", "} x"])],
    ) {
        let start = r#""@timestamp":"2026-11-28T18:10:28.5Z",":path":"/""#;
        let written = |(name, value, _): &(&str, String, String)| format!(",{space}\"{name}\"{space}:{space}{value}{space}");
        let before = |(name, _, value): &(&str, String, String)| format!(",{other_space}\"{name}\":{value}");
        let before: String = fields.iter().map(before).collect();
        let before = format!("{{{start},\"n\":\"B\"{before}}}");
        let fields: String = fields.iter().map(written).collect();
        let quick = format!("{{{space}{start},\"n\":\"A\"{fields}{end}");
        let by_parser = format!("{{{space}{start},\"n\":\"\\u0041\"{fields}{end}");
        let read = |line: &str| {
            let mut request = Request::default();
            let read = reader(Format::Envoy).read(line.as_bytes(), &mut request);
            format!("{read:?} {request:?}")
        };
        prop_assert_eq!(read(&quick), read(&by_parser), "{}", quick);
        // After another line, and after itself.
        let (mut reader, mut request) = (reader(Format::Envoy), Request::default());
        reader.read(before.as_bytes(), &mut request);
        for _ in 0..2 {
            if reader.read(quick.as_bytes(), &mut request) == Line::Request {
                prop_assert_eq!(format!("Request {request:?}"), read(&quick), "{} after {}", quick, before);
            } else {
                prop_assert!(!read(&quick).starts_with("Request"), "{} after {}", quick, before);
            }
        }
    }
}
