//! The rules of a session, one by one.

use std::sync::Arc;

use prost::Message;
use prost_types::Any;
use tidegate_proto::google::rpc::Status;
use tidegate_proto::tidegate::v1::{RejectedResource, RejectedResources};
use tidegate_xds::server::{DeltaSession, Event, Nack, ProtocolError, Rejected};
use tidegate_xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, ResourceSet, Versioned};

use crate::support::*;

pub(crate) fn nack(response: &DeltaDiscoveryResponse, rejected: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let resources = rejected
        .iter()
        .map(|(n, r)| RejectedResource { name: (*n).to_owned(), reason: (*r).to_owned(), in_force: false })
        .collect();
    let detail = Any {
        type_url: "type.googleapis.com/tidegate.v1.RejectedResources".to_owned(),
        value: RejectedResources { resources }.encode_to_vec(),
    };
    let status = Status { code: 3, message: "no good".to_owned(), details: vec![detail] };
    DeltaDiscoveryRequest { error_detail: Some(status), ..ack(response) }
}

fn rejected(name: &str, version: &str, reason: &str) -> Rejected {
    Rejected { name: name.into(), version: version.into(), reason: reason.to_owned(), in_force: false }
}

#[test]
fn first_request_connects_with_its_node() {
    let mut session = DeltaSession::new(TYPES);
    let event = only(session.on_request(request(BACKEND)).unwrap());
    assert_eq!(event, Event::Connected { node: Box::new(node()) });
    assert_eq!(session.on_request(request(POLICY)).unwrap(), []);
}

#[test]
fn refuses_a_stream_without_node_or_of_a_foreign_type() {
    let mut session = DeltaSession::new(TYPES);
    for node in [None, Some(Node::default())] {
        let error = session.on_request(DeltaDiscoveryRequest { node, ..request(BACKEND) }).unwrap_err();
        assert_eq!(error, ProtocolError::MissingNode);
    }
    let error = session.on_request(request("type.googleapis.com/test.Other")).unwrap_err();
    assert_eq!(error, ProtocolError::UnknownType("type.googleapis.com/test.Other".to_owned()));
}

#[test]
fn refuses_more_names_than_a_stream_may_hold() {
    let mut session = DeltaSession::new(TYPES);
    let names: Vec<String> = (0..100_001).map(|i| i.to_string()).collect();
    let first = DeltaDiscoveryRequest { resource_names_subscribe: names.clone(), ..request(BACKEND) };
    assert!(matches!(session.on_request(first), Err(ProtocolError::TooManyNames { max: 100_000, .. })));

    let mut session = DeltaSession::new(TYPES);
    let (one, other) = names.split_at(50_000);
    let half = |names: &[String]| DeltaDiscoveryRequest {
        resource_names_subscribe: names.to_vec(),
        ..request(BACKEND)
    };
    session.on_request(half(one)).unwrap();
    assert!(session.on_request(half(other)).is_err());
}

#[test]
fn says_nothing_before_the_first_world() {
    let mut session = DeltaSession::new(TYPES);
    session.on_request(request(BACKEND)).unwrap();
    assert_eq!(session.next_response(), None);
    session.on_world(world(&[(BACKEND, "a", "1")]));
    assert_eq!(ack_all(&mut session), ["Backend +a@1"]);
}

#[test]
fn wildcard_gets_everything_of_its_type_in_push_order() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[
        (ROUTE, "r", "1"),
        (BACKEND, "b", "1"),
        (BACKEND, "a", "7"),
        (POLICY, "p", "1"),
    ]));
    session.on_request(request(BACKEND)).unwrap();
    session.on_request(subscribe(POLICY, &["*"])).unwrap();
    session.on_request(request(ROUTE)).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend +a@7 +b@1", "Policy +p@1", "Route +r@1"]);
}

#[test]
fn carries_body_and_version_as_given() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1")]));
    session.on_request(request(BACKEND)).unwrap();
    let response = session.next_response().unwrap();
    let resource = &response.resources[0];
    assert_eq!(resource.version, "1");
    let any = resource.resource.as_ref().unwrap();
    assert_eq!((any.type_url.as_str(), any.value.clone()), (BACKEND, body("a", "1")));
}

#[test]
fn answers_every_subscribed_type_even_with_nothing() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(POLICY, "p", "1")]));
    for type_url in TYPES {
        session.on_request(request(type_url)).unwrap();
    }
    assert_eq!(ack_all(&mut session), ["Backend", "Policy +p@1", "Route"]);
}

#[test]
fn sends_only_what_changed_and_nothing_for_an_equal_world() {
    let mut session = settled(&world(&[(BACKEND, "a", "1"), (BACKEND, "b", "1"), (ROUTE, "r", "1")]));
    session.on_world(world(&[(BACKEND, "a", "1"), (BACKEND, "b", "2"), (ROUTE, "r", "1")]));
    assert_eq!(ack_all(&mut session), ["Backend +b@2"]);
    session.on_world(world(&[(BACKEND, "a", "1"), (BACKEND, "b", "2"), (ROUTE, "r", "1")]));
    assert_eq!(session.next_response(), None);
}

#[test]
fn upserts_flow_in_push_order_and_removals_the_other_way_after_them() {
    let mut session = settled(&world(&[(BACKEND, "old", "1"), (POLICY, "old", "1"), (ROUTE, "old", "1")]));
    session.on_world(world(&[(BACKEND, "new", "1"), (POLICY, "new", "1"), (ROUTE, "new", "1")]));
    assert_eq!(
        ack_all(&mut session),
        ["Backend +new@1", "Policy +new@1", "Route +new@1", "Route -old", "Policy -old", "Backend -old"]
    );
}

#[test]
fn waits_for_the_answer_before_the_next_response_of_any_type() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1"), (ROUTE, "r", "1")]));
    session.on_request(request(BACKEND)).unwrap();
    session.on_request(request(ROUTE)).unwrap();
    let first = session.next_response().unwrap();
    assert_eq!(session.next_response(), None);
    session.on_world(world(&[(BACKEND, "a", "2")]));
    session.on_request(request(POLICY)).unwrap();
    assert_eq!(session.next_response(), None);
    session.on_request(ack(&first)).unwrap();
    assert_eq!(words(&session.next_response().unwrap()), "Policy");
}

#[test]
fn ignores_answers_to_anything_but_the_outstanding_response() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1")]));
    session.on_request(request(BACKEND)).unwrap();
    session.on_request(request(POLICY)).unwrap();
    let first = session.next_response().unwrap();
    session.on_request(ack(&first)).unwrap();
    let second = session.next_response().unwrap();
    assert_ne!(first.nonce, second.nonce);

    let other_type = DeltaDiscoveryRequest { type_url: BACKEND.to_owned(), ..ack(&second) };
    for stale in [ack(&first), nack(&first, &[("a", "late")]), other_type, request(POLICY)] {
        assert_eq!(session.on_request(stale).unwrap(), []);
        assert_eq!(session.next_response(), None);
    }
    assert_eq!(session.on_request(ack(&second)).unwrap().len(), 1);
}

#[test]
fn ack_tells_versions_and_removals() {
    let mut session = settled(&world(&[(BACKEND, "gone", "1")]));
    session.on_world(world(&[(BACKEND, "a", "3")]));
    let upserts = session.next_response().unwrap();
    assert_eq!(
        only(session.on_request(ack(&upserts)).unwrap()),
        Event::Acked { type_url: BACKEND, resources: pairs(&[("a", "3")]), removed: vec![] }
    );
    let removals = session.next_response().unwrap();
    assert_eq!(
        only(session.on_request(ack(&removals)).unwrap()),
        Event::Acked { type_url: BACKEND, resources: vec![], removed: vec!["gone".into()] }
    );
}

#[test]
fn nack_refuses_what_it_names_and_acknowledges_the_rest() {
    let mut session = settled(&world(&[]));
    session.on_world(world(&[(POLICY, "bad", "1"), (POLICY, "good", "1")]));
    let response = session.next_response().unwrap();
    let event = only(session.on_request(nack(&response, &[("bad", "negative burst")])).unwrap());
    let expected = Nack {
        type_url: POLICY,
        rejected: vec![rejected("bad", "1", "negative burst")],
        acked: pairs(&[("good", "1")]),
        removed: vec![],
        message: "no good".to_owned(),
    };
    assert_eq!(event, Event::Nacked(expected));
}

#[test]
fn nack_that_names_nothing_sent_refuses_the_whole_response() {
    let plain = |response: &_| DeltaDiscoveryRequest {
        error_detail: Some(Status { message: "no good".to_owned(), ..Status::default() }),
        ..ack(response)
    };
    let strange = |response: &_| nack(response, &[("elsewhere", "why")]);
    let broken = |response: &_| {
        let mut request = nack(response, &[]);
        request.error_detail.as_mut().unwrap().details[0].value = vec![0xff; 5];
        request
    };
    let forms: [&dyn Fn(&DeltaDiscoveryResponse) -> DeltaDiscoveryRequest; 3] = [&plain, &strange, &broken];
    for form in forms {
        let mut session = settled(&world(&[]));
        session.on_world(world(&[(POLICY, "a", "1"), (POLICY, "b", "1")]));
        let response = session.next_response().unwrap();
        let Event::Nacked(nack) = only(session.on_request(form(&response)).unwrap()) else { panic!() };
        assert_eq!(nack.rejected, [rejected("a", "1", "no good"), rejected("b", "1", "no good")]);
        assert_eq!(nack.acked, []);
        assert_eq!(session.next_response(), None);
    }
}

#[test]
fn refused_version_is_not_sent_again_until_it_changes() {
    let good = world(&[(POLICY, "p", "1")]);
    let bad = world(&[(POLICY, "p", "2")]);
    let mut session = settled(&good);
    session.on_world(Arc::clone(&bad));
    let response = session.next_response().unwrap();
    session.on_request(nack(&response, &[("p", "no")])).unwrap();
    assert_eq!(session.next_response(), None);

    session.on_world(world(&[(POLICY, "p", "2"), (ROUTE, "r", "1")]));
    assert_eq!(ack_all(&mut session), ["Route +r@1"], "unchanged, so not sent");
    session.on_world(Arc::clone(&good));
    assert_eq!(ack_all(&mut session), ["Route -r"], "the client still has version 1");
    session.on_world(world(&[(POLICY, "p", "3")]));
    assert_eq!(ack_all(&mut session), ["Policy +p@3"]);
    session.on_world(bad);
    assert_eq!(ack_all(&mut session), ["Policy +p@2"], "refused long ago: it may fit now");
}

#[test]
fn refused_resource_without_an_older_version_is_not_removed() {
    let mut session = settled(&world(&[]));
    session.on_world(world(&[(POLICY, "p", "1")]));
    let response = session.next_response().unwrap();
    session.on_request(nack(&response, &[("p", "no")])).unwrap();
    session.on_world(world(&[]));
    assert_eq!(session.next_response(), None);
}

#[test]
fn a_refusal_does_not_stop_the_types_after_it() {
    let mut session = settled(&world(&[]));
    session.on_world(world(&[(BACKEND, "b", "1"), (ROUTE, "r", "1")]));
    let response = session.next_response().unwrap();
    session.on_request(nack(&response, &[("b", "no")])).unwrap();
    assert_eq!(ack_all(&mut session), ["Route +r@1"]);
}

#[test]
fn worlds_during_a_pass_are_coalesced_and_cannot_starve_later_types() {
    let mut session = settled(&world(&[]));
    session.on_world(world(&[(BACKEND, "b", "0"), (ROUTE, "r", "0")]));
    let mut told = Vec::new();
    for version in 1..=10 {
        let response = session.next_response().unwrap();
        told.push(words(&response));
        let version = version.to_string();
        session.on_world(world(&[(BACKEND, "b", &version), (ROUTE, "r", "1")]));
        session.on_request(ack(&response)).unwrap();
    }
    assert_eq!(told[..5], ["Backend +b@0", "Route +r@0", "Backend +b@2", "Route +r@1", "Backend +b@4"]);
}

#[test]
fn named_subscription_gets_only_its_names() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1"), (BACKEND, "b", "1"), (BACKEND, "c", "1")]));
    session.on_request(subscribe(BACKEND, &["a"])).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend +a@1"]);
    session.on_request(subscribe(BACKEND, &["b"])).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend +b@1"]);
    session.on_request(unsubscribe(BACKEND, &["a"])).unwrap();
    session.on_world(world(&[(BACKEND, "a", "2"), (BACKEND, "b", "2"), (BACKEND, "c", "2")]));
    assert_eq!(ack_all(&mut session), ["Backend +b@2"]);
}

#[test]
fn missing_name_is_answered_once_and_sent_as_soon_as_it_exists() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[]));
    session.on_request(subscribe(BACKEND, &["a"])).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend", "Backend -a"]);
    session.on_world(world(&[(BACKEND, "other", "1")]));
    assert_eq!(session.next_response(), None);
    session.on_world(world(&[(BACKEND, "a", "1")]));
    assert_eq!(ack_all(&mut session), ["Backend +a@1"]);
}

#[test]
fn name_asked_for_again_is_answered_again() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1")]));
    session.on_request(subscribe(BACKEND, &["a"])).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend +a@1"]);
    session.on_request(subscribe(BACKEND, &["a"])).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend +a@1"]);
}

#[test]
fn name_dropped_and_taken_again_while_on_its_way_is_sent_again() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1")]));
    session.on_request(subscribe(BACKEND, &["a"])).unwrap();
    let response = session.next_response().unwrap();
    session.on_request(unsubscribe(BACKEND, &["a"])).unwrap();
    session.on_request(subscribe(BACKEND, &["a"])).unwrap();
    session.on_request(ack(&response)).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend +a@1"]);
}

#[test]
fn name_dropped_while_on_its_way_is_neither_kept_nor_removed() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1"), (BACKEND, "b", "1")]));
    session.on_request(subscribe(BACKEND, &["a", "b"])).unwrap();
    let response = session.next_response().unwrap();
    session.on_request(unsubscribe(BACKEND, &["a"])).unwrap();
    session.on_request(ack(&response)).unwrap();
    session.on_world(world(&[]));
    assert_eq!(ack_all(&mut session), ["Backend -b"]);
}

#[test]
fn unsubscribing_a_name_that_the_wildcard_covers_is_answered() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1")]));
    session.on_request(subscribe(BACKEND, &["*", "a", "b"])).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend +a@1", "Backend -b"]);
    session.on_request(unsubscribe(BACKEND, &["a", "b"])).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend +a@1", "Backend -b"]);
}

#[test]
fn unsubscribing_the_wildcard_leaves_the_names() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1"), (BACKEND, "b", "1")]));
    session.on_request(subscribe(BACKEND, &["*", "a"])).unwrap();
    ack_all(&mut session);
    session.on_request(unsubscribe(BACKEND, &["*"])).unwrap();
    assert_eq!(session.next_response(), None);
    session.on_world(world(&[(BACKEND, "a", "2"), (BACKEND, "b", "2")]));
    assert_eq!(ack_all(&mut session), ["Backend +a@2"]);
}

#[test]
fn reconnected_client_gets_only_the_difference() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "same", "1"), (BACKEND, "changed", "2"), (BACKEND, "new", "1")]));
    let events =
        session.on_request(having(BACKEND, &[("same", "1"), ("changed", "1"), ("gone", "1")])).unwrap();
    let Event::Acked { type_url, mut resources, removed } = events[1].clone() else { panic!() };
    resources.sort();
    assert_eq!(type_url, BACKEND);
    assert_eq!(resources, pairs(&[("changed", "1"), ("gone", "1"), ("same", "1")]));
    assert!(removed.is_empty());
    assert_eq!(ack_all(&mut session), ["Backend +changed@2 +new@1", "Backend -gone"]);
}

#[test]
fn reconnected_client_that_has_everything_gets_an_empty_answer() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1"), (BACKEND, "b", "1")]));
    let first =
        DeltaDiscoveryRequest { resource_names_subscribe: strings(&["a"]), ..having(BACKEND, &[("a", "1")]) };
    session.on_request(first).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend"]);
}

#[test]
fn reconnected_client_is_rid_of_what_it_no_longer_asks_for() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(world(&[(BACKEND, "a", "1"), (BACKEND, "b", "1")]));
    let first = DeltaDiscoveryRequest {
        resource_names_subscribe: strings(&["a"]),
        ..having(BACKEND, &[("a", "1"), ("b", "1")])
    };
    session.on_request(first).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend", "Backend -b"]);
}

#[test]
fn initial_versions_count_only_in_the_first_request_of_a_type() {
    let mut session = settled(&world(&[(BACKEND, "a", "1")]));
    assert_eq!(session.on_request(having(BACKEND, &[("a", "9")])).unwrap(), []);
    assert_eq!(session.next_response(), None);
}

#[test]
fn large_set_is_cut_into_parts_that_say_so() {
    let mut set = ResourceSet::default();
    for i in 0..5 {
        let resource = Versioned::new(BACKEND, "1", vec![b'x'; 900 << 10]);
        set.insert(BACKEND, format!("b{i}"), resource).unwrap();
    }
    set.insert(BACKEND, "huge", Versioned::new(BACKEND, "1", vec![b'x'; 5 << 20])).unwrap();
    let mut session = DeltaSession::new(TYPES);
    session.on_world(Arc::new(set));
    session.on_request(request(BACKEND)).unwrap();
    let mut parts = Vec::new();
    while let Some(response) = session.next_response() {
        let alone = response.resources.len() == 1;
        assert!(alone || response.encoded_len() < (2 << 20) + 1024);
        parts.push((words(&response), response.system_version_info == "partial"));
        session.on_request(ack(&response)).unwrap();
    }
    let expected = [
        ("Backend +b0@1 +b1@1".to_owned(), true),
        ("Backend +b2@1 +b3@1".to_owned(), true),
        ("Backend +b4@1".to_owned(), true),
        ("Backend +huge@1".to_owned(), false),
    ];
    assert_eq!(parts, expected);
}

#[test]
fn set_refuses_a_resource_that_no_message_can_carry() {
    let mut set = ResourceSet::default();
    let error = set.insert(POLICY, "p", Versioned::new(POLICY, "1", vec![0; 16 << 20])).unwrap_err();
    assert_eq!((error.type_url, &*error.name), (POLICY, "p"));
    assert!(set.is_empty());
}

fn incomplete(resources: &[(&'static str, &str, &str)]) -> Arc<ResourceSet> {
    let mut set = (*world(resources)).clone();
    set.set_incomplete(true);
    Arc::new(set)
}

#[test]
fn what_an_earlier_server_told_is_left_alone_while_worlds_are_incomplete() {
    let mut session = DeltaSession::new(TYPES);
    session.on_world(incomplete(&[(BACKEND, "b", "2"), (BACKEND, "new", "1"), (BACKEND, "edited", "2")]));
    let had = [("a", "1"), ("b", "1"), ("edited", "1")];
    session.on_request(having(BACKEND, &had)).unwrap();
    assert_eq!(ack_all(&mut session), ["Backend +new@1"]);
    session.on_world(incomplete(&[(BACKEND, "b", "2"), (BACKEND, "edited", "3")]));
    assert_eq!(ack_all(&mut session), ["Backend +edited@3", "Backend -new"]);
    session.on_world(incomplete(&[(BACKEND, "edited", "3")]));
    assert_eq!(ack_all(&mut session), ["Backend -b"], "it was seen to go");
    session.on_world(world(&[(BACKEND, "edited", "3")]));
    assert_eq!(ack_all(&mut session), ["Backend -a"]);
}

#[test]
fn a_world_that_becomes_complete_without_a_change_releases_what_was_left_alone() {
    let mut session = DeltaSession::new(TYPES);
    let first = incomplete(&[(BACKEND, "b", "2")]);
    let mut whole = (*first).clone();
    whole.set_incomplete(false);
    session.on_world(first);
    session.on_request(having(BACKEND, &[("a", "1"), ("b", "1")])).unwrap();
    // The client waits for its first answer, even an empty one.
    assert_eq!(ack_all(&mut session), ["Backend"]);
    session.on_world(Arc::new(whole));
    assert_eq!(ack_all(&mut session), ["Backend +b@2", "Backend -a"]);
}
