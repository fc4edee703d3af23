use super::*;
use crate::model::{Identity, Peer};
use http::Request;
use proptest::prelude::*;

fn check<T>(request: http::request::Builder, ask: impl FnOnce(&Facts<'_>) -> T) -> T {
    let head = request.body(()).unwrap().into_parts().0;
    let identity = Some(Identity("spiffe://cluster.local/ns/shop/sa/checkout".into()));
    let peer = Peer { address: "10.1.2.3:4567".parse().unwrap(), identity };
    ask(&Facts { head: &head, peer: &peer, route: Some("shop/cart"), claims: None })
}

fn request() -> http::request::Builder {
    Request::post("/cart/items?user=ann&empty=")
        .header("host", "Cart.Shop:8080")
        .header("x-tenant", "gold")
        .header("x-cost", "7")
}

fn holds(text: &str) -> Result<bool, NoResult> {
    let expression = Expression::compile(text, Kind::Bool).unwrap_or_else(|e| panic!("{text}: {e}"));
    check(request(), |facts| expression.holds(facts))
}

fn error(text: &str, wanted: Kind) -> String {
    Expression::compile(text, wanted).map(|_| ()).expect_err(text).to_string()
}

#[test]
fn an_expression_asks_for_all_that_is_known_of_a_request() {
    for text in [
        "request.method == 'POST' && request.path.startsWith('/cart')",
        "request.host == 'cart.shop'",
        "request.protocol == \"HTTP/1.1\"",
        "request.headers['x-tenant'] == 'gold'",
        "request.headers['X-Tenant'] in ['gold', 'silver']",
        "request.query.user == 'ann' && request.query['empty'] == ''",
        "has(request.query.user) && !has(request.query.nobody)",
        "'x-tenant' in request.headers && !('x-other' in request.headers)",
        "source.address == '10.1.2.3' && source.port > 1024",
        "source.identity.endsWith('/sa/checkout')",
        "destination.route.contains('cart')",
        "int(request.headers['x-cost']) * 2 + 1 == 15",
        "size(request.path) == 11 && request.path.size() == 11",
        "request.method == 'GET' ? false : true",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
}

#[test]
fn what_a_request_does_not_have_is_no_result() {
    for text in [
        "request.headers['x-nobody'] == ''",
        "request.query.nobody == ''",
        "int(request.headers['x-tenant']) > 0",
        "1 / (source.port - 4567) == 0",
        "9223372036854775807 + source.port > 0",
    ] {
        assert_eq!(holds(text), Err(NoResult), "{text}");
    }
    assert_eq!(holds("has(request.headers.nobody) && request.headers['nobody'] == 'a'"), Ok(false));
}

#[test]
fn a_value_is_text_whatever_it_was() {
    for (text, want) in [
        ("request.headers['x-tenant'] + '/' + request.method", "gold/POST"),
        ("source.port", "4567"),
        ("request.method == 'POST'", "true"),
    ] {
        let expression = Expression::compile(text, Kind::Text).unwrap();
        assert_eq!(
            check(request(), |facts| expression.value(facts)).as_deref().map(String::as_str),
            Ok(want)
        );
    }
    let cost = Expression::compile("int(request.headers['x-cost'])", Kind::Int).unwrap();
    assert_eq!(check(request(), |facts| cost.number(facts)), Ok(7));
}

#[test]
fn an_error_says_what_is_wrong_where_and_what_would_be_right() {
    for (text, wanted, want) in [
        (
            "request.pat == '/'",
            Kind::Bool,
            "there is no `request.pat`; did you mean `request.path`? (at character 1 of the expression)",
        ),
        ("request.method", Kind::Bool, "the result is a text, and must be true or false"),
        ("request.path", Kind::Int, "the result is a text, and must be a whole number"),
        ("request.path == 1", Kind::Bool, "`==` does not go with a text and a whole number"),
        ("request.path.beginsWith('/')", Kind::Bool, "there is no function `beginsWith`"),
        ("request.path.startsWith(1)", Kind::Bool, "`startsWith` does not go with a text and a whole number"),
        ("user == 'a'", Kind::Bool, "there is no `user`"),
        ("jwt.claim.sub", Kind::Text, "there is no `jwt.claim.sub`"),
        ("jwt.claims.sub && request.path", Kind::Bool, "`&&` does not go with any claim and a text"),
        ("jwt.claims.sub.startsWith(1)", Kind::Bool, "`startsWith` does not go with"),
        ("jwt.claims.sub in request.path", Kind::Bool, "`in` does not go with any claim and a text"),
        ("jwt.claims[true]", Kind::Text, "`[]` does not go with any claim and true or false"),
        ("['a'].exists(x, x == 'a')", Kind::Bool, "`all`, `exists`, `map` and `filter` are not to be had"),
        ("request.headers", Kind::Text, "the result is fields by name"),
        ("{'a': 1}", Kind::Text, "maps and messages cannot be written here"),
        ("now() > 1", Kind::Bool, "there is no function `now`"),
        ("request.path == ", Kind::Bool, "not an expression"),
        ("", Kind::Bool, "not an expression"),
        ("source.port + 1.5", Kind::Int, "`+` does not go with"),
    ] {
        let found = error(text, wanted);
        assert!(found.starts_with(want), "{text}: {found}");
    }
    let second_line = Expression::compile("true &&\n  nobody", Kind::Bool).unwrap_err();
    assert_eq!(second_line.at, 10);
}

#[test]
fn what_is_too_long_or_too_deep_is_refused_before_it_can_hurt() {
    let long = format!("request.path == '{}'", "a".repeat(MOST_CHARACTERS));
    assert!(error(&long, Kind::Bool).contains("write at most 2048"), "{}", error(&long, Kind::Bool));
    for open in ["(", "[", "!(", "-(", "request.headers["] {
        let deep = open.repeat(MOST_CHARACTERS / open.len());
        assert!(error(&deep, Kind::Bool).contains("more than 32 brackets"), "{open}");
    }
    // Without brackets.
    for chain in ["!".repeat(2_000) + "true", "true?".repeat(400) + "true", vec!["1"; 1_000].join("+")] {
        if let Ok(expression) = Expression::compile(&chain, Kind::Bool) {
            assert_eq!(check(request(), |facts| expression.holds(facts)), Ok(true));
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_an_expression_or_an_error_within_it(text in "[a-z.()\\[\\]'\"!&|=<>+*/?:, 0-9\\\\\n{}-]{0,60}") {
        if let Err(error) = Expression::compile(&text, Kind::Bool) {
            prop_assert!(error.at <= text.chars().count(), "{error:?}");
            prop_assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn what_is_compiled_never_panics_whatever_the_request(
        value in prop::collection::vec(any::<u8>().prop_filter("a header", |b| *b >= 0x20 && *b != 0x7f), 0..40),
        path in "/[ -~]{0,20}",
    ) {
        let Ok(uri) = path.replace([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}', '#'], "x").parse::<http::Uri>() else { return Ok(()) };
        let request = Request::get(uri).header("x-tenant", http::HeaderValue::from_bytes(&value).unwrap());
        let text = "int(request.headers['x-tenant']) > 3 || request.query['a'] == request.path";
        let expression = Expression::compile(text, Kind::Bool).unwrap();
        check(request, |facts| expression.holds(facts).is_ok());
    }
}

#[test]
fn claims_are_asked_for_whatever_their_type_and_fail_where_it_does_not_fit() {
    let token = r#"{"sub": "ann", "level": 3, "big": 18446744073709551615, "score": 1.5, "staff": true, "none": null,
        "roles": ["admin", "dev"], "realm": {"tier": "gold"}, "https://x.example/n": 7, "aud": "shop"}"#;
    let claims = crate::jwt::claims_of(token);
    let holds = |text: &str, claims: Option<&crate::jwt::Claims>| {
        let expression = Expression::compile(text, Kind::Bool).unwrap_or_else(|e| panic!("{text}: {e}"));
        check(request(), |facts| expression.holds(&Facts { claims, ..*facts }))
    };
    for (text, want, without) in [
        ("jwt.claims.sub == 'ann'", Ok(true), Err(NoResult)),
        ("jwt.claims['https://x.example/n'] == 7", Ok(true), Err(NoResult)),
        ("jwt.claims.realm.tier == 'gold' && has(jwt.claims.realm.tier)", Ok(true), Err(NoResult)),
        (
            "jwt.claims[request.headers['x-tenant'] == 'gold' ? 'realm' : 'x']['tier'] == 'gold'",
            Ok(true),
            Err(NoResult),
        ),
        ("'admin' in jwt.claims.roles && !('ops' in jwt.claims.roles)", Ok(true), Err(NoResult)),
        ("jwt.claims.aud in ['shop', 'bank']", Ok(true), Err(NoResult)),
        ("jwt.claims.roles[1] == 'dev'", Ok(true), Err(NoResult)),
        ("jwt.claims.roles.size() == 2 && size(jwt.claims.sub) == 3", Ok(true), Err(NoResult)),
        (
            "jwt.claims.level > 2 && jwt.claims.score < 2.0 && jwt.claims.level > jwt.claims.score",
            Ok(true),
            Err(NoResult),
        ),
        ("jwt.claims.level + 1 == 4 && jwt.claims.level % 2 == 1", Ok(true), Err(NoResult)),
        ("jwt.claims.sub.startsWith('a')", Ok(true), Err(NoResult)),
        ("jwt.claims.staff", Ok(true), Err(NoResult)),
        ("jwt.claims.staff ? jwt.claims.level == 3 : false", Ok(true), Err(NoResult)),
        ("jwt.claims.none == null", Ok(true), Err(NoResult)),
        ("jwt.claims.sub == request.headers['x-tenant']", Ok(false), Err(NoResult)),
        ("has(jwt.claims.sub)", Ok(true), Ok(false)),
        ("has(jwt.claims.other)", Ok(false), Ok(false)),
        ("'sub' in jwt.claims", Ok(true), Ok(false)),
        ("has(jwt.claims.plan) && jwt.claims.plan == 'free'", Ok(false), Ok(false)),
        ("jwt.claims.other == ''", Err(NoResult), Err(NoResult)),
        ("jwt.claims.sub > 3", Err(NoResult), Err(NoResult)),
        ("jwt.claims.sub + 1 == 2", Err(NoResult), Err(NoResult)),
        ("jwt.claims.sub && true", Err(NoResult), Err(NoResult)),
        ("!jwt.claims.level", Err(NoResult), Err(NoResult)),
        ("jwt.claims.level", Err(NoResult), Err(NoResult)),
        ("jwt.claims.level.startsWith('3')", Err(NoResult), Err(NoResult)),
        ("jwt.claims.roles[2] == 'x'", Err(NoResult), Err(NoResult)),
        ("jwt.claims.big + jwt.claims.big > jwt.claims.big", Err(NoResult), Err(NoResult)),
        ("jwt.claims.sub.name == 'ann'", Err(NoResult), Err(NoResult)),
        ("jwt.claims.sub in jwt.claims.level", Err(NoResult), Err(NoResult)),
    ] {
        assert_eq!(holds(text, Some(&claims)), want, "{text}");
        assert_eq!(holds(text, None), without, "{text}");
    }
    let value = |text: &str| {
        let expression = Expression::compile(text, Kind::Text).unwrap();
        check(request(), |facts| expression.value(&Facts { claims: Some(&claims), ..*facts }))
            .map(|text| text.to_string())
    };
    for (text, want) in [
        ("jwt.claims.sub", Ok("ann")),
        ("jwt.claims.level", Ok("3")),
        ("jwt.claims.score", Ok("1.5")),
        ("jwt.claims.big", Ok("18446744073709551615")),
        ("jwt.claims.staff", Ok("true")),
        ("jwt.claims.roles", Err(NoResult)),
        ("jwt.claims.realm", Err(NoResult)),
        ("jwt.claims.none", Err(NoResult)),
        ("jwt.claims", Err(NoResult)),
    ] {
        assert_eq!(value(text), want.map(str::to_owned), "{text}");
    }
}

#[test]
fn has_tells_whether_there_is_an_identity_a_route_or_a_token() {
    let known =
        Peer { address: "192.0.2.1:1".parse().unwrap(), identity: Some(Identity("spiffe://a/b".into())) };
    let stranger = Peer { identity: None, ..known };
    let (head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
    let holds = |text: &str, peer: &Peer, route| {
        let facts = Facts { head: &head, peer, route, claims: None };
        Expression::compile(text, Kind::Bool).unwrap().holds(&facts)
    };
    assert_eq!(holds("has(source.identity)", &known, None), Ok(true));
    assert_eq!(holds("has(source.identity)", &stranger, None), Ok(false));
    assert_eq!(
        holds("has(source.identity) && source.identity == 'spiffe://a/b'", &stranger, None),
        Ok(false)
    );
    assert_eq!(holds("has(source.identity) && source.identity == 'spiffe://a/b'", &known, None), Ok(true));
    assert_eq!(holds("source.identity == 'spiffe://a/b'", &stranger, None), Err(NoResult));
    assert_eq!(holds("has(destination.route)", &known, None), Ok(false));
    assert_eq!(holds("has(destination.route)", &known, Some("shop/r")), Ok(true));
    assert_eq!(holds("has(request.host)", &known, None), Ok(false));
    assert_eq!(holds("has(request.method) && has(jwt.claims)", &known, None), Ok(true));
}

#[test]
fn of_a_connection_nothing_is_known_of_requests_and_has_does_not_claim_it() {
    let peer = Peer { address: "192.0.2.1:1".parse().unwrap(), identity: None };
    let holds = |text: &str| Expression::compile(text, Kind::Bool).unwrap().holds(&ConnectionFacts(&peer));
    assert_eq!(holds("source.address == '192.0.2.1' && !has(source.identity)"), Ok(true));
    for text in
        ["has(request.host)", "!has(request.headers.a)", "has(jwt.claims.sub)", "!has(destination.route)"]
    {
        assert_eq!(holds(text), Err(NoResult), "{text}");
    }
    assert_eq!(holds("source.port == 1 || request.method == 'GET'"), Ok(true), "whatever the method");
    assert_eq!(holds("source.port == 2 || request.method == 'GET'"), Err(NoResult));
}
