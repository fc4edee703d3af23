//! What RFC 9113 and RFC 7541 ask of a server, case by case, with the section of each. A peer that breaks the rules is told
//! so with the right error, on its stream or for its connection, and no backend ever sees what was wrong.

mod case;
mod compression;
mod framing;
mod messages;
mod settings;
mod streams;

use std::net::SocketAddr;

use tidegate_policy::model::AppProtocol;
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::backend::{FaultBackend, Script};
use tidegate_testkit::frames::{self, END, Frame, FrameConnection, HEADERS};

use crate::mesh::sidecar_config;
use case::Case;

/// A proxy whose backend answers, and one whose backend never does.
struct Site {
    backends: [FaultBackend; 2],
    proxies: [Running; 2],
}

impl Site {
    async fn start() -> Self {
        let backends = [FaultBackend::start().await, FaultBackend::start().await];
        backends[1].always(Script::Hang);
        let start = |backend: &FaultBackend| {
            Proxy::start(sidecar_config(backend.address(), AppProtocol::H2c)).unwrap()
        };
        let proxies = [start(&backends[0]), start(&backends[1])];
        Self { backends, proxies }
    }

    fn address(&self, case: &Case) -> SocketAddr {
        self.proxies[usize::from(case.hangs)].inbound().unwrap()
    }

    /// Runs all of them, and tells of all that failed.
    async fn hold(&self, cases: Vec<Case>) {
        let mut failures = Vec::new();
        for case in &cases {
            if let Err(seen) = case.run(self.address(case)).await {
                failures.push(format!("{} {}: wanted {:?}, saw {seen}", case.section, case.what, case.want));
            }
        }
        assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
        for backend in &self.backends {
            let seen = backend.seen();
            let wrong = seen.iter().find(|head| head.uri.path() == messages::WRONG);
            assert!(wrong.is_none(), "{wrong:?}");
        }
        self.serves().await;
    }

    /// After all that, a request gets its answer.
    async fn serves(&self) {
        let mut client = FrameConnection::client(self.proxies[0].inbound().unwrap()).await;
        client.send(&Frame::new(HEADERS, END, 1, frames::request("GET", "/", &[]))).await;
        let answer = client.until(|frame| frame.kind == HEADERS).await.unwrap();
        assert_eq!(answer.status(), Some(200));
    }
}

#[tokio::test]
async fn frames_are_read_as_rfc_9113_sections_3_4_and_6_say() {
    Site::start().await.hold(framing::cases()).await;
}

#[tokio::test]
async fn settings_windows_and_pings_are_as_rfc_9113_section_6_says() {
    Site::start().await.hold(settings::cases()).await;
}

#[tokio::test]
async fn streams_live_and_end_as_rfc_9113_section_5_says() {
    Site::start().await.hold(streams::cases()).await;
}

#[tokio::test]
async fn messages_that_rfc_9113_section_8_calls_malformed_reach_no_backend() {
    Site::start().await.hold(messages::cases()).await;
}

#[tokio::test]
async fn header_blocks_are_decoded_as_rfc_7541_says() {
    Site::start().await.hold(compression::cases()).await;
}

#[tokio::test]
async fn a_body_that_belies_its_content_length_reaches_no_backend_whole() {
    let backend = FaultBackend::start().await;
    backend.always(Script::ReadThenReset);
    let proxy = Proxy::start(sidecar_config(backend.address(), AppProtocol::H2c)).unwrap();
    for (at, case) in messages::lengths().iter().enumerate() {
        if let Err(seen) = case.run(proxy.inbound().unwrap()).await {
            panic!("{} {}: wanted {:?}, saw {seen}", case.section, case.what, case.want);
        }
        // Whoever reached the backend broke off there: it never read a whole body, or it would have reset.
        backend.until(|c| c.requests == c.cancelled && c.open <= at + 1).await;
    }
}
