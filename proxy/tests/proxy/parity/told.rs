//! The evaluator's side.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, request};
use tidegate_policy::decision::{CallResult, Said};
use tidegate_policy::matching::target::normalize_path;
use tidegate_policy::model::{AppProtocol, Peer};
use tidegate_policy::snapshot::{Local, Scope};
use tidegate_policy::state::StateStore;
use tidegate_policy::story::{Answer, Asked, Call, Step, Story, Teller, World};
use tidegate_policy::{Reason, Timestamp};

use super::Outcome;
use super::documents::{Documents, Side};
use super::live::Backends;
use super::requests::Request;
use crate::mesh::{BIND, loopback};

#[derive(Debug)]
pub(super) struct Evaluator {
    pub(super) world: World,
    scope: Scope,
}

impl Evaluator {
    pub(super) fn new(documents: &Documents, backends: &Backends) -> Self {
        let app = (documents.side != Side::Gateway).then(|| (loopback(backends.port(0)), AppProtocol::Http1));
        let services =
            if documents.side == Side::Inbound { vec!["shop/cart".parse().unwrap()] } else { Vec::new() };
        let local =
            Local { app, services, namespace: "shop".into(), node: "test".into(), ..Local::default() };
        let world = World::build([&documents.parsed], &local, &StateStore::new([0, 0]))
            .unwrap_or_else(|error| panic!("{error}\n{}", documents.text));
        let scope = match documents.side {
            Side::Gateway => Scope::Gateway(BIND),
            Side::Outbound => Scope::Outbound,
            Side::Inbound => Scope::Inbound,
        };
        Self { world, scope }
    }

    pub(super) fn tell(
        &mut self,
        request: &Request,
        id: &str,
        (seed, peer): (u64, SocketAddr),
        now: Timestamp,
    ) -> Outcome {
        let Some(head) = head(request, id) else {
            let reason = Reason::BadRequest;
            return Outcome {
                status: reason.answer().status.as_u16(),
                reason: Some(reason.flag().to_owned()),
                ..Outcome::default()
            };
        };
        let mut story = Story::new(Peer { address: peer, identity: None });
        *story.head = head;
        let mut teller = Teller {
            snapshot: &self.world.snapshot,
            epoch: Duration::from_secs(1_767_225_600),
            connects: false,
            rng: Rng::with_seed(seed),
        };
        let asked = Asked { scope: self.scope, sni: None, grpc: false };
        // The clock stands still while a request is under way, at both.
        let mut next = teller.begin(&mut story, &asked, now, &mut answer);
        while !matches!(next, Step::Done) {
            if let Step::Turn(ticket) = &next {
                ticket.give_up();
            }
            next = teller.resume(&mut story, now, &mut answer);
        }
        story.conclude();
        let told = &story.told;
        let selected = told.selected.as_ref();
        let backend = selected.and_then(|selected| selected.target().backend.as_ref().ok());
        Outcome {
            status: told.response.status.as_u16(),
            reason: told.reason.map(|reason| reason.flag().to_owned()),
            route: selected.and_then(|selected| selected.rule.route.as_deref()).map(str::to_owned),
            rule: selected.map(|selected| selected.rule.name.to_string()),
            backend: backend.map(|backend| backend.label.to_string()),
            endpoint: told.endpoint.as_ref().map(|endpoint| endpoint.label.to_string()),
            attempts: told.attempts,
            decisions: told.decisions.iter().map(|decision| Said::from(decision).to_string()).collect(),
        }
    }
}

/// As the proxy has read it; `None` where it refuses the target.
fn head(request: &Request, id: &str) -> Option<request::Parts> {
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request.target.as_str(), None),
    };
    let path = normalize_path(path).ok()?;
    let target = query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"));
    let mut head = http::Request::new(()).into_parts().0;
    head.method = request.method.parse().unwrap();
    head.uri = Uri::from(PathAndQuery::try_from(target).unwrap());
    let forwarded =
        [("host", &*request.host), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "http")];
    let forwarded = forwarded.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in request.fields(id).into_iter().chain(forwarded) {
        head.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::try_from(value).unwrap());
    }
    Some(head)
}

fn answer(call: &Call<'_>, _: &mut HeaderMap) -> Answer {
    let answers = call.head.headers["x-answers"].to_str().unwrap();
    let status = super::live::answer_of(answers, call.attempt as usize);
    Answer { result: CallResult::Status(status), latency: Duration::ZERO }
}
