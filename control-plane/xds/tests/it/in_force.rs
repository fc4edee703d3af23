//! What a client refuses and has in force all the same, as the server sees it.

use prost::Message;
use tidegate_proto::tidegate::v1::{RejectedResource, RejectedResources};
use tidegate_xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use crate::session::nack;
use crate::support::*;

/// A NACK of what the client applied all the same.
fn nack_in_force(response: &DeltaDiscoveryResponse, name: &str) -> DeltaDiscoveryRequest {
    let mut request = nack(response, &[(name, "no")]);
    let resource = RejectedResource { name: name.to_owned(), reason: String::from("no"), in_force: true };
    let detail = request.error_detail.as_mut().unwrap();
    detail.details[0].value = RejectedResources { resources: vec![resource] }.encode_to_vec();
    request
}

#[test]
fn what_is_refused_but_in_force_is_neither_repeated_nor_forgotten() {
    let first = world(&[(POLICY, "p", "1")]);
    let mut session = settled(&first);
    session.on_world(world(&[(POLICY, "p", "2")]));
    let response = session.next_response().unwrap();
    session.on_request(nack_in_force(&response, "p")).unwrap();
    assert_eq!(session.next_response(), None, "not before something changes");
    session.on_world(first);
    assert_eq!(ack_all(&mut session), ["Policy +p@1"], "the client has version 2, not what it accepted last");

    session.on_world(world(&[(POLICY, "p", "1"), (POLICY, "q", "1")]));
    let response = session.next_response().unwrap();
    session.on_request(nack_in_force(&response, "q")).unwrap();
    session.on_world(world(&[]));
    assert_eq!(ack_all(&mut session), ["Policy -p -q"]);
}

#[test]
fn what_is_asked_for_again_is_sent_again_and_may_be_answered_otherwise() {
    let mut session = settled(&world(&[(POLICY, "p", "1"), (POLICY, "q", "1")]));
    let again = || DeltaDiscoveryRequest {
        type_url: POLICY.to_owned(),
        resource_names_subscribe: vec![String::from("p")],
        ..Default::default()
    };
    session.on_request(again()).unwrap();
    let response = session.next_response().unwrap();
    session.on_request(nack_in_force(&response, "p")).unwrap();
    assert_eq!(session.next_response(), None);
    session.on_request(again()).unwrap();
    assert_eq!(ack_all(&mut session), ["Policy +p@1"]);
    session.on_world(world(&[(POLICY, "q", "1")]));
    assert_eq!(ack_all(&mut session), ["Policy -p"]);
}
