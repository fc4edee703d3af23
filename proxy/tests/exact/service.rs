//! A rate limit service that answers by the first value of the question, over a real connection.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::model::{BackendKind, PolicyRef, ResourceName, SourceRef};
use tidegate_policy::pipeline::{Answer, Ask, AskedDescriptor, Said, ServiceLimit, ServiceRef};
use tidegate_proxy::limits::NoAnswer;
use tidegate_proxy::limits::service::Service;
use tidegate_xds::rls::{
    Code, DescriptorStatus, HeaderValue, RateLimit, RateLimitRequest, RateLimitResponse, RateLimitService,
    RateLimitServiceServer, Unit,
};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const LONG: Duration = Duration::from_secs(20);

struct Words;

#[tonic::async_trait]
impl RateLimitService for Words {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let request = request.into_inner();
        assert_eq!(request.domain, "edge");
        let header = |key: &str, value: &str| HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        };
        let code = match request.descriptors[0].entries[0].value.as_str() {
            "over" => Code::OverLimit,
            "unknown" => Code::Unknown,
            "hangs" => return std::future::pending().await,
            "fails" => return Err(Status::internal("it fails")),
            _ => Code::Ok,
        };
        let own: u32 = request.descriptors[0].hits_addend.and_then(|hits| hits.try_into().ok()).unwrap_or(0);
        let status = |remaining| DescriptorStatus {
            code: code.into(),
            current_limit: Some(RateLimit {
                requests_per_unit: 10,
                unit: Unit::Minute.into(),
                ..RateLimit::default()
            }),
            limit_remaining: remaining,
            duration_until_reset: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        };
        Ok(Response::new(RateLimitResponse {
            overall_code: code.into(),
            statuses: vec![status(9 + own), status(request.hits_addend), DescriptorStatus::default()],
            response_headers_to_add: vec![
                header("x-left", "7"),
                header("bad name", "1"),
                header("x", "a\nb"),
            ],
            request_headers_to_add: Vec::new(),
            raw_body: b"slow down".to_vec(),
        }))
    }
}

async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(RateLimitServiceServer::new(Words));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

async fn service() -> Service {
    Service::new(&serve().await.to_string()).unwrap()
}

fn descriptor(word: &str, hits: u32) -> AskedDescriptor {
    AskedDescriptor { entries: vec![("user".into(), word.to_owned())], hits }
}

fn question(word: &str) -> Ask {
    let name = ResourceName::new("shop", "limits");
    let source = SourceRef::Object { name: name.clone(), generation: 1 };
    Ask {
        policy: Arc::new(PolicyRef { kind: "RateLimitPolicy".into(), name: name.clone(), source }),
        service: Arc::new(ServiceRef { kind: BackendKind::Service, object: name, port: Some(1) }),
        domain: "edge".into(),
        descriptors: vec![descriptor(word, 5)],
        timeout: LONG,
    }
}

#[tokio::test]
async fn its_word_its_limits_and_the_headers_that_can_be_sent_are_taken() {
    let service = service().await;
    let quota = NonZeroU32::new(10).map(|requests| (requests, Duration::from_secs(60)));
    let said = |allowed, remaining| {
        let limit = ServiceLimit { quota, remaining, reset: Some(Duration::from_secs(3)) };
        Said { allowed, limit: Some(limit) }
    };
    let answer = |allowed| Answer {
        allowed,
        said: vec![said(allowed, 9), said(allowed, 5), Said { allowed: true, limit: None }],
        request_headers: Vec::new(),
        response_headers: vec![("x-left".parse().unwrap(), "7".parse().unwrap())],
        body: (&b"slow down"[..]).into(),
    };
    assert_eq!(service.ask(&question("over"), LONG).await, Ok(answer(false)));
    assert_eq!(service.ask(&question("ann"), LONG).await, Ok(answer(true)));
    assert_eq!(service.counted().answered, 2);
}

#[tokio::test]
async fn of_limits_that_cost_differently_each_says_so_and_the_largest_stands_for_all() {
    let service = service().await;
    let mut several = question("ann");
    several.descriptors.push(descriptor("bob", 8));
    let answer = service.ask(&several, LONG).await.unwrap();
    assert_eq!(answer.said[1].limit.unwrap().remaining, 8);
    assert_eq!(answer.said[0].limit.unwrap().remaining, 9 + 5, "of the first descriptor by itself");
}

#[tokio::test]
async fn no_word_an_error_and_silence_are_no_answer() {
    let service = service().await;
    assert_eq!(service.ask(&question("unknown"), LONG).await, Err(NoAnswer::Failed));
    assert_eq!(service.ask(&question("fails"), LONG).await, Err(NoAnswer::Failed));
    let silence = service.ask(&question("hangs"), Duration::from_millis(20)).await;
    assert_eq!(silence, Err(NoAnswer::TimedOut));
    assert!(service.ask(&question("ann"), LONG).await.is_ok(), "the connection is still good");
}

#[tokio::test]
async fn one_that_is_not_there_is_asked_a_few_times_and_then_no_more() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let service = Service::new(&closed.to_string()).unwrap();
    while !service.is_open() {
        assert_eq!(service.ask(&question("ann"), LONG).await, Err(NoAnswer::Unreachable));
    }
    assert_eq!(service.counted().asked, 5);
    assert_eq!(service.ask(&question("ann"), LONG).await, Err(NoAnswer::Open));
}

#[tokio::test]
async fn one_that_was_given_up_is_asked_over_a_new_connection() {
    let (listener, server) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), serve().await);
    let service = Service::new(&listener.local_addr().unwrap().to_string()).unwrap();
    tokio::spawn(async move {
        let _leads_nowhere = listener.accept().await.unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut upstream = TcpStream::connect(server).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut upstream).await });
        }
    });
    while !service.is_open() {
        assert!(service.ask(&question("ann"), Duration::from_millis(1)).await.is_err());
    }
    while service.ask(&question("ann"), Duration::from_secs(1)).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_address_without_a_port_is_refused() {
    for address in ["", "limits", "http://limits:1", "a b:1"] {
        assert!(Service::new(address).is_err(), "{address}");
    }
}
