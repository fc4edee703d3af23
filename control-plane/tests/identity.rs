//! Certificates from a running control plane: who gets which, and files that change under way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tidegate_control_plane::identity::{CaDirectory, MaterialStore as _};
use tidegate_control_plane::{
    ControlPlaneArgs, ControllerArgs, IdentityArgs, QuotaArgs, Running, StartError, start,
};
use tidegate_identity::dial::ByTls;
use tidegate_identity::request::KeyRequest;
use tidegate_identity::tls::FixedRoots;
use tidegate_identity::token::NewToken;
use tidegate_identity::{Credentials, Held, TrustDomain};
use tidegate_xds::ca::{IstioCertificateRequest, IstioCertificateServiceClient};
use tidegate_xds::client::grpc;
use tonic::{Code, Request, Status};

/// Only ends a test that would never end by itself.
const PATIENCE: Duration = Duration::from_secs(30);

struct Plane {
    directory: TempDir,
    running: Running,
}

fn domain() -> TrustDomain {
    TrustDomain::DEFAULT.parse().unwrap()
}

fn args(directory: &TempDir) -> ControlPlaneArgs {
    let policies = directory.path().join("policies");
    fs::create_dir_all(&policies).unwrap();
    let tokens = directory.path().join("tokens");
    if !tokens.exists() {
        fs::write(&tokens, "").unwrap();
    }
    let (ca_dir, join_tokens) = (Some(directory.path().join("ca")), Some(tokens));
    ControlPlaneArgs {
        policies: Some(policies),
        listen: "127.0.0.1:0".parse().unwrap(),
        admin: "127.0.0.1:0".parse().unwrap(),
        classes: ControllerArgs::default(),
        status_file: None,
        quota: QuotaArgs::default(),
        identity: IdentityArgs { ca_dir, join_tokens, ..IdentityArgs::default() },
        is_first: true,
    }
}

impl Plane {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let running = start(&args(&directory)).await.unwrap();
        Self { directory, running }
    }

    /// A token that is in the file now.
    fn token(&self, account: &str, lasts: Option<Duration>) -> String {
        let made = NewToken::new("shop", account, lasts, SystemTime::now()).unwrap();
        let path = self.directory.path().join("tokens");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{before}{}\n", made.line)).unwrap();
        made.token
    }

    /// Asks as `held`, by TLS if it is to; what comes is held from then on.
    async fn ask(&self, token: Option<&str>, held: &Arc<Held>, by_tls: bool) -> Result<Answer, Status> {
        let mut dial = grpc::endpoint(format!("http://{}", self.running.grpc)).unwrap();
        if by_tls {
            let pem = fs::read(self.directory.path().join("ca/trust-bundle.pem")).unwrap();
            let by_tls = ByTls::new(held, Some(FixedRoots::read(&pem).unwrap()));
            dial = dial.secured(Arc::new(by_tls)).unwrap();
        }
        let key = KeyRequest::new().unwrap();
        let mut request =
            Request::new(IstioCertificateRequest { csr: key.csr.clone(), ..Default::default() });
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let channel = dial.connect().await.unwrap();
        let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
        let answer = answer.into_inner();
        let read = Credentials::read(&answer.cert_chain, &answer.trust_bundle, key.key(), held).unwrap();
        let (id, roots) = (read.id.to_string(), read.roots());
        held.replace(read);
        Ok(Answer { id, roots, root: answer.cert_chain.last().cloned().unwrap() })
    }
}

struct Answer {
    id: String,
    roots: usize,
    root: String,
}

fn nobody() -> Arc<Held> {
    Arc::new(Held::new(domain()))
}

#[tokio::test]
async fn a_token_is_its_service_account_in_clear_on_this_machine_and_by_tls() {
    let plane = Plane::start().await;
    let (cart, pay) = (plane.token("cart", None), plane.token("pay", None));
    for by_tls in [false, true] {
        for (token, account) in [(&cart, "cart"), (&pay, "pay")] {
            let answer = plane.ask(Some(token), &nobody(), by_tls).await.unwrap();
            assert_eq!(answer.id, format!("spiffe://cluster.local/ns/shop/sa/{account}"), "{by_tls}");
        }
    }
}

#[tokio::test]
async fn without_a_token_that_holds_nobody_is_anybody() {
    let plane = Plane::start().await;
    let over = plane.token("cart", Some(Duration::ZERO));
    for token in [None, Some("guess"), Some(""), Some(&*over)] {
        let refused = plane.ask(token, &nobody(), true).await.err().map(|status| status.code());
        assert_eq!(refused, Some(Code::Unauthenticated), "{token:?}");
    }
}

#[tokio::test]
async fn a_workload_that_has_joined_renews_by_its_certificate_when_its_token_is_over() {
    let plane = Plane::start().await;
    let (joined, over) = (plane.token("cart", None), plane.token("pay", Some(Duration::ZERO)));
    let held = nobody();
    plane.ask(Some(&joined), &held, true).await.unwrap();
    for token in [None, Some(&*over)] {
        let renewed = plane.ask(token, &held, true).await.unwrap();
        assert_eq!(
            renewed.id, "spiffe://cluster.local/ns/shop/sa/cart",
            "by its certificate, not by the token"
        );
    }
    // A token that was taken back is another matter, and so is a plain connection.
    assert!(plane.ask(Some("taken back"), &held, true).await.is_err());
    assert!(plane.ask(None, &held, false).await.is_err());
}

#[tokio::test]
async fn files_that_change_under_way_are_followed_and_bad_ones_change_nothing() {
    let plane = Plane::start().await;
    let token = plane.token("cart", None);
    let first = plane.ask(Some(&token), &nobody(), true).await.unwrap();
    assert_eq!(first.roots, 1);
    let store = CaDirectory::new(plane.directory.path().join("ca"));
    let material = store.load().unwrap();
    let rotated = material.rotate(&domain(), SystemTime::now(), Duration::from_secs(3_600)).unwrap();
    store.save(&rotated).unwrap();
    let followed = async {
        loop {
            let answer = plane.ask(Some(&token), &nobody(), true).await.unwrap();
            if answer.roots == 2 {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let followed = tokio::time::timeout(PATIENCE, followed).await.unwrap();
    assert_eq!(followed.root, first.root, "the new root is only trusted yet");
    fs::write(plane.directory.path().join("ca/ca-key.pem"), "nothing").unwrap();
    fs::write(plane.directory.path().join("tokens"), "nothing\n").unwrap();
    let still = plane.ask(Some(&token), &nobody(), true).await.unwrap();
    assert_eq!((still.roots, still.id), (2, followed.id));
}

#[tokio::test]
async fn an_authority_is_kept_over_a_restart_and_one_that_cannot_be_used_is_no_start() {
    let Plane { directory, running } = Plane::start().await;
    let before = CaDirectory::new(directory.path().join("ca")).load().unwrap();
    running.shutdown().await;
    start(&args(&directory)).await.unwrap().shutdown().await;
    assert_eq!(CaDirectory::new(directory.path().join("ca")).load().unwrap(), before);
    fs::write(directory.path().join("ca/ca-key.pem"), "nothing").unwrap();
    let error = start(&args(&directory)).await.unwrap_err();
    assert!(matches!(error, StartError::Identity(_)) && error.to_string().contains("ca-key.pem"), "{error}");
    assert!(!error.to_string().contains("nothing"));
}
