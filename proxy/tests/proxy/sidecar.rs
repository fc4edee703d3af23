//! The outbound side of a sidecar: where a connection wanted to go decides, and not what it says of itself.

use crate::mesh::{backend_name, get};
use crate::outbound::{CART, CLIENT, PAY, Sidecar, mesh_route, service, to};
use http::Request;
use tidegate_policy::model::{Redirect, Resource, RouteFilter, RouteParent};
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::{Client, RawClient};
use tidegate_testkit::proxy_header::{v1, v2_raw};

async fn named(name: &'static str) -> FaultBackend {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text(name).into());
    backend
}

#[tokio::test]
async fn the_address_picks_the_service_whatever_the_host_says() {
    let (cart, pay) = (named("cart").await, named("pay").await);
    let mut sidecar = Sidecar::start();
    sidecar.apply(service("cart", CART, &[cart.address()]));
    sidecar.apply(service("pay", PAY, &[pay.address()]));
    for host in ["cart", "pay", "nobody.example:99"] {
        assert_eq!(sidecar.get(CART, host, "/").await.body, "cart", "{host}");
        assert_eq!(sidecar.get(PAY, host, "/").await.body, "pay", "{host}");
    }
    assert_eq!(cart.seen()[2].headers["host"], "nobody.example:99", "the Host is passed on as it came");
    assert_eq!(cart.seen()[0].headers["x-forwarded-for"], "192.0.2.9", "the client is the one of the header");
}

#[tokio::test]
async fn routes_of_a_service_replace_its_direct_way_and_can_lead_elsewhere() {
    let (cart, pay) = (named("cart").await, named("pay").await);
    let mut sidecar = Sidecar::start();
    sidecar.apply(service("cart", CART, &[cart.address()]));
    sidecar.apply(service("pay", PAY, &[pay.address()]));
    sidecar.apply(vec![mesh_route("cart", "/to-pay", "pay")]);
    assert_eq!(sidecar.get(CART, "cart", "/to-pay").await.body, "pay");
    let refused = sidecar.get(CART, "cart", "/other").await;
    assert_eq!((refused.status.as_u16(), refused.reason()), (404, Some("no_route")));
    // Only the first level: what the route picked is reached past its own routes.
    assert_eq!(sidecar.get(PAY, "cart", "/to-pay").await.body, "pay");
    sidecar.apply(vec![mesh_route("pay", "/never", "cart")]);
    assert_eq!(sidecar.get(PAY, "pay", "/other").await.status, 404);
    sidecar.apply(vec![mesh_route("cart", "/to-pay", "pay")]);
    assert_eq!(sidecar.get(CART, "cart", "/to-pay").await.body, "pay");
}

#[tokio::test]
async fn an_address_that_is_no_services_is_reached_itself_untouched_by_routes() {
    let (cart, pod) = (named("cart").await, named("pod").await);
    let mut sidecar = Sidecar::start();
    sidecar.apply(service("cart", CART, &[cart.address()]));
    sidecar.apply(vec![mesh_route("cart", "/only", "cart")]);
    let pod_address = pod.address().to_string();
    let mut client = sidecar.http1(&pod_address).await;
    // Signatures over the path must hold there.
    let path = "/any//%7eb/../x%2fy";
    for _ in 0..3 {
        let request = Request::get(path).header("host", "cart").body(empty()).unwrap();
        assert_eq!(client.call(request).await.body, "pod");
    }
    assert_eq!(pod.seen()[0].uri.path(), path);
    assert_eq!(pod.counts().connections, 1, "one connection serves the client's");
    let mut http2 = Client::http2_after(&to(&pod_address), sidecar.address()).await;
    assert_eq!(http2.get("/").await.body, "pod");
    assert_eq!(pod.seen()[3].version, http::Version::HTTP_2, "and speaks what the client speaks");
    let counted = sidecar.metrics("tidegate_requests_total");
    assert!(counted.contains("backend=\"passthrough\""), "{counted}");
}

#[tokio::test]
async fn where_nobody_answers_at_the_original_destination_the_client_is_told_so() {
    let sidecar = Sidecar::start();
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let answer = sidecar.get(&nobody.to_string(), "nobody", "/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("connect_failed")));
}

#[tokio::test]
async fn a_service_that_comes_later_takes_its_address_over_on_open_connections() {
    let (cart, pod) = (named("cart").await, named("pod").await);
    let mut sidecar = Sidecar::start();
    let address = pod.address();
    let mut client = sidecar.http1(&address.to_string()).await;
    assert_eq!(client.get("/").await.body, "pod");
    let mut cart = service("cart", &address.to_string(), &[cart.address()]);
    for resource in &mut cart {
        match resource {
            Resource::Backend(backend) => backend.name.port = address.port(),
            Resource::Endpoints(endpoints) => endpoints.backend.port = address.port(),
            _ => {}
        }
    }
    sidecar.apply(cart);
    assert_eq!(client.get("/").await.body, "cart");
}

#[tokio::test]
async fn version_1_names_the_destination_too() {
    let cart = named("cart").await;
    let mut sidecar = Sidecar::start();
    sidecar.apply(service("cart", CART, &[cart.address()]));
    let header = v1(CLIENT.parse().unwrap(), CART.parse().unwrap());
    let mut client = Client::http1_after(&header, sidecar.address()).await;
    assert_eq!(client.get("/").await.body, "cart");
}

#[tokio::test]
async fn a_sender_that_speaks_for_itself_is_routed_by_its_host() {
    let cart = named("cart").await;
    let mut sidecar = Sidecar::start();
    sidecar.apply(service("cart", CART, &[cart.address()]));
    let mut client = Client::http1_after(&v2_raw(0x20, 0, b""), sidecar.address()).await;
    let request = Request::get("/").header("host", "cart").body(empty()).unwrap();
    assert_eq!(client.call(request).await.body, "cart");
    assert_eq!(client.call(get("/")).await.status, 404, "nobody is called `test`");
}

#[tokio::test]
async fn without_a_header_or_with_a_broken_one_the_connection_is_closed_and_counted() {
    let sidecar = Sidecar::start();
    for bytes in [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), v2_raw(0x2f, 0x11, &[0; 12])] {
        let mut client = RawClient::connect(sidecar.address()).await;
        client.write(bytes).await;
        assert_eq!(client.read_to_end().await, "");
    }
    let counted = sidecar.metrics("tidegate_connections_refused_total{result=\"proxy_header\"}");
    assert!(counted.ends_with(" 2"), "{counted}");
}

#[tokio::test]
async fn a_destination_that_leads_back_to_the_proxy_is_refused() {
    let sidecar = Sidecar::start();
    let own = sidecar.address();
    for destination in [own.to_string(), format!("0.0.0.0:{}", own.port())] {
        let mut client = RawClient::connect(own).await;
        client.write(to(&destination)).await;
        assert_eq!(client.read_to_end().await, "");
    }
    let counted = sidecar.metrics("tidegate_connections_refused_total{result=\"loop\"}");
    assert!(counted.ends_with(" 2"), "{counted}");
}

#[tokio::test]
async fn a_connection_that_was_not_redirected_is_routed_by_its_host() {
    let cart = named("cart").await;
    let mut sidecar = Sidecar::with(|_| {});
    sidecar.apply(service("cart", CART, &[cart.address()]));
    let mut client = Client::http1(sidecar.address()).await;
    let request = Request::get("/").header("host", "cart").body(empty()).unwrap();
    assert_eq!(client.call(request).await.body, "cart");
}

#[tokio::test]
async fn a_redirect_without_a_port_names_the_services() {
    let mut sidecar = Sidecar::start();
    let mut all = service("cart", CART, &[]);
    let mut route = mesh_route("cart", "/a", "cart");
    if let Resource::Route(route) = &mut route {
        let redirect = Redirect {
            scheme: None,
            hostname: Some("shop.example".into()),
            path: None,
            port: None,
            status: http::StatusCode::FOUND,
        };
        route.rules[0].filters.push(RouteFilter::Redirect(redirect));
        let cart = backend_name("cart").object;
        route.parents = vec![RouteParent::Service { service: cart, port: Some(8080) }];
    }
    for resource in &mut all {
        match resource {
            Resource::Backend(backend) => backend.name.port = 8080,
            Resource::Endpoints(endpoints) => endpoints.backend.port = 8080,
            _ => {}
        }
    }
    all.push(route);
    sidecar.apply(all);
    let destination = CART.replace(":80", ":8080");
    let answer = sidecar.get(&destination, "anybody.example:1", "/a").await;
    assert_eq!(answer.headers["location"], "http://shop.example:8080/a");
}
