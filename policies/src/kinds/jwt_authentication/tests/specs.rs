//! What is wrong with a policy is told with its place, all at once.

use super::*;

#[track_caller]
fn wrong(more: Value, want: &str) {
    let found = faults(KIND, spec(more));
    assert!(found.len() == 1 && found[0].contains(want), "{found:?}");
}

#[test]
fn faults_are_told_where_they_are() {
    for (more, want) in [
        (json!({"name": "two words"}), "spec/providers/0/name: `two words` cannot be a name"),
        (json!({"issuer": ""}), "spec/providers/0/issuer: an empty issuer"),
        (json!({"audiences": [""]}), "spec/providers/0/audiences/0: an empty audience"),
        (json!({"leeway": "11m"}), "spec/providers/0/leeway: 11m is out of range"),
        (json!({"jwks": {}}), "spec/providers/0/jwks: write one of `inline`, `configMapRef` and `uri`"),
        (json!({"jwks": {"inline": "{"}}), "spec/providers/0/jwks/inline: not JSON"),
        (json!({"algorithms": ["EdDSA", "EdDSA"]}), "spec/providers/0/algorithms/1: EdDSA is written twice"),
        (
            json!({"algorithms": ["ES384"]}),
            "spec/providers/0/jwks: no key in it is for any of the algorithms",
        ),
        (json!({"jwks": {"inline": SIGNER.jwks("HS256")}}), "only taken where `algorithms` lists them"),
        (json!({"from": [{}]}), "spec/providers/0/from/0: write one of `header`, `cookie` and `query`"),
        (json!({"from": [{"header": "x", "cookie": "x"}]}), "spec/providers/0/from/0: write one of"),
        (json!({"from": [{"header": "a b"}]}), "spec/providers/0/from/0/header: `a b` is not the name"),
        (json!({"from": [{"header": "Cookie"}]}), "spec/providers/0/from/0/header: write `cookie`"),
        (json!({"from": [{"cookie": "a b"}]}), "spec/providers/0/from/0/cookie: `a b` is not the name"),
        (json!({"from": [{"query": ""}]}), "spec/providers/0/from/0/query: a parameter has a name"),
        (
            json!({"from": [{"cookie": "a", "prefix": "b"}]}),
            "spec/providers/0/from/0/prefix: `prefix` goes with",
        ),
        (json!({"from": [{"header": "X-A"}, {"header": "x-a"}]}), "spec/providers/0/from/1: the same place"),
        (
            json!({"claimToHeaders": [{"header": "x"}]}),
            "spec/providers/0/claimToHeaders/0: write the claim's `claim`",
        ),
        (
            json!({"claimToHeaders": [{"claim": "a", "path": ["b"], "header": "x"}]}),
            "claimToHeaders/0: write the claim's",
        ),
        (
            json!({"claimToHeaders": [{"path": ["a", ""], "header": "x"}]}),
            "claimToHeaders/0: the name of a claim",
        ),
        (
            json!({"claimToHeaders": [{"claim": "a", "header": "Host"}]}),
            "claimToHeaders/0/header: `Host` is not",
        ),
        (
            json!({"claimToHeaders": [{"claim": "a", "header": "x"}, {"claim": "b", "header": "X"}]}),
            "claimToHeaders/1/header: `x` is written twice",
        ),
    ] {
        wrong(more, want);
    }
    let two = json!({"providers": [provider(json!({})), provider(json!({}))]});
    let found = faults(KIND, two);
    assert!(found[0].contains("/providers/1/name: `ours` is used twice"), "{found:?}");
    assert!(found[1].contains("/providers/1/issuer: another provider has the same issuer"), "{found:?}");
    assert!(faults(KIND, json!({"providers": []}))[0].contains("write 1 to 16"));
}

#[test]
fn secrets_count_only_where_their_algorithms_are_listed() {
    let written = json!({"jwks": {"inline": SIGNER.jwks("HS256")}, "algorithms": ["HS256"]});
    let filter = filter(spec(written));
    assert_eq!(meets(&filter, bearer(&SIGNER.token("HS256", &claims()))).says(), "ours: allowed");
    assert_eq!(
        meets(&filter, bearer(&SIGNER.token("HS512", &claims()))).says(),
        "ours: refused token=algorithm"
    );
}
