//! Field numbers on the wire, as in Envoy's `api/envoy/service/discovery/v3/discovery.proto` and
//! `api/envoy/config/core/v3/base.proto`: a slip would go unseen between two ends of our own.

use prost::Message;
use prost_types::Any;
use tidegate_proto::google::rpc::Status;
use tidegate_xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Locality, Node, Resource};

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![(number << 3) | 2, u8::try_from(content.len()).unwrap()];
    bytes.extend(content);
    bytes
}

fn text(s: &str) -> String {
    s.to_owned()
}

#[test]
fn request_has_envoys_field_numbers() {
    let locality = Locality { region: text("r"), zone: text("z"), sub_zone: text("s") };
    let node = Node {
        id: text("i"),
        cluster: text("c"),
        locality: Some(locality),
        user_agent_name: text("n"),
        user_agent_version: text("v"),
        ..Node::default()
    };
    let status = Status { message: text("m"), details: vec![Any::default()], ..Status::default() };
    let request = DeltaDiscoveryRequest {
        node: Some(node),
        type_url: text("t"),
        resource_names_subscribe: vec![text("a")],
        resource_names_unsubscribe: vec![text("b")],
        initial_resource_versions: [(text("k"), text("v"))].into(),
        response_nonce: text("n"),
        error_detail: Some(status),
    };
    let locality = [field(1, b"r"), field(2, b"z"), field(3, b"s")].concat();
    let node = [field(1, b"i"), field(2, b"c"), field(4, &locality), field(6, b"n"), field(7, b"v")].concat();
    let version = [field(1, b"k"), field(2, b"v")].concat();
    let status = [field(2, b"m"), field(3, b"")].concat();
    let expected = [
        field(1, &node),
        field(2, b"t"),
        field(3, b"a"),
        field(4, b"b"),
        field(5, &version),
        field(6, b"n"),
        field(7, &status),
    ];
    assert_eq!(request.encode_to_vec(), expected.concat());
}

#[test]
fn response_has_envoys_field_numbers() {
    let resource = Resource {
        version: text("v"),
        resource: Some(Any { type_url: text("t"), value: vec![9] }),
        name: text("n"),
        ..Resource::default()
    };
    let response = DeltaDiscoveryResponse {
        system_version_info: text("s"),
        resources: vec![resource],
        type_url: text("t"),
        nonce: text("n"),
        removed_resources: vec![text("r")],
        control_plane: None,
    };
    let any = [field(1, b"t"), field(2, &[9])].concat();
    let resource = [field(1, b"v"), field(2, &any), field(3, b"n")].concat();
    let expected = [field(1, b"s"), field(2, &resource), field(4, b"t"), field(5, b"n"), field(6, b"r")];
    assert_eq!(response.encode_to_vec(), expected.concat());
}

#[test]
fn fields_of_a_newer_peer_are_passed_over() {
    // resource_locators_subscribe = 8, which we do not read.
    let bytes = [field(2, b"t"), field(8, &field(1, b"a"))].concat();
    assert_eq!(DeltaDiscoveryRequest::decode(bytes.as_slice()).unwrap().type_url, "t");
}
