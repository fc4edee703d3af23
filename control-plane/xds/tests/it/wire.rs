//! Field numbers on the wire, as in Envoy's `api/envoy/service/discovery/v3/discovery.proto`,
//! `api/envoy/config/core/v3/base.proto` and `api/envoy/service/rate_limit_quota/v3/rlqs.proto`: a slip would go unseen
//! between two ends of our own.

use std::time::Duration;

use prost::Message;
use prost_types::Any;
use tidegate_proto::google::rpc::Status;
use tidegate_quota::{Assignment, BucketId, Rate, Share, Terms, Tokens, Version};
use tidegate_xds::quota::{Names, RateLimitQuotaUsageReports, abandon, domain, envoy_response, reports};
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

#[test]
fn a_usage_report_of_an_envoy_is_read_by_rlqs_field_numbers() {
    let names = field(1, &[field(1, b"k"), field(2, b"v")].concat());
    // time_elapsed: 5 s; 3 allowed, 4 denied.
    let usage = [field(1, &names), field(2, &[8, 5]), vec![24, 3, 32, 4]].concat();
    let bytes = [field(1, b"edge"), field(2, &usage), field(2, &usage)].concat();
    let message = RateLimitQuotaUsageReports::decode(bytes.as_slice()).unwrap();
    assert_eq!(domain(&message), Some("edge"));
    let [(names, report), _] = reports(&message, "edge", 1, Duration::ZERO).try_into().unwrap();
    assert_eq!(names, [(text("k"), text("v"))].into());
    let usage = report.usage;
    assert_eq!((usage.allowed, usage.denied, usage.elapsed), (3, 4, Duration::from_secs(5)));
}

#[test]
fn what_an_envoy_is_assigned_has_rlqs_field_numbers() {
    let assignment = Assignment {
        client: 1,
        bucket: BucketId([0; 16]),
        version: Version { epoch: 0, number: 1 },
        share: Share::WHOLE,
        terms: Terms { ttl: Duration::from_secs(2), reuse: Duration::from_secs(1) },
        tokens: Tokens::NONE,
        stamp: Duration::ZERO,
        renews: false,
    };
    let names: Names = [(text("k"), text("v"))].into();
    let rate = Rate { requests: 100_000, per: Duration::from_secs(1), burst: 7 };
    let response = envoy_response(&[(names.clone(), assignment, rate)], Duration::ZERO);
    let bucket = field(1, &field(1, &[field(1, b"k"), field(2, b"v")].concat()));
    // A million tokens in ten seconds and a nanosecond, at most seven.
    let interval = field(3, &[8, 10, 16, 1]);
    let tokens = [vec![8, 7], field(2, &[8, 0xc0, 0x84, 0x3d]), interval].concat();
    let assigned = [field(2, &[8, 3]), field(3, &field(3, &tokens))].concat();
    assert_eq!(response.encode_to_vec(), field(1, &[bucket.clone(), field(2, &assigned)].concat()));
    assert_eq!(abandon([&names]).encode_to_vec(), field(1, &[bucket, field(3, b"")].concat()));
}
