use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value as Json, json};

use crate::server::{Server, answer};

const PREVIOUS: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"10.1.0.5/16","interface":0}],"dns":{}}"#;

/// Calls the binary as a runtime does.
fn call(command: &str, stdin: &str, changes: &[(&str, &str)]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate-cni"))
        .env_clear()
        .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")])
        .envs([("CNI_NETNS", "/nowhere/netns"), ("CNI_PATH", "/opt/cni/bin")])
        .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1")
        .envs(changes.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn conf(kubeconfig: &str) -> String {
    let previous: Json = serde_json::from_str(PREVIOUS).unwrap();
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "tidegate-cni", "kubeconfig": kubeconfig,
        "excludeNamespaces": ["kube-system"], "prevResult": previous,
    })
    .to_string()
}

fn said(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn failed(output: &Output) -> (u64, String) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = said(output);
    assert!(said["cniVersion"].is_string(), "{said}");
    (said["code"].as_u64().unwrap(), said["msg"].as_str().unwrap().to_owned())
}

fn passed_on(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said(output), serde_json::from_str::<Json>(PREVIOUS).unwrap());
}

/// What the plugin answers when the API server shows it this pod.
async fn added(pod: &Json) -> Output {
    let server = Server::start(vec![answer("200 OK", &pod.to_string())]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, server.access.write()).unwrap();
    let conf = conf(path.to_str().unwrap());
    tokio::task::spawn_blocking(move || call("ADD", &conf, &[])).await.unwrap()
}

#[test]
fn it_tells_its_versions_and_what_it_cannot_read() {
    let output = call("VERSION", r#"{"cniVersion":"0.4.0"}"#, &[]);
    assert!(output.status.success());
    assert_eq!(
        said(&output),
        json!({ "cniVersion": "0.4.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] })
    );
    assert_eq!(failed(&call("ADD", "{", &[])).0, 6);
    assert_eq!(failed(&call("ADD", &conf("/k").replace("1.1.0", "3.0.0"), &[])).0, 1);
    assert_eq!(failed(&call("MAKE", &conf("/k"), &[])).0, 4);
    assert_eq!(failed(&call("ADD", r#"{"cniVersion":"1.0.0"}"#, &[])).0, 7);
    let (code, told) = failed(&call("ADD", &" ".repeat((1 << 20) + 1), &[]));
    assert!(code == 5 && told.contains("more than 1048576 bytes"), "{told}");
}

#[test]
fn sandboxes_that_are_none_of_its_business_pass_without_a_question() {
    // There is no kubeconfig to ask by.
    let system = "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns-1";
    for args in [system, "", "FOO=BAR"] {
        passed_on(&call("ADD", &conf("/nowhere"), &[("CNI_ARGS", args)]));
        let checked = call("CHECK", &conf("/nowhere"), &[("CNI_ARGS", args)]);
        assert!(checked.status.success() && checked.stdout.is_empty(), "{checked:?}");
    }
}

#[test]
fn what_is_gone_is_deleted_without_a_question() {
    for netns in ["/nowhere/netns", ""] {
        let output = call("DEL", &conf("/nowhere"), &[("CNI_NETNS", netns)]);
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
    let collected = call("GC", &conf("/nowhere"), &[]);
    assert!(collected.status.success() && collected.stdout.is_empty(), "{collected:?}");
}

#[test]
fn one_that_could_not_ask_for_a_pod_says_so_before_there_is_any() {
    let (code, told) = failed(&call("STATUS", &conf("/nowhere/kubeconfig"), &[]));
    assert!(code == 50 && told.contains("/nowhere/kubeconfig"), "{told}");
    let without = r#"{"cniVersion":"1.1.0","name":"net"}"#;
    assert_eq!(failed(&call("STATUS", without, &[])).0, 7);
}

#[tokio::test]
async fn a_pod_without_a_sidecar_passes_untouched_and_one_with_is_never_let_go_without_its_rules() {
    passed_on(&added(&json!({ "spec": { "containers": [{ "name": "app" }] } })).await);
    let mut meshed = json!({
        "metadata": {
            "labels": { "tidegate.io/injected": "true" },
            "annotations": { "tidegate.io/redirect": r#"{"uid":15001,"outboundPort":15001}"# },
        },
        "spec": { "containers": [{ "name": "tidegate-proxy", "securityContext": { "runAsUser": 15001 } }] },
    });
    let (code, told) = failed(&added(&meshed).await);
    assert!(code == 4 && told.contains("CNI_NETNS /nowhere/netns: there is none"), "{told}");
    meshed["metadata"]["annotations"] = json!({});
    let (code, told) = failed(&added(&meshed).await);
    assert!(
        code == 102 && told.contains("pod shop/web-1: annotation tidegate.io/redirect: missing"),
        "{told}"
    );
}
