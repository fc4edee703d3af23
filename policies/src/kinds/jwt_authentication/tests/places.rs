//! Where tokens are found, and what becomes of them there.

#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use super::*;

fn with(from: Value) -> Arc<dyn Filter> {
    filter(spec(json!({"from": from, "forward": false})))
}

#[test]
fn the_word_of_the_scheme_is_in_any_case_and_spaces_do_not_count() {
    let filter = filter(spec(json!({})));
    let token = token();
    for value in ["Bearer ", "bearer ", "BEARER ", "bEARER   "] {
        let request = get().header("authorization", format!("{value}{token}"));
        assert_eq!(meets(&filter, request).says(), "ours: allowed", "{value}");
    }
    for value in
        ["Bearer", "Bearer ", "Bearer\t", "Bear ", "", "Basic YTpi", &token, &format!("Bearer{token}")]
    {
        let request = get().header("authorization", value);
        assert_eq!(meets(&filter, request).says(), "ours: refused token=missing", "{value}");
    }
    for value in [format!("Bearer {token}, Bearer {token}"), format!("Bearer {token} {token}")] {
        let request = get().header("authorization", value);
        assert_eq!(meets(&filter, request).says(), "ours: refused token=malformed");
    }
    let request = get().header("authorization", http::HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap());
    assert_eq!(meets(&filter, request).says(), "ours: refused token=malformed");
}

#[test]
fn more_than_one_token_is_no_proper_request() {
    let from = json!([{"header": "authorization", "prefix": "Bearer "}, {"header": "x-jwt"}, {"cookie": "t"}, {"query": "t"}]);
    let filter = with(from);
    let token = token();
    for request in [
        bearer(&token).header("authorization", format!("Bearer {token}")),
        get().header("authorization", "Basic YTpi").header("authorization", format!("Bearer {token}")),
        bearer(&token).header("x-jwt", &token),
        get().header("x-jwt", &token).header("x-jwt", "garbage"),
        get().header("cookie", format!("t={token}; t=garbage")),
        get().header("cookie", format!("t={token}")).header("cookie", "t=garbage"),
        Request::get(format!("/?t={token}&a=1&%74=garbage")),
        Request::get(format!("/?t={token}")).header("cookie", format!("t={token}")),
    ] {
        let met = meets(&filter, request);
        assert_eq!(met.says(), "ours: refused token=several");
        assert_eq!(met.challenge(), r#"Bearer realm="p", error="invalid_request""#);
        let reply = met.reply.unwrap();
        assert_eq!(reply.written.unwrap().status, Some(http::StatusCode::BAD_REQUEST));
    }
}

#[test]
fn a_token_that_is_not_forwarded_is_taken_out_and_all_else_stays() {
    let token = token();
    let met = meets(&with(json!([])), bearer(&token));
    assert!(met.head.headers.is_empty(), "{:?}", met.head.headers);

    let request = get().header("x-jwt", &token).header("x-other", "1");
    let met = meets(&with(json!([{"header": "x-jwt"}])), request);
    assert_eq!((met.head.headers.len(), met.says().as_str()), (1, "ours: allowed"));

    let cookies = with(json!([{"cookie": "t"}]));
    let request = get().header("cookie", format!("a=1; t={token};b=2;tt=3")).header("cookie", "c=4");
    let met = meets(&cookies, request);
    let cookies_left = met.head.headers.get_all("cookie").iter();
    let left: Vec<_> = cookies_left.map(|value| value.to_str().unwrap()).collect();
    assert_eq!((left, met.says().as_str()), (vec!["a=1; b=2; tt=3", "c=4"], "ours: allowed"));
    let met = meets(&cookies, get().header("cookie", format!("t={token}")));
    assert!(met.head.headers.is_empty());

    let query = with(json!([{"query": "t"}]));
    for (target, left) in [
        (format!("/cart?a=%20&t={token}&b"), "/cart?a=%20&b"),
        (format!("/cart?%74={token}"), "/cart"),
        (format!("http://a/cart?t={token}&tt=1"), "http://a/cart?tt=1"),
    ] {
        let met = meets(&query, Request::get(&target));
        assert_eq!((met.head.uri.to_string().as_str(), met.says().as_str()), (left, "ours: allowed"));
    }
}

#[test]
fn what_is_empty_is_no_token() {
    let filter = with(json!([{"cookie": "t"}, {"query": "t"}, {"header": "x-jwt"}]));
    let request = Request::get("/?t=").header("cookie", "t=").header("x-jwt", "");
    assert_eq!(meets(&filter, request).says(), "ours: refused token=missing");
}

#[test]
fn a_provider_is_asked_only_for_what_is_at_its_own_places() {
    let theirs = json!({"name": "theirs", "issuer": "theirs", "from": [{"header": "x-jwt"}],
        "jwks": {"inline": OTHER.jwks("EdDSA")}});
    let filter = filter(json!({"providers": [provider(json!({})), theirs]}));
    let of_theirs = OTHER.token("EdDSA", &but("iss", json!("theirs")));
    assert_eq!(meets(&filter, get().header("x-jwt", &of_theirs)).says(), "theirs: allowed");
    // Known by now, and still not at its place.
    assert_eq!(meets(&filter, bearer(&of_theirs)).says(), "providers: refused token=issuer");
    assert_eq!(meets(&filter, get().header("x-jwt", token())).says(), "providers: refused token=issuer");
}

#[test]
fn claims_are_told_in_headers_that_no_client_can_send() {
    let headers = json!([
        {"claim": "sub", "header": "x-user"},
        {"claim": "level", "header": "x-level"},
        {"path": ["realm", "tier"], "header": "x-tier"},
        {"claim": "roles", "header": "x-roles"},
        {"claim": "note", "header": "x-note"},
        {"claim": "gone", "header": "x-gone"},
    ]);
    let mut written = spec(json!({"claimToHeaders": headers}));
    written["missing"] = json!("Allow");
    let filter = filter(written);
    let mut claims = claims();
    for (name, value) in [
        ("level", json!(7)),
        ("realm", json!({"tier": true})),
        ("roles", json!(["a,b", "c"])),
        ("note", json!("two\nlines")),
        ("gone", Value::Null),
    ] {
        claims[name] = value;
    }
    let impostor = |request: request::Builder| {
        let names = ["x-user", "X_User", "x-tier", "x_tier", "x-gone", "x-note"];
        names.iter().fold(request, |request, name| request.header(*name, "admin")).header("x_other", "1")
    };
    let met = meets(&filter, impostor(bearer(&SIGNER.token("EdDSA", &claims))));
    let told = |name: &str| met.head.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(
        ["x-user", "x-level", "x-tier", "x-roles", "x-note", "x-gone", "x_user", "x_tier", "x_other"]
            .map(told),
        [Some("ann"), Some("7"), Some("true"), Some(r#"["a,b","c"]"#), None, None, None, None, Some("1")]
    );
    let met = meets(&filter, impostor(get()));
    assert_eq!(met.head.headers.len(), 1, "{:?}", met.head.headers);
}
