//! A control plane that is asked as a rate limit service.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tidegate_control_plane::{ControlPlaneArgs, ControllerArgs, IdentityArgs, QuotaArgs, start};
use tidegate_xds::rls::{
    Code, Entry, RateLimitDescriptor, RateLimitRequest, RateLimitResponse, RateLimitServiceClient,
};
use tonic::transport::Channel;

const POLICY: &str = "\
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: edge}
spec:
  domain: edge
  limits:
  - name: per-user
    requests: 3
    per: 1h
    key: [{type: Descriptor, name: user}]
";
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn ask(client: &mut RateLimitServiceClient<Channel>, user: &str, hits: u32) -> RateLimitResponse {
    let entries = vec![Entry { key: String::from("user"), value: user.to_owned() }];
    let descriptors = vec![RateLimitDescriptor { entries, hits_addend: None }];
    let request = RateLimitRequest { domain: String::from("edge"), descriptors, hits_addend: hits };
    client.should_rate_limit(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn each_user_has_the_written_budget_and_is_told_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("edge.yaml"), POLICY).unwrap();
    let args = ControlPlaneArgs {
        identity: IdentityArgs::default(),
        policies: Some(directory.path().to_owned()),
        listen: ANY,
        admin: ANY,
        classes: ControllerArgs::default(),
        status_file: None,
        quota: QuotaArgs::default(),
        is_first: true,
    };
    let running = start(&args).await.unwrap();
    let mut client = RateLimitServiceClient::connect(format!("http://{}", running.grpc)).await.unwrap();
    let first = ask(&mut client, "ann", 0).await;
    assert_eq!(first.overall_code(), Code::Ok);
    assert_eq!(first.statuses[0].limit_remaining, 2);
    assert_eq!(first.statuses[0].current_limit.as_ref().unwrap().name, "per-user");
    assert_eq!(ask(&mut client, "ann", 2).await.overall_code(), Code::Ok);
    let refused = ask(&mut client, "ann", 1).await;
    assert_eq!(refused.overall_code(), Code::OverLimit);
    assert_eq!(refused.response_headers_to_add[0].key, "retry-after");
    assert_eq!(ask(&mut client, "bob", 1).await.overall_code(), Code::Ok);
    running.shutdown().await;
}
