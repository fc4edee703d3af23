//! What must hold for every parser of this crate whatever bytes it is given, one function each: `fuzz/` throws bytes at them
//! for as long as one likes, and a test throws some thousands at each in every run. No part of the crate's interface.
//!
//! A property that does not hold panics. No parser may panic, whatever holds.

use std::str::from_utf8;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderValue};

use crate::expression::{Expression, Facts, Kind};
use crate::jwt::{Algorithm, Issuer, Jwks, Token};
use crate::matching::{authority, target};
use crate::model::{HostPattern, OriginPattern, Peer, ResourceType};
use crate::objects::GepDuration;
use crate::simulate::Request;
use crate::simulate::log::{Format, Line, Reader};
use crate::{cases, codec, document, pick, resolve};

mod mutate;
mod seeds;

pub use mutate::mutate;
pub use seeds::seeds;

/// Panics where it does not hold.
pub type Property = fn(&[u8]);

/// Properties by the name of their fuzz target.
pub const ALL: [(&str, Property); 15] = [
    ("access_log", access_log),
    ("authority", host),
    ("cases", case_file),
    ("cookie", cookie),
    ("document", yaml),
    ("duration", duration),
    ("expression", expression),
    ("host_pattern", host_pattern),
    ("origin", origin),
    ("path", path),
    ("pem", pem),
    ("resource", resource),
    ("session", session),
    ("timestamp", timestamp),
    ("token", token),
];

/// A path is written in one way: writing it so again changes nothing, and nothing in it climbs.
///
/// # Panics
/// Where that does not hold.
pub fn path(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let path = format!("/{text}");
    let Ok(once) = target::normalize_path(&path) else { return };
    let twice = target::normalize_path(&once);
    assert_eq!(twice.as_deref(), Ok(&*once), "{path:?}");
    assert!(once.starts_with('/') && !once.contains("//"), "{path:?} became {once:?}");
    assert!(once.bytes().all(|b| b.is_ascii_graphic()), "{path:?} became {once:?}");
    let climbs = |path: &str| path.split('/').any(|element| matches!(element, "." | ".."));
    assert!(!climbs(&once), "{path:?} became {once:?}");
    // Whoever decodes slashes, or leaves parameters out, finds nothing that climbs either.
    let slashes = once.replace("%2F", "/").replace("%5C", "/");
    let mut plain = slashes.split('/').map(|element| element.split(';').next().unwrap_or_default());
    assert!(!plain.any(|element| matches!(element, "." | "..")), "{path:?} became {once:?}");
    if let Some(decoded) = target::decoded(&once) {
        assert!(!climbs(&decoded), "{once:?} reads {decoded:?}");
    }
}

/// What a file is read as, the cluster's checks pass as well, under the same name.
///
/// # Panics
/// Where that does not hold.
pub fn yaml(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let parsed = document::parse(&Arc::from("fuzz.yaml"), text);
    for object in &parsed.objects {
        let Some(key) = document::ObjectKey::of(object) else { continue };
        assert!(!parsed.failed.contains(&key), "{key} is both read and refused");
        assert!(parsed.lines.contains_key(&key), "{key} has no line");
    }
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
    assert!(parsed.lines.values().all(|line| (1..=lines.max(1)).contains(line)), "{:?}", parsed.lines);
    let resolved = resolve::resolve(&parsed.objects);
    for resource in resolved.resources.iter() {
        let (url, name, bytes) = codec::encode(&resource);
        let kind = ResourceType::from_type_url(url).expect("an URL of our own");
        assert_eq!(codec::decode(kind, &name, &bytes).as_ref(), Ok(&resource), "{name}");
    }
}

/// An expression is read, or its fault has a place in it; what is read can be asked of any request.
///
/// # Panics
/// Where that does not hold.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let head =
        http::Request::get("/cart?user=ann").header(HOST, "a").body(()).expect("a request").into_parts().0;
    let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity: None };
    let facts = Facts { head: &head, peer: &peer, route: None, claims: None };
    for kind in [Kind::Bool, Kind::Int, Kind::Text] {
        match Expression::compile(text, kind) {
            Ok(read) => drop((read.holds(&facts), read.number(&facts), read.value(&facts))),
            Err(fault) => assert!(fault.at <= text.chars().count(), "{fault:?}"),
        }
    }
}

/// What a line of a log is read as is a request that a proxy would take, answered within a day; whatever the format.
///
/// # Panics
/// Where that does not hold.
pub fn access_log(bytes: &[u8]) {
    let mut request = Request::default();
    for format in [Format::Tidegate, Format::Envoy, Format::Combined] {
        let mut reader = Reader::new(format, HeaderValue::from_static("a"), "", 1);
        if reader.read(bytes, &mut request) != Line::Request {
            continue;
        }
        let path = request.head.uri.path();
        assert!(target::normalize_path(path).is_ok_and(|again| again == path), "{path:?}");
        assert!(request.head.headers.contains_key(HOST));
        let answer = request.logged.answer;
        assert!(answer.is_none_or(|answer| answer.latency.as_secs() <= 86_400), "{answer:?}");
    }
}

/// A duration that is written out reads as itself.
///
/// # Panics
/// Where that does not hold.
pub fn duration(bytes: &[u8]) {
    let Some(read) = from_utf8(bytes).ok().and_then(|text| text.parse::<GepDuration>().ok()) else { return };
    assert_eq!(read.to_string().parse(), Ok(read));
}

/// A time is one of the years that four digits can write, and `z` means what `Z` does.
///
/// # Panics
/// Where that does not hold.
pub fn timestamp(bytes: &[u8]) {
    const DAY: i64 = 86_400;
    let Ok(text) = from_utf8(bytes) else { return };
    let read = document::parse_rfc3339(text);
    assert_eq!(document::parse_rfc3339(&text.to_ascii_lowercase()), read, "{text:?}");
    let years = -719_528 * DAY - DAY..2_932_897 * DAY + DAY;
    assert!(read.is_none_or(|seconds| years.contains(&seconds)), "{text:?}: {read:?}");
}

/// No value of a cookie reaches into the next, and one that is set is found again.
///
/// # Panics
/// Where that does not hold.
pub fn cookie(bytes: &[u8]) {
    const NAME: &str = "tg";
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        headers.append(COOKIE, value);
    }
    for value in pick::cookie_values(&headers, NAME) {
        assert!(!value.contains(&b';') && value.trim_ascii() == value, "{value:?}");
    }
    let plain: String = bytes.iter().map(|b| char::from(b'a' + b % 26)).collect();
    let pair = [b"other=tg=1; ".as_slice(), NAME.as_bytes(), b"=", plain.as_bytes()].concat();
    headers.append(COOKIE, HeaderValue::from_bytes(&pair).expect("letters"));
    assert!(pick::cookie_values(&headers, NAME).any(|value| value == plain.as_bytes()));
}

/// A token that is read is written as it was: no two tokens stand for one session.
///
/// # Panics
/// Where that does not hold.
pub fn session(bytes: &[u8]) {
    if let Some(again) = pick::token_again(bytes) {
        assert_eq!(again.as_bytes(), bytes);
    }
}

/// What PEM blocks hold reads the same when it is written anew.
///
/// # Panics
/// Where that does not hold.
pub fn pem(bytes: &[u8]) {
    let Ok(blocks) = resolve::pem_blocks(bytes) else { return };
    let mut text = String::new();
    for (label, body) in &blocks {
        let body = STANDARD.encode(body);
        text.push_str(&format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"));
    }
    assert_eq!(resolve::pem_blocks(text.as_bytes()), Ok(blocks), "{text}");
}

/// An origin that is written out reads as itself, and allows what is written so, unless it stands for many.
///
/// # Panics
/// Where that does not hold.
pub fn origin(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let Ok(pattern) = text.parse::<OriginPattern>() else { return };
    let written = pattern.to_string();
    assert_eq!(written.parse().as_ref(), Ok(&pattern), "{text:?}");
    assert!(pattern.matches(&written.replace('*', "any")), "{text:?} does not allow {written:?}");
}

/// A host is in lower case, without port, and is the host of itself.
///
/// # Panics
/// Where that does not hold.
pub fn host(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let head = |value: HeaderValue| {
        let mut head = http::Request::new(()).into_parts().0;
        head.headers.insert(HOST, value);
        head
    };
    let first = head(value);
    let Ok(read) = authority(&first) else { return };
    let host = read.host.to_string();
    assert!(!host.bytes().any(|b| b.is_ascii_uppercase()), "{host:?}");
    let again = head(HeaderValue::from_str(&host).expect("what came from a header"));
    let again = authority(&again).map(|again| (again.host.to_string(), again.port));
    assert_eq!(again, Ok((host, None)));
}

/// A pattern of hosts matches the host that it is, or any below it.
///
/// # Panics
/// Where that does not hold.
pub fn host_pattern(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let Ok(pattern) = HostPattern::parse(text) else { return };
    let written = pattern.to_string();
    assert!(pattern.matches(&written.replace('*', "any")), "{text:?}");
    assert_eq!(HostPattern::parse(&written).as_ref(), Ok(&pattern), "{text:?}");
    assert_eq!(pattern.intersect(&pattern).as_ref(), Some(&pattern), "{text:?}");
}

/// Cases are read or refused.
pub fn case_file(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    // Running them is left out: what they ask for may take as long as it says.
    let _ = cases::parse(&Arc::from("fuzz.yaml"), text);
}

/// A resource that is decoded is the same when it was sent on. The first byte says which type it is of.
///
/// # Panics
/// Where that does not hold.
pub fn resource(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let types = ResourceType::PUSH_ORDER;
    let kind = types[usize::from(*first) % types.len()];
    let Ok(resource) = codec::decode_any(kind, bytes) else { return };
    let (url, name, bytes) = codec::encode(&resource);
    assert_eq!(ResourceType::from_type_url(url), Some(kind));
    assert_eq!(codec::decode(kind, &name, &bytes), Ok(resource));
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer {
    name: "https://issuer.example.com".into(),
    audiences: ["shop".into()].into(),
    algorithms: Algorithm::ASYMMETRIC.into(),
    keys: Jwks::parse(seeds::KEYS).expect("a set of keys"),
    ends: true,
});

/// A token is believed only as it was signed: of all that is near one that holds, none other does.
///
/// # Panics
/// Where that does not hold.
pub fn token(bytes: &[u8]) {
    let Ok(read) = Token::read(bytes) else { return };
    assert_eq!(ISSUER.verify(&read).is_ok(), bytes == seeds::TOKEN.as_bytes(), "{read:?}");
}

#[cfg(test)]
mod tests;
