//! Join tokens: who has one is its service account, and nobody else is anybody.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tidegate_identity::token::{BadLine, NewToken};
use tidegate_identity::{JoinTokens, TrustDomain, Unauthenticated};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn read(text: &str) -> Result<JoinTokens, Vec<BadLine>> {
    JoinTokens::read(text, &domain())
}

#[test]
fn a_token_is_who_it_was_made_for_and_is_not_in_the_file() {
    let cart = NewToken::new("shop", "cart", None, now()).unwrap();
    let pay = NewToken::new("shop", "pay", None, now()).unwrap();
    let text = format!("# tokens\n{}\n\n{}  # for pay\n", cart.line, pay.line);
    assert!(!text.contains(&cart.token[14..]));
    let tokens = read(&text).unwrap();
    assert_eq!(
        tokens.find(&cart.token, now()).unwrap().to_string(),
        "spiffe://cluster.local/ns/shop/sa/cart"
    );
    assert_eq!(tokens.find(&pay.token, now()).unwrap().to_string(), "spiffe://cluster.local/ns/shop/sa/pay");
    assert_eq!(tokens.find("", now()), Err(Unauthenticated::NoToken));
}

#[test]
fn a_token_is_over_at_its_time() {
    let token = NewToken::new("shop", "cart", Some(Duration::from_secs(60)), now()).unwrap();
    let tokens = read(&token.line).unwrap();
    assert!(tokens.find(&token.token, now() + Duration::from_secs(59)).is_ok());
    let over = tokens.find(&token.token, now() + Duration::from_secs(60));
    assert_eq!(over, Err(Unauthenticated::Expired));
}

proptest! {
    #[test]
    fn what_was_never_given_out_is_nobody(token in ".{1,80}") {
        let one = NewToken::new("shop", "cart", None, now()).unwrap();
        let tokens = read(&one.line).unwrap();
        prop_assume!(token != one.token);
        prop_assert_eq!(tokens.find(&token, now()), Err(Unauthenticated::Unknown));
        // Nor are a part of it, and what is kept of it.
        prop_assert!(tokens.find(&one.token[..one.token.len() - 1], now()).is_err());
        prop_assert!(tokens.find(&one.line[..64], now()).is_err());
    }

    #[test]
    fn any_file_is_read_or_refused_by_line(text in "[ -~\n]{0,200}") {
        if let Err(lines) = read(&text) {
            prop_assert!(lines.iter().all(|bad| bad.line >= 1 && bad.line <= text.lines().count()));
        }
    }
}

#[test]
fn every_bad_line_is_told_and_nobody_joins_as_the_control_plane() {
    let good = NewToken::new("shop", "cart", None, now()).unwrap().line;
    let hash = &good[..64];
    let text = format!(
        "{good}\nabc shop/cart\n{hash} cart\n{hash} shop/cart until=5\n{hash} tidegate-system/tidegate\n"
    );
    let lines: Vec<_> = read(&text).unwrap_err().iter().map(|bad| bad.line).collect();
    assert_eq!(lines, [2, 3, 4, 5]);
    assert!(NewToken::new("tidegate-system", "tidegate", None, now()).is_err());
    assert!(NewToken::new("shop/x", "cart", None, now()).is_err());
}
