//! A type whose names are questions: the client asks, and a world of its own answers.

use tidegate_xds::client::{DeltaClient, WANTS, Want};
use tidegate_xds::server::{DeltaSession, Event};

use crate::support::*;

/// Connected, with everything that a first world holds.
fn session() -> DeltaSession {
    let mut session = DeltaSession::new(TYPES).asked_by_name(ROUTE);
    session.on_request(request(BACKEND)).unwrap();
    session.on_world(world(&[(BACKEND, "a", "1")]));
    let first = session.next_response().unwrap();
    session.on_request(ack(&first)).unwrap();
    assert!(session.next_response().is_none());
    session
}

#[test]
fn a_question_is_told_and_answered_after_what_the_answer_leans_on() {
    let mut session = session();
    let events = session.on_request(subscribe(ROUTE, &["shop"])).unwrap();
    assert_eq!(events, [Event::Wanted { names: vec!["shop".into()] }]);
    session.on_world(world(&[(BACKEND, "a", "1"), (BACKEND, "b", "1"), (ROUTE, "shop", "1")]));
    let mut told = Vec::new();
    while let Some(response) = session.next_response() {
        told.extend(response.resources.iter().map(|resource| resource.name.clone()));
        assert!(response.removed_resources.is_empty());
        session.on_request(ack(&response)).unwrap();
    }
    assert_eq!(told, ["b", "shop"]);
}

#[test]
fn a_world_that_does_not_know_the_question_yet_is_no_answer() {
    let mut session = session();
    session.on_request(subscribe(ROUTE, &["shop"])).unwrap();
    // The first response of a type greets, and says nothing.
    while let Some(response) = session.next_response() {
        assert!(response.resources.is_empty() && response.removed_resources.is_empty(), "{response:?}");
        session.on_request(ack(&response)).unwrap();
    }
}

#[test]
fn questions_are_told_when_they_change_and_all_of_them() {
    let mut session = session();
    session.on_request(subscribe(ROUTE, &["b"])).unwrap();
    let events = session.on_request(subscribe(ROUTE, &["a"])).unwrap();
    assert_eq!(events, [Event::Wanted { names: vec!["a".into(), "b".into()] }]);
    let events = session.on_request(unsubscribe(ROUTE, &["b"])).unwrap();
    assert_eq!(events, [Event::Wanted { names: vec!["a".into()] }]);
    assert_eq!(session.on_request(subscribe(BACKEND, &["x"])).unwrap(), [], "no question");
}

#[test]
fn a_client_tells_its_questions_with_its_node_so_that_a_reconnect_takes_nothing_away() {
    let mut client = DeltaClient::new(node(), TYPES).asking(ROUTE);
    let wants = |client: &mut DeltaClient| {
        let first = client.on_connected().remove(0);
        format!("{:?}", first.node.unwrap().metadata.unwrap().fields[WANTS])
    };
    assert!(!wants(&mut client).contains("shop"));
    let asked = client.want(Want::Subscribe { type_url: ROUTE, names: vec!["shop".into()] }).unwrap();
    assert_eq!(asked.resource_names_subscribe, ["shop"]);
    assert!(wants(&mut client).contains("shop"), "told with the node by the next stream");
}
