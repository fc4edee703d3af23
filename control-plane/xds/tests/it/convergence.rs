//! Random histories of worlds, subscriptions, refusals and lost connections: the client always ends with the
//! server's world, and the promises about order and economy hold on the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_xds::client::{DeltaClient, Rejection, Update};
use tidegate_xds::server::DeltaSession;
use tidegate_xds::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, ResourceSet};

use crate::support::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// A client refuses this version of anything.
const BAD: u8 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Resources as `(type, name, version)` indices.
    World(Vec<(usize, usize, u8)>),
    /// Only the last type is on demand.
    Subscribe(usize),
    Unsubscribe(usize),
    /// Moves so many messages in one direction.
    ToServer(usize),
    ToClient(usize),
    Disconnect,
}

/// Both ends and the wires between them, where messages can wait and get lost.
struct Link {
    session: DeltaSession,
    client: DeltaClient,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    to_client: VecDeque<DeltaDiscoveryResponse>,
    world: Arc<ResourceSet>,
    /// What the client has in force, as its handler would: bodies by type and name.
    applied: BTreeMap<(&'static str, String), Vec<u8>>,
    wanted: BTreeSet<&'static str>,
    /// Nonces seen on this stream.
    nonces: BTreeSet<String>,
    unanswered: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let resource = (0..TYPES.len(), 0..NAMES.len(), 1..=BAD);
    prop_oneof![
        4 => prop::collection::vec(resource, 0..10).prop_map(Step::World),
        2 => (0..NAMES.len()).prop_map(Step::Subscribe),
        1 => (0..NAMES.len()).prop_map(Step::Unsubscribe),
        6 => (1..4usize).prop_map(Step::ToServer),
        6 => (1..4usize).prop_map(Step::ToClient),
        1 => Just(Step::Disconnect),
    ]
}

impl Link {
    fn new() -> Self {
        let mut link = Self {
            session: DeltaSession::new(TYPES),
            client: DeltaClient::new(node(), TYPES).on_demand(ROUTE),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            world: Arc::default(),
            applied: BTreeMap::new(),
            wanted: BTreeSet::new(),
            nonces: BTreeSet::new(),
            unanswered: 0,
        };
        link.connect();
        link
    }

    /// A new stream; what was on the wires is lost.
    fn connect(&mut self) {
        self.session = DeltaSession::new(TYPES);
        self.session.on_world(Arc::clone(&self.world));
        self.to_server = self.client.on_connected().into();
        self.to_client.clear();
        self.nonces.clear();
        self.unanswered = 0;
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::World(resources) => {
                let versions: Vec<_> = resources.iter().map(|(_, _, v)| v.to_string()).collect();
                let resources: Vec<_> = resources
                    .iter()
                    .zip(&versions)
                    .map(|((t, n, _), v)| (TYPES[*t], NAMES[*n], v.as_str()))
                    .collect();
                self.world = world(&resources);
                self.session.on_world(Arc::clone(&self.world));
            }
            Step::Subscribe(name) => {
                self.wanted.insert(NAMES[name]);
                self.to_server.extend(self.client.subscribe(ROUTE, strings(&[NAMES[name]])));
            }
            Step::Unsubscribe(name) => {
                self.wanted.remove(NAMES[name]);
                self.applied.remove(&(ROUTE, NAMES[name].to_owned()));
                self.to_server.extend(self.client.unsubscribe(ROUTE, strings(&[NAMES[name]])));
            }
            Step::ToServer(mut count) => {
                while count > 0 && self.deliver_to_server() {
                    count -= 1;
                }
            }
            Step::ToClient(mut count) => {
                while count > 0 && self.deliver_to_client() {
                    count -= 1;
                }
            }
            Step::Disconnect => self.connect(),
        }
        self.pump();
    }

    fn pump(&mut self) {
        while let Some(response) = self.session.next_response() {
            self.unanswered += 1;
            assert_eq!(self.unanswered, 1, "one response outstanding");
            assert!(self.nonces.insert(response.nonce.clone()), "nonces are unique");
            self.to_client.push_back(response);
        }
    }

    fn deliver_to_server(&mut self) -> bool {
        let Some(request) = self.to_server.pop_front() else { return false };
        if !request.response_nonce.is_empty() {
            self.unanswered -= 1;
        }
        self.session.on_request(request).unwrap();
        self.pump();
        true
    }

    fn deliver_to_client(&mut self) -> bool {
        let Some(response) = self.to_client.pop_front() else { return false };
        let update = self.client.on_response(response).unwrap();
        let rejected = self.apply(&update);
        self.to_server.push_back(self.client.ack(update, rejected));
        true
    }

    fn apply(&mut self, update: &Update) -> Vec<Rejection> {
        assert!(update.upserts.is_empty() || update.removed.is_empty(), "upserts and removals apart");
        let mut rejected = Vec::new();
        for upsert in &update.upserts {
            if upsert.version == BAD.to_string() {
                rejected.push(Rejection::of_content(upsert.name.clone(), "bad".to_owned()));
            } else {
                self.applied.insert((update.type_url, upsert.name.clone()), upsert.body.clone());
            }
        }
        for name in &update.removed {
            self.applied.remove(&(update.type_url, name.clone()));
        }
        rejected
    }

    /// Delivers everything, in order, until both ends are at rest; every response on the way.
    fn settle(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let mut told = Vec::new();
        self.pump();
        loop {
            told.extend(self.to_client.front().cloned());
            let delivered = self.deliver_to_client();
            let answered = self.deliver_to_server();
            if !delivered && !answered {
                return told;
            }
            assert!(told.len() < 1000, "comes to rest");
        }
    }

    /// The bodies that the client must have, where it did not refuse the server's newest.
    fn check_converged(&self) {
        assert!(self.client.synced());
        for type_url in TYPES {
            let covers = |name: &str| *type_url != ROUTE || self.wanted.contains(name);
            for name in NAMES {
                let has = self.applied.get(&(*type_url, name.to_owned()));
                match self.world.get(type_url, name).filter(|_| covers(name)) {
                    Some(r) if *r.version == BAD.to_string() => {
                        assert_ne!(has, Some(&r.body.value), "{type_url} {name} was refused");
                    }
                    Some(r) => assert_eq!(has, Some(&r.body.value), "{type_url} {name}"),
                    None => assert_eq!(has, None, "{type_url} {name}"),
                }
                let version = self.client.versions(type_url).unwrap().get(name);
                let told = version.map(|v| body(name, v));
                assert_eq!(has, told.as_ref(), "client's versions are those in force");
            }
        }
    }
}

/// Upserts of types in ascending order, then removals in descending order. `Err` is the first response out of order.
fn check_order(told: &[DeltaDiscoveryResponse]) -> Result<(), String> {
    let position = |r: &DeltaDiscoveryResponse| TYPES.iter().position(|t| *t == r.type_url).unwrap() as i32;
    // Removals count down from the end, so that one ascending sequence says all.
    let count = TYPES.len() as i32;
    let rank = |r: &DeltaDiscoveryResponse| {
        if r.removed_resources.is_empty() { position(r) } else { 2 * count - position(r) }
    };
    match told.windows(2).find(|pair| rank(&pair[0]) > rank(&pair[1])) {
        Some(pair) => Err(format!("{} before {}", words(&pair[0]), words(&pair[1]))),
        None => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn client_converges_to_the_servers_world(steps in prop::collection::vec(step(), 0..60)) {
        let mut link = Link::new();
        for step in steps {
            link.run(step);
        }
        link.settle();
        link.check_converged();
    }

    #[test]
    fn reconnected_client_is_sent_nothing_that_it_has(
        steps in prop::collection::vec(step(), 0..40),
        meanwhile in prop::option::of(step()),
    ) {
        let mut link = Link::new();
        for step in steps {
            link.run(step);
        }
        link.settle();
        if let Some(step @ Step::World(_)) = meanwhile {
            link.run(step);
        }
        let had = link.applied.clone();
        link.connect();
        for response in link.settle() {
            let type_url = *TYPES.iter().find(|t| **t == response.type_url).unwrap();
            for resource in response.resources {
                let has = had.get(&(type_url, resource.name.clone()));
                let told = resource.resource.map(|any| any.value);
                prop_assert_ne!(has, told.as_ref());
            }
            for name in response.removed_resources {
                let missing = type_url == ROUTE && link.world.get(ROUTE, &name).is_none();
                prop_assert!(missing || had.contains_key(&(type_url, name)));
            }
        }
        link.check_converged();
    }

    #[test]
    fn one_world_after_another_is_told_in_order(
        steps in prop::collection::vec(step(), 0..40),
        next in prop::collection::vec((0..TYPES.len(), 0..NAMES.len(), 1..=BAD), 0..10),
    ) {
        let mut link = Link::new();
        for step in steps {
            link.run(step);
        }
        link.settle();
        link.run(Step::World(next));
        prop_assert_eq!(check_order(&link.settle()), Ok(()));
        prop_assert!(link.settle().is_empty());
    }

    #[test]
    fn a_new_stream_is_told_in_order(steps in prop::collection::vec(step(), 0..40)) {
        let mut link = Link::new();
        for step in steps {
            link.run(step);
        }
        link.connect();
        // All first requests arrive before the first answer does.
        while link.deliver_to_server() {}
        prop_assert_eq!(check_order(&link.settle()), Ok(()));
    }
}
