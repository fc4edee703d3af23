//! Copies for mirrors: they arrive whole, and the request that they were taken from never notices.

use crate::mesh;
use crate::mesh::{Gateway, backend_name, get, listener, post, route, service_at};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use tidegate_policy::model::*;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::client::Client;

/// A gateway to `primary` with a mirror on its rule, and one on its backendRef.
async fn gateway(primary: &FaultBackend, mirrors: [(&FaultBackend, Share); 2]) -> Gateway {
    let mut gateway = Gateway::start();
    let mut route = route("v1");
    let filter = |service, share| vec![RouteFilter::Mirror(Mirror { backend: backend_name(service), share })];
    route.rules[0].filters = filter("m1", mirrors[0].1);
    route.rules[0].backends[0].filters = filter("m2", mirrors[1].1);
    let mut all = vec![Resource::Listener(listener(mesh::PORT))];
    for (name, backend) in [("v1", primary), ("m1", mirrors[0].0), ("m2", mirrors[1].0)] {
        all.extend(service_at(name, AppProtocol::Http1, &[backend.address()]));
    }
    all.push(Resource::Route(route));
    gateway.apply(all);
    gateway.address().await;
    gateway
}

/// Waits until so many copies have ended in this way.
async fn counted(gateway: &Gateway, result: &str, count: u64) {
    let wanted = format!("tidegate_mirror_total{{result=\"{result}\"}} {count}\n");
    let admin: Uri = format!("http://{}/metrics", gateway.running.admin()).parse().unwrap();
    let waited = async {
        loop {
            let mut client = Client::http1(gateway.running.admin()).await;
            let answer = client.get(admin.path()).await;
            if String::from_utf8_lossy(&answer.body).contains(&wanted) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), waited).await.expect(&wanted);
}

#[tokio::test]
async fn every_mirror_gets_the_whole_request_and_its_answer_is_ignored() {
    let (primary, one, two) =
        (FaultBackend::start().await, FaultBackend::start().await, FaultBackend::start().await);
    primary.always(Script::Echo);
    one.always(Reply::status(500).into());
    two.always(Script::Echo);
    let gateway = gateway(&primary, [(&one, Share::ALL), (&two, Share::ALL)]).await;
    let mut client = Client::http1(gateway.address().await).await;
    for copies in [2, 4] {
        let answer = client.call(post("/a?b", "body")).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"body"[..]));
        counted(&gateway, "answered", copies).await;
    }
    for mirror in [&one, &two] {
        let seen = mirror.until(|c| c.requests == 2).await;
        assert_eq!(seen.connections, 1, "a drained answer gives its connection back");
        let head = &mirror.seen()[0];
        assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("POST", "/a?b"));
        assert_eq!(
            (&head.headers["host"], &head.headers["content-length"]),
            (&"test".parse().unwrap(), &"4".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn a_mirror_that_hangs_or_breaks_changes_nothing_for_the_client() {
    let (primary, hangs, breaks) =
        (FaultBackend::start().await, FaultBackend::start().await, FaultBackend::start().await);
    primary.always(Reply::text("primary").into());
    hangs.always(Script::Hang);
    breaks.always(Script::Reset);
    let gateway = gateway(&primary, [(&hangs, Share::ALL), (&breaks, Share::ALL)]).await;
    let mut client = Client::http1(gateway.address().await).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.body, "primary");
    }
    hangs.until(|c| c.requests == 20).await;
    counted(&gateway, "failed", 20).await;
}

#[tokio::test]
async fn a_body_beyond_the_bound_reaches_its_backend_and_no_mirror() {
    let (primary, one, two) =
        (FaultBackend::start().await, FaultBackend::start().await, FaultBackend::start().await);
    primary.always(Script::Echo);
    let gateway = gateway(&primary, [(&one, Share::ALL), (&two, Share::ALL)]).await;
    let body = Bytes::from(vec![7; 64 * 1024 + 1]);
    let request = Request::post("/").body(Full::new(body.clone()).map_err(|e| match e {}).boxed_unsync());
    let answer = Client::http1(gateway.address().await).await.call(request.unwrap()).await;
    assert!(answer.body == body);
    counted(&gateway, "too_large", 2).await;
    assert_eq!((one.counts().requests, two.counts().requests), (0, 0));
}

#[tokio::test]
async fn a_mirror_gets_its_share_and_not_more() {
    let (primary, some, none) =
        (FaultBackend::start().await, FaultBackend::start().await, FaultBackend::start().await);
    let shares = [(&some, Share::new(50, 100).unwrap()), (&none, Share::new(0, 100).unwrap())];
    let gateway = gateway(&primary, shares).await;
    let mut client = Client::http1(gateway.address().await).await;
    for _ in 0..500 {
        client.call(get("/")).await;
    }
    // Three standard deviations of 500 draws at one half are 33.5; this allows six.
    let counts = some.until(|c| c.requests >= 183).await;
    assert!(counts.requests <= 317, "{counts:?}");
    assert_eq!((primary.counts().requests, none.counts().requests), (500, 0));
}

#[tokio::test]
async fn a_request_that_is_retried_is_mirrored_once() {
    let (primary, one, two) =
        (FaultBackend::start().await, FaultBackend::start().await, FaultBackend::start().await);
    let mut gateway = gateway(&primary, [(&one, Share::ALL), (&two, Share::ALL)]).await;
    let mut again = route("v1");
    let mirror = Mirror { backend: backend_name("m1"), share: Share::ALL };
    again.rules[0].filters = vec![RouteFilter::Mirror(mirror)];
    let backoff = Some(std::time::Duration::ZERO);
    again.rules[0].retry = Some(Retry { codes: [503].into(), attempts: 2, backoff });
    gateway.apply(vec![Resource::Route(again)]);
    primary.push(Script::Reply(Reply::status(503))).push(Script::Reply(Reply::status(503)));
    let mut client = Client::http1(gateway.address().await).await;
    assert_eq!(client.call(post("/", "body")).await.status, 200);
    assert_eq!(primary.counts().requests, 3);
    counted(&gateway, "answered", 1).await;
    assert_eq!(one.counts().requests, 1);
    assert!(
        !one.seen()[0].headers.contains_key("x-tidegate-attempt"),
        "it is a copy of what the client sent"
    );
}
