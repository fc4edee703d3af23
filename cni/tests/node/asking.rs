use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tidegate_cni::api::{Patience, pod};
use tidegate_cni::kubeconfig::Access;
use tidegate_cni::spec::{Code, PodName};

use crate::server::{Server, answer};

fn hurry() -> Patience {
    let (attempt, whole) = (Duration::from_secs(5), Duration::from_secs(10));
    Patience { attempt, whole, pause: Duration::from_millis(1) }
}

fn name() -> PodName {
    PodName { namespace: "shop".into(), name: "web-1".into(), uid: None }
}

fn written(access: &Access) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    fs::write(&path, access.write()).unwrap();
    (folder, path)
}

#[tokio::test]
async fn a_pod_is_asked_for_by_its_name_and_with_the_token() {
    let mut server = Server::start(vec![answer("200 OK", r#"{"kind":"Pod"}"#)]).await;
    let (_folder, path) = written(&server.access);
    assert_eq!(pod(&path, &name(), hurry()).await, Ok(json!({ "kind": "Pod" })));
    let head = server.head().await;
    assert!(head.starts_with("GET /api/v1/namespaces/shop/pods/web-1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: Bearer t-1\r\n"), "{head}");
}

#[tokio::test]
async fn a_server_of_another_authority_is_told_nothing() {
    let mut server = Server::start(vec![answer("200 OK", "{}")]).await;
    let other = Server::start(vec![String::new()]).await;
    let (_folder, path) = written(&Access { roots: other.access.roots.clone(), ..server.access.clone() });
    let patience = Patience { whole: Duration::from_millis(50), ..hurry() };
    let failure = pod(&path, &name(), patience).await.unwrap_err();
    assert_eq!(failure.code, Code::TryAgainLater);
    assert!(failure.message.contains("certificate"), "{failure}");
    assert!(server.is_left_alone(), "no request, so no token");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_the_token_of_then() {
    let answers = vec![answer("503 Busy", ""), answer("401 No", ""), answer("200 OK", "{}")];
    let mut server = Server::start(answers).await;
    let (_folder, path) = written(&server.access);
    let asked = tokio::spawn({
        let path = path.clone();
        // Long enough that the token is there before the next attempt.
        async move { pod(&path, &name(), Patience { pause: Duration::from_millis(200), ..hurry() }).await }
    });
    assert!(server.head().await.contains("Bearer t-1"));
    fs::write(&path, Access { token: "t-2".into(), ..server.access.clone() }.write()).unwrap();
    assert!(server.head().await.contains("Bearer t-2"));
    assert_eq!(asked.await.unwrap(), Ok(json!({})));
}

#[tokio::test]
async fn a_right_that_is_missing_and_a_pod_that_nobody_knows_are_told_at_once() {
    for (status, code, word) in
        [("403 No", Code::InvalidConfig, "ClusterRole"), ("404 No", Code::TryAgainLater, "does not know it")]
    {
        let mut server = Server::start(vec![answer(status, "{}")]).await;
        let (_folder, path) = written(&server.access);
        let failure = pod(&path, &name(), hurry()).await.unwrap_err();
        assert!(failure.code == code && failure.message.contains(word), "{failure}");
        assert!(!server.head().await.is_empty() && server.is_left_alone(), "asked once");
    }
}

#[tokio::test]
async fn a_server_that_is_silent_is_not_waited_for_for_ever() {
    let server = Server::start(vec![String::new()]).await;
    let (_folder, path) = written(&server.access);
    let patience = Patience {
        attempt: Duration::from_millis(20),
        whole: Duration::from_millis(100),
        pause: Duration::from_millis(1),
    };
    let failure = pod(&path, &name(), patience).await.unwrap_err();
    assert_eq!(failure.code, Code::TryAgainLater);
    assert!(failure.message.contains("must not start: no answer within"), "{failure}");
}

#[tokio::test]
async fn an_answer_without_end_and_one_that_is_no_pod_are_not_believed() {
    let endless = "HTTP/1.1 200 OK\r\n\r\n".to_owned() + &" ".repeat(5 << 20);
    for (text, why) in [(endless, "limit"), (answer("200 OK", "<html>"), "expected value")] {
        let server = Server::start(vec![text]).await;
        let (_folder, path) = written(&server.access);
        let failure =
            pod(&path, &name(), Patience { whole: Duration::from_secs(1), ..hurry() }).await.unwrap_err();
        assert!(failure.code == Code::TryAgainLater && failure.message.contains(why), "{failure}");
    }
}

#[tokio::test]
async fn without_a_kubeconfig_nothing_can_be_learnt() {
    let patience = Patience { whole: Duration::from_millis(10), ..hurry() };
    let failure = pod("/nowhere/kubeconfig".as_ref(), &name(), patience).await.unwrap_err();
    assert!(failure.message.contains("/nowhere/kubeconfig: No such file"), "{failure}");
}
