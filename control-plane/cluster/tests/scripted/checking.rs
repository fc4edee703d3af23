use tidegate_cluster::check::{Place, Verdict, check};

use crate::api::Api;
use crate::objects::cluster;
use crate::support::{flags, plane};

async fn findings(api: &Api) -> Vec<String> {
    let place = Place {
        namespace: String::from("mesh"),
        service: String::from("tidegate"),
        lease: String::from("tidegate-leader"),
        webhook_configuration: String::from("tidegate"),
    };
    let found = check(&api.client(), &place).await.into_iter();
    let mark = |verdict| match verdict {
        Verdict::Well => "ok",
        Verdict::Lacking => "--",
        Verdict::Broken => "!!",
    };
    found.map(|finding| format!("{} {}", mark(finding.verdict), finding.what)).collect()
}

#[tokio::test]
async fn what_a_cluster_lacks_is_told_with_what_would_help() {
    let mut kinds = cluster();
    kinds.retain(|kind| kind.kind != "HTTPRoute");
    let api = Api::start(kinds).await;
    let found = findings(&api).await.join("\n");
    for expected in [
        "ok the API answers: Kubernetes v1.36.0",
        "!! the Gateway API is missing (ListenerSet, HTTPRoute,",
        "!! CRDs of tidegate.io are missing: Backend, CircuitBreakerPolicy,",
        "-- webhook tidegate: not installed",
        "!! there is no Lease mesh/tidegate-leader",
        "!! Service mesh/tidegate does not answer",
    ] {
        assert!(found.contains(expected), "{expected} is not in\n{found}");
    }
}

#[tokio::test]
async fn who_leads_is_told_and_an_api_that_is_away() {
    let api = Api::start(cluster()).await;
    let mut plane = plane(&api, &flags()).await;
    plane.leads.wait_for(|leads| *leads).await.unwrap();
    let found = findings(&api).await.join("\n");
    assert!(found.contains(" leads, as of 20") && found.contains("-- the Gateway API is there"), "{found}");
    api.go_away();
    let found = findings(&api).await;
    assert!(found.len() == 1 && found[0].starts_with("!! the API does not answer: "), "{found:?}");
    plane.shutdown().await;
}
