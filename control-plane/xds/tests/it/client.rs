//! The rules of a client, one by one.

use prost::Message;
use prost_types::Any;
use tidegate_proto::tidegate::v1::RejectedResources;
use tidegate_xds::client::{DeltaClient, ProtocolError, Rejection, Update, Want};
use tidegate_xds::{DeltaDiscoveryResponse, Resource};

use crate::support::*;

fn response(
    type_url: &str,
    nonce: &str,
    upserts: &[(&str, &str)],
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    let resource = |(name, version): &(&str, &str)| Resource {
        name: (*name).to_owned(),
        version: (*version).to_owned(),
        resource: Some(Any { type_url: type_url.to_owned(), value: body(name, version) }),
        ..Resource::default()
    };
    DeltaDiscoveryResponse {
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        resources: upserts.iter().map(resource).collect(),
        removed_resources: strings(removed),
        ..Default::default()
    }
}

fn connected(types: &[&'static str]) -> DeltaClient {
    let mut client = DeltaClient::new(node(), types);
    client.on_connected();
    client
}

fn take(client: &mut DeltaClient, response: DeltaDiscoveryResponse) -> Update {
    client.on_response(response).unwrap()
}

fn rejection(name: &str, reason: &str) -> Rejection {
    Rejection::of_content(name.to_owned(), reason.to_owned())
}

#[test]
fn first_requests_are_in_push_order_and_only_the_first_tells_the_node() {
    let requests = DeltaClient::new(node(), TYPES).on_connected();
    assert_eq!(requests.iter().map(|r| r.type_url.as_str()).collect::<Vec<_>>(), TYPES);
    assert_eq!(requests[0].node, Some(node()));
    assert!(requests[1..].iter().all(|r| r.node.is_none()));
    assert!(requests.iter().all(|r| r.resource_names_subscribe == ["*"]));
}

#[test]
fn ack_names_the_nonce_and_later_streams_begin_with_what_was_acknowledged() {
    let mut client = connected(&[BACKEND]);
    let update = take(&mut client, response(BACKEND, "7", &[("a", "1"), ("b", "1")], &[]));
    assert_eq!(update.upserts[0].body, body("a", "1"));
    let answer = client.ack(update, vec![]);
    assert_eq!((answer.type_url.as_str(), answer.response_nonce.as_str()), (BACKEND, "7"));
    assert_eq!(answer.error_detail, None);
    let update = take(&mut client, response(BACKEND, "8", &[("a", "2")], &["b"]));
    client.ack(update, vec![]);

    let again = client.on_connected().remove(0);
    assert_eq!(again.initial_resource_versions, [("a".to_owned(), "2".to_owned())].into());
    assert_eq!((again.node, again.response_nonce), (Some(node()), String::new()));
}

#[test]
fn update_that_was_never_answered_is_not_claimed_on_the_next_stream() {
    let mut client = connected(&[BACKEND]);
    take(&mut client, response(BACKEND, "1", &[("a", "1")], &[]));
    assert!(client.on_connected()[0].initial_resource_versions.is_empty());
}

#[test]
fn nack_names_what_was_refused_and_keeps_its_last_version() {
    let mut client = connected(&[POLICY]);
    let update = take(&mut client, response(POLICY, "1", &[("p", "1")], &[]));
    client.ack(update, vec![]);
    let update = take(&mut client, response(POLICY, "2", &[("p", "2"), ("q", "2"), ("r", "2")], &[]));
    let answer = client.ack(update, vec![rejection("p", "negative burst"), rejection("r", "no")]);
    let status = answer.error_detail.unwrap();
    assert_eq!(status.message, "p: negative burst; r: no");
    let detail = RejectedResources::decode(status.details[0].value.as_slice()).unwrap();
    let named: Vec<_> = detail.resources.iter().map(|r| (r.name.as_str(), r.reason.as_str())).collect();
    assert_eq!(named, [("p", "negative burst"), ("r", "no")]);
    let versions = client.versions(POLICY).unwrap();
    assert_eq!(versions.iter().map(|(n, v)| format!("{n}@{v}")).collect::<Vec<_>>(), ["p@1", "q@2"]);
}

#[test]
fn message_of_a_nack_stays_short_and_its_details_complete() {
    let mut client = connected(&[POLICY]);
    let names: Vec<String> = (0..50).map(|i| format!("p{i:02}")).collect();
    let upserts: Vec<_> = names.iter().map(|n| (n.as_str(), "1")).collect();
    let update = take(&mut client, response(POLICY, "1", &upserts, &[]));
    let answer = client.ack(update, names.iter().map(|n| rejection(n, "no")).collect());
    let status = answer.error_detail.unwrap();
    assert_eq!(status.message, "p00: no; p01: no; p02: no; and 47 more");
    assert_eq!(RejectedResources::decode(status.details[0].value.as_slice()).unwrap().resources.len(), 50);
}

#[test]
fn what_is_refused_but_in_force_is_held_in_a_version_that_no_server_has() {
    let mut client = connected(&[POLICY]);
    let again = || Want::Again { type_url: POLICY, names: strings(&["p"]) };
    let update = take(&mut client, response(POLICY, "1", &[("p", "1")], &[]));
    client.ack(update, vec![]);
    let request = client.want(again()).unwrap();
    assert_eq!(request.resource_names_subscribe, ["p"]);
    let update = take(&mut client, response(POLICY, "2", &[("p", "1")], &[]));
    let answer = client.ack(update, vec![Rejection { in_force: true, ..rejection("p", "port taken") }]);
    let detail = answer.error_detail.unwrap();
    let detail = RejectedResources::decode(detail.details[0].value.as_slice()).unwrap();
    assert!(detail.resources[0].in_force);
    // Not as version 1: the server is to send it again, or to tell that it is gone.
    let again = client.on_connected().remove(0);
    assert_eq!(again.initial_resource_versions, [("p".to_owned(), String::new())].into());
    assert_eq!(again.resource_names_subscribe, ["*"]);
}

#[test]
fn nothing_is_asked_for_again_without_a_stream() {
    let mut client = DeltaClient::new(node(), &[POLICY]);
    assert_eq!(client.want(Want::Again { type_url: POLICY, names: strings(&["p"]) }), None);
}

#[test]
fn removal_cannot_be_refused() {
    let mut client = connected(&[POLICY]);
    client.seed(POLICY, "p", "1");
    let update = take(&mut client, response(POLICY, "1", &[("q", "1")], &["p"]));
    let answer = client.ack(update, vec![rejection("p", "still needed")]);
    assert_eq!(answer.error_detail, None);
    assert!(!client.versions(POLICY).unwrap().contains_key("p"));
}

#[test]
fn refuses_resources_without_content_or_of_another_type() {
    let mut client = connected(&[POLICY]);
    let mut response = response(POLICY, "1", &[("empty", "1"), ("good", "1"), ("route", "1")], &[]);
    response.resources[0].resource = None;
    response.resources[2].resource.as_mut().unwrap().type_url = ROUTE.to_owned();
    let update = take(&mut client, response);
    assert_eq!(update.upserts.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["good"]);
    let status = client.ack(update, vec![]).error_detail.unwrap();
    assert!(status.message.starts_with("empty: has no content; route: is a "), "{}", status.message);
}

#[test]
fn is_synced_when_every_type_was_answered_in_full() {
    let mut client = connected(&[BACKEND, ROUTE]);
    let update = take(&mut client, response(ROUTE, "1", &[], &[]));
    client.ack(update, vec![]);
    assert!(!client.synced());
    let mut part = response(BACKEND, "2", &[("a", "1")], &[]);
    part.system_version_info = "partial".to_owned();
    let update = take(&mut client, part);
    assert!(!update.complete);
    client.ack(update, vec![]);
    assert!(!client.synced());
    let update = take(&mut client, response(BACKEND, "3", &[("b", "1")], &[]));
    assert!(!client.synced(), "not before it is applied");
    client.ack(update, vec![]);
    assert!(client.synced());
    client.on_connected();
    assert!(client.synced());
}

#[test]
fn seeded_versions_are_told_on_the_first_stream() {
    let mut client = DeltaClient::new(node(), &[BACKEND]);
    client.seed(BACKEND, "a", "1");
    let first = client.on_connected().remove(0);
    assert_eq!(first.initial_resource_versions, [("a".to_owned(), "1".to_owned())].into());
    assert!(!client.synced());
}

#[test]
fn type_on_demand_is_silent_until_something_is_wanted() {
    let mut client = DeltaClient::new(node(), TYPES).on_demand(BACKEND);
    assert_eq!(client.subscribe(BACKEND, strings(&["early"])), None, "no stream is open");
    client.unsubscribe(BACKEND, strings(&["early"]));
    assert_eq!(client.on_connected().len(), 2);

    let first = client.subscribe(BACKEND, strings(&["a"])).unwrap();
    assert_eq!((first.node, first.resource_names_subscribe), (None, strings(&["a"])));
    let more = client.subscribe(BACKEND, strings(&["a", "b"])).unwrap();
    assert_eq!(more.resource_names_subscribe, ["b"]);
    assert_eq!(client.subscribe(BACKEND, strings(&["a"])), None);

    let update = take(&mut client, response(BACKEND, "1", &[("a", "1"), ("b", "1"), ("c", "1")], &[]));
    assert_eq!(update.upserts.len(), 2, "c was not asked for");
    client.ack(update, vec![]);
    let less = client.unsubscribe(BACKEND, strings(&["a", "unknown"])).unwrap();
    assert_eq!(less.resource_names_unsubscribe, ["a"]);
    let again = client.on_connected().remove(0);
    assert_eq!(again.resource_names_subscribe, ["b"]);
    assert_eq!(again.initial_resource_versions, [("b".to_owned(), "1".to_owned())].into());
}

#[test]
fn first_want_of_a_stream_opens_it() {
    let mut client = DeltaClient::new(node(), &[BACKEND]).on_demand(BACKEND);
    for _ in 0..2 {
        assert_eq!(client.on_connected(), []);
        let first = client.subscribe(BACKEND, strings(&["a"])).unwrap();
        assert_eq!(first.node, Some(node()));
        client.unsubscribe(BACKEND, strings(&["a"])).unwrap();
    }
}

#[test]
fn refuses_responses_that_were_not_asked_for_or_cannot_be_answered() {
    let mut client = connected(&[BACKEND]);
    let error = client.on_response(response(ROUTE, "1", &[], &[])).unwrap_err();
    assert_eq!(error, ProtocolError::UnknownType(ROUTE.to_owned()));
    let error = client.on_response(response(BACKEND, "", &[], &[])).unwrap_err();
    assert_eq!(error, ProtocolError::MissingNonce);
}
