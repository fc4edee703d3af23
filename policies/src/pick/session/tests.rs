use http::{HeaderMap, Request, request};
use proptest::prelude::*;

use super::*;
use crate::decision::Decisions;
use crate::model::{Address, Peer};

const DAY: u64 = 86_400;

fn endpoint(port: u16) -> Arc<EndpointState> {
    Arc::new(EndpointState::new(Address::Socket(([10, 0, 0, 1], port).into())))
}

fn endpoints() -> Vec<Arc<EndpointState>> {
    vec![endpoint(1), endpoint(2), endpoint(3)]
}

fn cookie(permanent: bool, absolute: Option<u64>, idle: Option<u64>) -> SessionPersistence {
    let carrier = SessionCarrier::Cookie { name: Some("sid".into()), path: "/".into(), permanent };
    let seconds = |time: Option<u64>| time.map(Duration::from_secs);
    SessionPersistence { carrier, absolute_timeout: seconds(absolute), idle_timeout: seconds(idle) }
}

fn bind(settings: &SessionPersistence, scope: &str, endpoints: &[Arc<EndpointState>]) -> Sessions {
    let (first, second) = endpoints.split_at(endpoints.len().min(2));
    Sessions::bind(settings, scope, [("shop/v1:80", first), ("shop/v2:80", second)].into_iter())
}

fn head(fields: &[(&str, &str)]) -> request::Parts {
    let builder = fields.iter().fold(Request::get("/"), |b, (name, value)| b.header(*name, *value));
    builder.body(()).unwrap().into_parts().0
}

fn find(sessions: &Sessions, head: &request::Parts, now: u64) -> Option<(usize, Session)> {
    sessions.find(&PickContext {
        head,
        peer: &Peer { address: "127.0.0.1:1".parse().unwrap(), identity: None },
        secure: false,
        unix: &|| Duration::from_secs(now),
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut Decisions::new(),
        response_headers: &mut HeaderMap::new(),
    })
}

/// What a client is told after an answer, if anything.
fn told(
    sessions: &Sessions,
    place: (usize, &Arc<EndpointState>),
    brought: Option<&Session>,
    now: u64,
) -> Option<String> {
    let mut headers = HeaderMap::new();
    sessions.tell(place, brought, (false, Duration::from_secs(now)), &mut headers);
    assert!(headers.len() <= 1);
    headers.values().next().map(|value| value.to_str().unwrap().to_owned())
}

/// The request of a client that was answered from there.
fn back(sessions: &Sessions, place: (usize, &Arc<EndpointState>), now: u64) -> request::Parts {
    let set = told(sessions, place, None, now).unwrap();
    head(&[("cookie", set.split(';').next().unwrap())])
}

#[test]
fn a_client_goes_back_to_the_endpoint_that_answered_it_through_any_proxy() {
    let (all, settings) = (endpoints(), cookie(false, None, None));
    let (here, there) = (bind(&settings, "r", &all), bind(&settings, "r", &endpoints()));
    for (target, i) in [(0, 0), (0, 1), (1, 2)] {
        let head = back(&here, (target, &all[i]), DAY);
        let (found, session) = find(&here, &head, 400 * DAY).unwrap();
        assert!(found == target && Arc::ptr_eq(&session.endpoint, &all[i]));
        assert_eq!(told(&here, (target, &all[i]), Some(&session), DAY), None, "told once");
        let (found, session) = find(&there, &head, DAY).unwrap();
        assert_eq!((found, &session.endpoint.label), (target, &all[i].label));
    }
}

#[test]
fn a_session_ends_with_its_endpoint_and_a_new_one_begins_where_the_client_is_answered_then() {
    let (all, settings) = (endpoints(), cookie(false, None, None));
    let sessions = bind(&settings, "r", &all);
    let head = back(&sessions, (0, &all[0]), DAY);
    assert!(find(&bind(&settings, "r", &all[1..]), &head, DAY).is_none());
    let (_, session) = find(&sessions, &head, DAY).unwrap();
    let moved = told(&sessions, (0, &all[1]), Some(&session), DAY).unwrap();
    assert_ne!(moved, told(&sessions, (0, &all[0]), None, DAY).unwrap());
}

#[test]
fn two_rules_share_no_session_even_under_one_name() {
    let (all, settings) = (endpoints(), cookie(false, None, None));
    let (a, b) = (bind(&settings, "a", &all), bind(&settings, "b", &all));
    let head = back(&a, (0, &all[0]), DAY);
    assert!(find(&a, &head, DAY).is_some() && find(&b, &head, DAY).is_none());
    let unnamed = |scope| {
        let carrier = SessionCarrier::Cookie { name: None, path: "/".into(), permanent: false };
        bind(&SessionPersistence { carrier, ..cookie(false, None, None) }, scope, &all).describe()
    };
    assert!(unnamed("a").starts_with("cookie tidegate-session-") && unnamed("a") != unnamed("b"));
}

#[test]
fn of_several_cookies_the_one_that_is_ours_counts() {
    let all = endpoints();
    let sessions = bind(&cookie(false, None, None), "r", &all);
    let ours = back(&sessions, (0, &all[1]), DAY).headers["cookie"].to_str().unwrap().to_owned();
    let head = head(&[("cookie", &format!("sid=of-the-app; x=1; {ours}"))]);
    assert!(Arc::ptr_eq(&find(&sessions, &head, DAY).unwrap().1.endpoint, &all[1]));
}

#[test]
fn a_session_cookie_has_no_age_and_a_permanent_one_that_of_the_session() {
    let all = endpoints();
    let set = |permanent, now, brought: Option<&Session>| {
        let sessions = bind(&cookie(permanent, Some(100), Some(80)), "r", &all);
        told(&sessions, (0, &all[0]), brought, now)
    };
    let session = set(false, DAY, None).unwrap();
    assert!(
        session.starts_with("sid=") && session.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{session}"
    );
    assert!(!session.contains("Max-Age") && !session.contains("Expires"), "{session}");
    assert!(set(true, DAY, None).unwrap().contains("; Max-Age=100;"));
    let sessions = bind(&cookie(true, Some(100), Some(80)), "r", &all);
    let (_, brought) = find(&sessions, &back(&sessions, (0, &all[0]), DAY), DAY + 30).unwrap();
    assert!(set(true, DAY + 30, Some(&brought)).unwrap().contains("; Max-Age=70;"), "what is left of it");
}

#[test]
fn an_absolute_timeout_ends_a_session_however_busy_and_an_idle_one_when_it_is_not() {
    let all = endpoints();
    let sessions = bind(&cookie(false, Some(1000), Some(80)), "r", &all);
    let mut head = back(&sessions, (0, &all[0]), DAY);
    assert!(find(&sessions, &head, DAY + 79).is_some());
    assert!(find(&sessions, &head, DAY + 80).is_none(), "idle");
    let mut now = DAY;
    while now + 40 < DAY + 1000 {
        now += 40;
        let (_, session) = find(&sessions, &head, now).expect("seen 40 seconds ago");
        let set = told(&sessions, (0, &all[0]), Some(&session), now).expect("seen again");
        head = super::tests::head(&[("cookie", set.split(';').next().unwrap())]);
    }
    assert!(find(&sessions, &head, DAY + 999).is_some());
    assert!(find(&sessions, &head, DAY + 1000).is_none(), "over");
    let (_, fresh) = find(&sessions, &back(&sessions, (0, &all[0]), DAY), DAY + 9).unwrap();
    assert_eq!(told(&sessions, (0, &all[0]), Some(&fresh), DAY + 9), None, "not with every answer");
}

#[test]
fn a_session_from_the_future_is_none_but_clocks_may_differ() {
    let all = endpoints();
    let sessions = bind(&cookie(false, None, None), "r", &all);
    let head = back(&sessions, (0, &all[0]), DAY);
    assert!(find(&sessions, &head, DAY - 300).is_some());
    assert!(find(&sessions, &head, DAY - 301).is_none());
}

#[test]
fn a_header_carries_the_bare_token() {
    let all = endpoints();
    let name: HeaderName = "x-session".parse().unwrap();
    let settings = SessionPersistence { carrier: SessionCarrier::Header(name), ..cookie(false, None, None) };
    let sessions = bind(&settings, "r", &all);
    let token = told(&sessions, (1, &all[2]), None, DAY).unwrap();
    assert_eq!(token.len(), TOKEN_CHARS);
    let (target, session) = find(&sessions, &head(&[("x-session", &token)]), DAY).unwrap();
    assert!(target == 1 && Arc::ptr_eq(&session.endpoint, &all[2]));
}

#[test]
fn a_token_shows_no_address() {
    let all = endpoints();
    let token = Token::read(
        back(&bind(&cookie(false, None, None), "r", &all), (0, &all[0]), DAY).headers["cookie"]
            .as_bytes()
            .strip_prefix(b"sid=")
            .unwrap(),
    )
    .unwrap();
    let bytes = token.place.to_be_bytes();
    assert!(!bytes.windows(3).any(|w| w == [10, 0, 0]) && !bytes.windows(2).any(|w| w == [0, 1]));
}

proptest! {
    #[test]
    fn whatever_is_brought_leads_to_an_endpoint_of_the_rule_or_nowhere(text in "[A-Za-z0-9_=-]{0,40}", place: u64) {
        let all = endpoints();
        let sessions = bind(&cookie(false, None, None), "r", &all);
        let made_up = Token { began: 1, seen: 1, place }.write();
        for value in [text, made_up] {
            let found = find(&sessions, &head(&[("cookie", &format!("sid={value}"))]), DAY);
            prop_assert!(found.is_none_or(|(_, session)| all.iter().any(|one| Arc::ptr_eq(one, &session.endpoint))));
        }
    }

    #[test]
    fn a_token_is_read_as_it_was_written(began: u32, seen: u32, place: u64) {
        let token = Token { began, seen, place };
        prop_assert_eq!(Token::read(token.write().as_bytes()), Some(token));
    }
}
