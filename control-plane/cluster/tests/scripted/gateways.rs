use serde_json::json;

use crate::api::Api;
use crate::objects::{cluster, gateway};
use crate::support::{flags, plane};

#[tokio::test]
async fn a_gateway_gets_what_runs_it_and_tells_the_addresses_of_its_service() {
    let api = Api::start(cluster()).await;
    let edge = api.put(gateway(None));
    let mut flags = flags();
    flags.gateway_image = Some(String::from("tidegate-proxy:1"));
    let plane = plane(&api, &flags).await;
    let name = "edge-tidegate";
    let deployment = api.until_object(("Deployment", "shop", name), |_| true).await;
    assert_eq!(deployment["metadata"]["ownerReferences"][0]["uid"], edge["metadata"]["uid"]);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "tidegate-proxy:1");
    api.until_object(("Service", "shop", name), |_| true).await;
    api.put_status(
        "Service",
        "shop",
        name,
        json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.7" }] } }),
    );
    let is_told = |o: &serde_json::Value| o["status"]["addresses"][0]["value"] == "192.0.2.7";
    let told = api.until_object(("Gateway", "shop", "edge"), is_told).await;
    assert_eq!(told["status"]["addresses"], json!([{ "type": "IPAddress", "value": "192.0.2.7" }]));
    let applied = api.requests(|r| r.method == "PATCH" && r.path.ends_with(&format!("/deployments/{name}")));
    assert_eq!(applied.len(), 1, "and is not applied again without a cause");
    plane.shutdown().await;
}
