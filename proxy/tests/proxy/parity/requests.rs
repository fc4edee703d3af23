//! Requests that nearly meet what documents ask for.

use std::time::Duration;

use fastrand::Rng;

use super::documents::{Documents, HEADERS, HOSTS, METHODS, PATHS, QUERIES, USERS};

#[derive(Clone, Debug)]
pub(super) struct Request {
    /// How much later than the one before.
    pub(super) after: Duration,
    pub(super) method: &'static str,
    pub(super) host: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    /// What backends answer, one attempt after the other, the last for all that follow: `503,200`.
    pub(super) answers: String,
}

/// Beside those that routes name: other spellings, and some that no server reads in one way.
const MORE_PATHS: [&str; 9] = [
    "/none",
    "/cart/",
    "/cartoon",
    "/cart//x",
    "/cart/./a",
    "/cart/../pay",
    "/c%61rt/a",
    "/cart%2fa",
    "/a/../../b",
];

pub(super) fn requests(rng: &mut Rng, documents: &Documents, many: usize) -> Vec<Request> {
    (0..many).map(|_| request(rng, documents)).collect()
}

fn request(rng: &mut Rng, documents: &Documents) -> Request {
    let path = if rng.u8(..5) == 0 { pick(rng, &MORE_PATHS) } else { pick(rng, &PATHS) };
    let query = if rng.u8(..3) == 0 { format!("?{}", pick(rng, &QUERIES)) } else { String::new() };
    let mut headers = Vec::new();
    for (name, values) in HEADERS {
        if rng.bool() {
            headers.push((name.to_owned(), (*pick(rng, values)).to_owned()));
        }
    }
    if rng.u8(..8) == 0 {
        let fault = pick(rng, &["f", "g", "f, g", ""]);
        headers.push((String::from("x-fault"), fault.to_owned()));
    }
    if rng.u8(..12) == 0 {
        headers.push((String::from("x-tidegate-attempt"), String::from("1")));
    }
    if rng.u8(..4) > 0 {
        headers.push((String::from("x-user"), (*pick(rng, &USERS)).to_owned()));
    }
    let answers = ["200", "200", "200", "404", "500", "503", "503,200", "503,503,200", "502,500"];
    Request {
        after: Duration::from_millis(pick_one(rng, &[0, 0, 0, 1, 50, 400, 1_000, 7_000])),
        method: pick(rng, &METHODS),
        host: documents.host(rng, &HOSTS),
        target: format!("{path}{query}"),
        headers,
        answers: pick(rng, &answers).to_string(),
    }
}

pub(super) fn pick<'a, T: ?Sized>(rng: &mut Rng, all: &[&'a T]) -> &'a T {
    all[rng.usize(..all.len())]
}

pub(super) fn pick_one<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())]
}
