//! A rate limit service that answers by the first value of the question, over a real connection.

use std::time::Duration;

use tidegate_proxy::limits::NoAnswer;
use tidegate_proxy::limits::service::{Closest, Question, Service, Told};
use tidegate_xds::rls::{
    Code, DescriptorStatus, HeaderValue, RateLimit, RateLimitRequest, RateLimitResponse, RateLimitService,
    RateLimitServiceServer,
};
use tokio::net::TcpListener;
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
        let status = |remaining| DescriptorStatus {
            code: code.into(),
            current_limit: Some(RateLimit::default()),
            limit_remaining: remaining,
            duration_until_reset: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        };
        Ok(Response::new(RateLimitResponse {
            overall_code: code.into(),
            statuses: vec![status(9), status(request.hits_addend), DescriptorStatus::default()],
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

async fn service() -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = Server::builder().add_service(RateLimitServiceServer::new(Words));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    Service::new(&address).unwrap()
}

fn question(word: &str) -> Question {
    let descriptors = vec![vec![(String::from("user"), word.to_owned())]];
    Question { domain: String::from("edge"), descriptors, hits: 5 }
}

#[tokio::test]
async fn its_word_its_closest_limit_and_the_headers_that_can_be_sent_are_taken() {
    let service = service().await;
    let told = Told {
        allowed: false,
        closest: Some(Closest { remaining: 5, reset: Duration::from_secs(3) }),
        request_headers: Vec::new(),
        response_headers: vec![("x-left".parse().unwrap(), "7".parse().unwrap())],
        body: b"slow down".to_vec(),
    };
    assert_eq!(service.ask(question("over"), LONG).await, Ok(told.clone()));
    assert_eq!(service.ask(question("ann"), LONG).await, Ok(Told { allowed: true, ..told }));
    assert_eq!(service.counted().answered, 2);
}

#[tokio::test]
async fn no_word_an_error_and_silence_are_no_answer() {
    let service = service().await;
    assert_eq!(service.ask(question("unknown"), LONG).await, Err(NoAnswer::Failed));
    assert_eq!(service.ask(question("fails"), LONG).await, Err(NoAnswer::Failed));
    let silence = service.ask(question("hangs"), Duration::from_millis(20)).await;
    assert_eq!(silence, Err(NoAnswer::TimedOut));
    assert!(service.ask(question("ann"), LONG).await.is_ok(), "the connection is still good");
}

#[tokio::test]
async fn one_that_is_not_there_is_asked_a_few_times_and_then_no_more() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let service = Service::new(&closed.to_string()).unwrap();
    while !service.is_open() {
        assert_eq!(service.ask(question("ann"), LONG).await, Err(NoAnswer::Failed));
    }
    assert_eq!(service.counted().asked, 5);
    assert_eq!(service.ask(question("ann"), LONG).await, Err(NoAnswer::Open));
}

#[tokio::test]
async fn an_address_without_a_port_is_refused() {
    for address in ["", "limits", "http://limits:1", "a b:1"] {
        assert!(Service::new(address).is_err(), "{address}");
    }
}
