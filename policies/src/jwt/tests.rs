use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::signer::{OTHER, SIGNER, Signer, base64};
use super::*;

const ISSUER: &str = "https://issuer.example.com";
const NOW: i64 = 1_800_000_000;
const LEEWAY: Duration = Duration::from_secs(30);
/// Of RFC 7515, A.1 to A.3.
const JOE: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const ALL: [&str; 12] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384",
    "HS512",
];

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "ann", "aud": ["shop", "other"], "exp": NOW + 60})
}

/// With some claim changed.
fn but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn issuer(jwks: &str, algorithms: &[&str]) -> Issuer {
    Issuer {
        name: ISSUER.into(),
        audiences: ["shop".into()].into(),
        algorithms: algorithms.iter().map(|name| Algorithm::named(name).unwrap()).collect(),
        keys: Jwks::parse(jwks).unwrap(),
        ends: true,
    }
}

fn ours(algorithm: &str) -> Issuer {
    issuer(&SIGNER.jwks(algorithm), &[algorithm])
}

fn judge(issuer: &Issuer, token: &str) -> Result<Claims, TokenFault> {
    judge_at(issuer, token, NOW)
}

fn judge_at(issuer: &Issuer, token: &str, now: i64) -> Result<Claims, TokenFault> {
    let token = Token::read(token.as_bytes())?;
    issuer.verify(&token)?;
    token.times.check(Duration::from_secs(u64::try_from(now).unwrap()), LEEWAY)?;
    Ok(token.claims)
}

#[track_caller]
fn refused(issuer: &Issuer, token: &str, fault: TokenFault) {
    assert_eq!(judge(issuer, token), Err(fault), "{token}");
}

#[test]
fn a_token_of_each_algorithm_is_believed_and_that_of_another_key_is_not() {
    for algorithm in ALL {
        let judged = judge(&ours(algorithm), &SIGNER.token(algorithm, &claims()));
        assert_eq!(judged.as_ref().map(|claims| claims.named("sub")), Ok(Some(&json!("ann"))), "{algorithm}");
        refused(&ours(algorithm), &OTHER.token(algorithm, &claims()), TokenFault::Signature);
    }
}

#[test]
fn the_examples_of_rfc_7515_and_rfc_8037_hold() {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS\
             -pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2C\
             apHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb\
             54h4FRWyuXpoQ";
    let rs256 = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF\
                 9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcO\
                 Ln6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmt\
                 VrBp0igcN_IoypGlUPQGe77Rw";
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let keys = json!({"keys": [
        {"kty": "oct", "k": secret},
        {"kty": "RSA", "n": n, "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
         "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    ]});
    let joe = Issuer { name: "joe".into(), audiences: [].into(), ..issuer(&keys.to_string(), &ALL) };
    let tokens = [
        ("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ("eyJhbGciOiJSUzI1NiJ9", rs256),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ];
    for (header, signature) in tokens {
        let token = format!("{header}.{JOE}.{signature}");
        let claims = judge_at(&joe, &token, 1_300_819_379).unwrap();
        assert_eq!(claims.named("http://example.com/is_root"), Some(&json!(true)));
        assert_eq!(judge_at(&joe, &token, 1_300_819_380 + 30), Err(TokenFault::Expired));
    }
    // RFC 8037, A.4: what is signed is no claims, so only the signature can be looked at.
    let token = Token { ..Token::read(SIGNER.token("EdDSA", &claims()).as_bytes()).map(leak).unwrap() };
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
    let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    assert_eq!(joe.keys.verify(&Token { signed, signature, ..token }), Ok(()));
}

fn leak(token: Token<'_>) -> Token<'static> {
    Token { signed: b"", ..token }
}

#[test]
fn no_algorithm_is_no_algorithm_however_it_is_spelt() {
    for name in ["none", "None", "NONE", "nOnE", "", "hs256", "RS256 ", "ES256K"] {
        let unsigned = SIGNER.token_with(&json!({"alg": name}), claims().to_string().as_bytes(), "");
        refused(&issuer(&SIGNER.jwks("RS256"), &ALL), &unsigned, TokenFault::Algorithm);
    }
    for header in [json!({}), json!({"alg": null}), json!({"alg": ["RS256"]})] {
        let token = SIGNER.token_with(&header, claims().to_string().as_bytes(), "RS256");
        refused(&ours("RS256"), &token, TokenFault::Algorithm);
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    // Signed with what everybody knows of the RSA key, in the forms that others fell for.
    let both = json!({"keys": [SIGNER.jwk("RS256")]}).to_string();
    let lenient = issuer(&both, &ALL);
    let modulus = SIGNER.rsa_modulus();
    for public in [modulus.clone(), base64(&modulus).into_bytes(), both.into_bytes()] {
        let signed = format!("{}.{}", base64(r#"{"alg":"HS256"}"#), base64(claims().to_string()));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &public);
        let forged = format!("{signed}.{}", base64(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
        refused(&lenient, &forged, TokenFault::Key);
    }
}

#[test]
fn a_key_serves_algorithms_of_its_type_alone_and_only_the_one_that_is_written_with_it() {
    for key in ALL {
        for algorithm in ALL {
            let family = |name: &str| match name {
                "ES256" | "ES384" | "EdDSA" => name.to_owned(),
                name if name.starts_with("HS") => String::from("secret"),
                _ => String::from("rsa"),
            };
            let lenient = issuer(&SIGNER.jwks(key), &ALL);
            let judged = judge(&lenient, &SIGNER.token(algorithm, &claims())).map(drop);
            let want = if family(key) == family(algorithm) { Ok(()) } else { Err(TokenFault::Key) };
            assert_eq!(judged, want, "{key} for {algorithm}");
        }
    }
    let mut only = SIGNER.jwk("RS256");
    only["alg"] = json!("RS256");
    let only = issuer(&json!({"keys": [only]}).to_string(), &ALL);
    assert!(judge(&only, &SIGNER.token("RS256", &claims())).is_ok());
    refused(&only, &SIGNER.token("PS256", &claims()), TokenFault::Key);
}

#[test]
fn what_the_provider_does_not_list_is_refused_whatever_keys_there_are() {
    let narrow = issuer(&SIGNER.jwks("RS256"), &["RS512"]);
    refused(&narrow, &SIGNER.token("RS256", &claims()), TokenFault::Algorithm);
    let usual: Vec<_> = Algorithm::ASYMMETRIC.into();
    let usual = Issuer { algorithms: usual.into(), ..issuer(&SIGNER.jwks("HS256"), &[]) };
    refused(&usual, &SIGNER.token("HS256", &claims()), TokenFault::Algorithm);
}

#[test]
fn the_key_is_the_one_that_is_named_or_one_of_those_that_fit() {
    let named = |signer: &Signer, kid: &str| {
        let mut key = signer.jwk("ES256");
        key["kid"] = json!(kid);
        key
    };
    let keys = json!({"keys": [named(&OTHER, "old"), named(&SIGNER, "new")]}).to_string();
    let issuer = issuer(&keys, &["ES256"]);
    let token = |kid: Value| {
        let header = match kid {
            Value::Null => json!({"alg": "ES256"}),
            kid => json!({"alg": "ES256", "kid": kid}),
        };
        SIGNER.token_with(&header, claims().to_string().as_bytes(), "ES256")
    };
    assert!(judge(&issuer, &token(json!("new"))).is_ok());
    assert!(judge(&issuer, &token(Value::Null)).is_ok());
    refused(&issuer, &token(json!("old")), TokenFault::Signature);
    refused(&issuer, &token(json!("none of them")), TokenFault::Key);
    refused(&issuer, &token(json!(7)), TokenFault::Malformed);
    // Beyond the eighth that fits, none is tried.
    let many = |ours: usize| {
        let key = |i| if i == ours { SIGNER.jwk("ES256") } else { OTHER.jwk("ES256") };
        json!({"keys": (0..10).map(key).collect::<Vec<_>>()}).to_string()
    };
    assert!(judge(&super::tests::issuer(&many(7), &["ES256"]), &token(Value::Null)).is_ok());
    refused(&super::tests::issuer(&many(8), &["ES256"]), &token(Value::Null), TokenFault::Signature);
}

#[test]
fn a_header_that_wants_more_than_we_know_is_refused() {
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), Value::Null] {
        let header = json!({"alg": "ES256", "crit": crit, "b64": false});
        let token = SIGNER.token_with(&header, claims().to_string().as_bytes(), "ES256");
        refused(&ours("ES256"), &token, TokenFault::Critical);
    }
    // Nor is a key believed that comes with the token.
    let header = json!({"alg": "ES256", "jwk": OTHER.jwk("ES256"), "jku": "https://evil.example.com"});
    let token = OTHER.token_with(&header, claims().to_string().as_bytes(), "ES256");
    refused(&ours("ES256"), &token, TokenFault::Signature);
}

#[test]
fn claims_are_checked_one_by_one() {
    let issuer = ours("EdDSA");
    let sign = |claims: &Value| SIGNER.token("EdDSA", claims);
    for (claims, want) in [
        (claims(), None),
        (but("aud", json!("shop")), None),
        (but("iss", json!("https://issuer.example.com/")), Some(TokenFault::Issuer)),
        (but("iss", json!(["https://issuer.example.com"])), Some(TokenFault::Issuer)),
        (without("iss"), Some(TokenFault::Issuer)),
        (but("aud", json!("Shop")), Some(TokenFault::Audience)),
        (but("aud", json!(["other"])), Some(TokenFault::Audience)),
        (but("aud", json!({"shop": "shop"})), Some(TokenFault::Audience)),
        (but("aud", json!([])), Some(TokenFault::Audience)),
        (without("aud"), Some(TokenFault::Audience)),
        (without("exp"), Some(TokenFault::Endless)),
        (but("exp", json!("1900000000")), Some(TokenFault::Malformed)),
        (but("exp", Value::Null), Some(TokenFault::Malformed)),
        (but("nbf", json!([1])), Some(TokenFault::Malformed)),
        // The leeway is 30 seconds.
        (but("exp", json!(NOW)), None),
        (but("exp", json!(NOW - 29)), None),
        (but("exp", json!(NOW - 30)), Some(TokenFault::Expired)),
        (but("exp", json!(NOW as f64 - 29.5)), Some(TokenFault::Expired)),
        (but("exp", json!(-1)), Some(TokenFault::Expired)),
        (but("exp", json!(i64::MIN)), Some(TokenFault::Expired)),
        (but("exp", json!(1e300)), None),
        (but("exp", json!(u64::MAX)), None),
        (but("nbf", json!(NOW + 30)), None),
        (but("nbf", json!(NOW + 31)), Some(TokenFault::NotYetValid)),
        (but("nbf", json!(NOW as f64 + 30.5)), Some(TokenFault::NotYetValid)),
        (but("iat", json!(NOW + 30)), None),
        (but("iat", json!(NOW + 31)), Some(TokenFault::NotYetValid)),
        (but("nbf", json!(i64::MAX)), Some(TokenFault::NotYetValid)),
    ] {
        assert_eq!(judge(&issuer, &sign(&claims)).err(), want, "{claims}");
    }
    let endless = Issuer { ends: false, ..ours("EdDSA") };
    assert!(judge(&endless, &sign(&without("exp"))).is_ok());
    let anybody = Issuer { audiences: [].into(), ..ours("EdDSA") };
    assert!(judge(&anybody, &sign(&without("aud"))).is_ok());
}

#[test]
fn a_signature_is_of_these_bytes_and_of_no_others() {
    let issuer = ours("ES256");
    let token = SIGNER.token("ES256", &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let other = base64(but("sub", json!("eve")).to_string());
    refused(&issuer, &format!("{}.{other}.{}", parts[0], parts[2]), TokenFault::Signature);
    // The same header in other letters.
    let spaced = base64(r#"{"alg":"ES256", "typ":"JWT"}"#);
    refused(&issuer, &format!("{spaced}.{}.{}", parts[1], parts[2]), TokenFault::Signature);
    for signature in ["", "AA", &parts[2][..84]] {
        refused(&issuer, &format!("{}.{}.{signature}", parts[0], parts[1]), TokenFault::Signature);
    }
    refused(&issuer, &format!("{}.{}.{}", parts[0], parts[1], base64([0; 64])), TokenFault::Signature);
}

#[test]
fn what_is_no_token_is_refused_before_any_signature_is_looked_at() {
    let issuer = ours("ES256");
    let token = SIGNER.token("ES256", &claims());
    let of = |claims: &str| SIGNER.token_with(&json!({"alg": "ES256"}), claims.as_bytes(), "ES256");
    let nested = format!(r#"{{"iss":"{ISSUER}","a":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
    let broad = format!(r#"{{"iss":"{ISSUER}","a":[{}]}}"#, vec!["{}"; 2_000].join(","));
    let twice = format!(r#"{{"iss":"{ISSUER}","sub":"ann","sub":"eve","exp":{}}}"#, NOW + 60);
    for text in [
        String::new(),
        String::from("."),
        String::from(".."),
        String::from("ey"),
        String::from("a.b.c"),
        token[..token.rfind('.').unwrap()].to_owned(),
        format!("{token}."),
        format!("{token}.{token}"),
        format!("{token}="),
        format!("{token} "),
        format!(" {token}"),
        format!("{token},{token}"),
        token.replacen('.', "..", 1),
        token.replacen("ey", "e\u{e9}", 1),
        of("[]"),
        of("\"text\""),
        of(""),
        of("{\"iss\":\"\u{0}\"}"),
        of(&nested),
        of(&broad),
        of(&twice),
    ] {
        refused(&issuer, &text, TokenFault::Malformed);
    }
    let long = of(&but("pad", json!("x".repeat(13_000))).to_string());
    refused(&issuer, &long, TokenFault::TooLong);
    let fits = of(&but("pad", json!("x".repeat(11_000))).to_string());
    assert!(judge(&issuer, &fits).is_ok());
}

#[test]
fn sets_of_keys_that_are_of_no_use_say_why() {
    let one = |key: Value| Jwks::parse(&json!({"keys": [key]}).to_string()).map(drop).unwrap_err();
    let with = |algorithm: &str, name: &str, value: Value| {
        let mut key = SIGNER.jwk(algorithm);
        key[name] = value;
        one(key)
    };
    for (said, want) in [
        (Jwks::parse("{").unwrap_err(), "not JSON"),
        (Jwks::parse("[]").unwrap_err(), "not a JWK Set"),
        (Jwks::parse(r#"{"keys":[]}"#).unwrap_err(), "there is no key in it"),
        (Jwks::parse(&" ".repeat(200_000)).unwrap_err(), "200000 bytes"),
        (Jwks::parse(&json!({"keys": vec![json!({}); 65]}).to_string()).unwrap_err(), "65 keys"),
        (one(json!({})), "key 0: missing field `kty`"),
        (one(json!({"kty": "X"})), "`kty` X: known are RSA, EC, OKP and oct"),
        (one(json!({"kty": "EC", "crv": "secp256k1"})), "curve `secp256k1`"),
        (one(json!({"kty": "OKP", "crv": "X25519", "x": "AA"})), "curve `X25519`"),
        (one(json!({"kty": "RSA", "e": "AQAB"})), "it has no `n`"),
        (with("RS256", "n", json!(base64([0xff; 128]))), "an RSA key of 1024 bits"),
        (with("RS256", "n", json!("!")), "`n` is not base64url"),
        (with("RS256", "e", json!("")), "not an RSA key"),
        (with("RS256", "d", json!("AA")), "its private part `d`"),
        (with("RS256", "use", json!("enc")), "it is not for signatures"),
        (with("RS256", "key_ops", json!(["encrypt"])), "it is not for signatures"),
        (with("RS256", "alg", json!("RSA-OAEP")), "`alg` RSA-OAEP is not known here"),
        (with("RS256", "alg", json!("HS256")), "`alg` HS256 does not go with a key of its type"),
        (with("ES256", "x", json!(base64([1; 31]))), "`x` and `y` of 31 and 32 bytes"),
        (with("ES256", "x", json!(base64([1; 32]))), "not a key"),
        (with("EdDSA", "x", json!(base64([1; 31]))), "not a key"),
        (with("HS256", "k", json!(base64([1; 31]))), "a secret of 31 bytes"),
    ] {
        assert!(said.contains(want), "{said} / {want}");
    }
    let some = json!({"keys": [{"kty": "new"}, SIGNER.jwk("RS256")]});
    let some = Jwks::parse(&some.to_string()).unwrap();
    assert!(some.any_for(&[Algorithm::RS256]) && !some.any_for(&[Algorithm::ES256, Algorithm::HS256]));
}

#[test]
fn neither_claims_nor_secrets_are_told_when_something_is_printed() {
    let token = SIGNER.token("HS256", &claims());
    let (issuer, claims) = (ours("HS256"), Token::read(token.as_bytes()).unwrap().claims);
    let told = format!("{issuer:?} {claims:?}");
    let secret = SIGNER.secret[..3].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    assert!(told.contains("Secret") && told.contains("Claims(4)"), "{told}");
    assert!(!told.contains("ann") && !told.contains(&secret), "{told}");
}

proptest! {
    #[test]
    fn a_token_with_any_one_byte_changed_is_never_believed(
        of in prop::sample::select(&["RS256", "PS384", "ES256", "EdDSA", "HS256"][..]),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let token = SIGNER.token(of, &claims());
        let mut changed = token.clone().into_bytes();
        let at = at.index(changed.len());
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        let issuer = issuer(&SIGNER.jwks(of), &ALL);
        let judged = Token::read(&changed).and_then(|token| issuer.verify(&token));
        prop_assert!(judged.is_err(), "{} at {at}: {byte}", token);
    }

    #[test]
    fn whatever_comes_is_read_or_refused(text in "[a-zA-Z0-9_=.-]{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Token::read(text.as_bytes());
        let header = base64(r#"{"alg":"ES256"}"#);
        let token = format!("{header}.{}.", base64(bytes));
        prop_assert!(judge(&ours("ES256"), &token).is_err());
    }
}
