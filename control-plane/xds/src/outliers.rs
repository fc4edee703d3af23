//! What proxies know of failing endpoints, within Envoy's load reports (LRS): the generated client and server, and what
//! their messages say in the words of [`tidegate_outliers`].
//!
//! A server that knows nothing of our extension sees reports without counts; a client that does not is heard and
//! has nothing to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_outliers::{Failing, Statement, Suspicion};
use tidegate_proto::envoy::config::core::v3::address::Address as AnyAddress;
use tidegate_proto::envoy::config::core::v3::socket_address::PortSpecifier;
use tidegate_proto::envoy::config::core::v3::{Address, SocketAddress};
use tidegate_proto::envoy::config::endpoint::v3::{
    ClusterStats, UpstreamEndpointStats, UpstreamLocalityStats,
};
use tidegate_proto::tidegate::v1::{
    OutlierAsked, OutlierFailing, OutlierStatement, OutlierSuspect, OutlierSuspects,
};

use crate::Node;

pub use generated::load_reporting_service_client::LoadReportingServiceClient;
pub use generated::load_reporting_service_server::{LoadReportingService, LoadReportingServiceServer};
pub use tidegate_proto::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};

/// What a proxy says of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub cluster: String,
    /// `HOST:PORT`.
    pub endpoint: String,
    pub statement: Statement,
}

/// A suspect of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub endpoint: String,
    pub number: u64,
    pub failing: u32,
    pub asked: u32,
}

/// Of which endpoints a server wants to hear, whether they fail or not, by cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked(BTreeMap<String, BTreeSet<String>>);

/// Endpoints of one cluster that are named in a message; if there are more, all are asked for.
const MOST_NAMED: usize = 1_000;

impl Asked {
    /// As the message says. One of before there were endpoints in it asks for all of them.
    pub fn of(message: &LoadStatsResponse) -> Self {
        let mut asked: BTreeMap<_, _> =
            message.clusters.iter().map(|cluster| (cluster.clone(), BTreeSet::new())).collect();
        for one in &message.asked {
            if let Some(endpoints) = asked.get_mut(&one.cluster) {
                endpoints.extend(one.endpoints.iter().cloned());
            }
        }
        Self(asked)
    }

    pub fn wants(&self, cluster: &str, endpoint: &str) -> bool {
        self.0.get(cluster).is_some_and(|named| named.is_empty() || named.contains(endpoint))
    }
}

/// What a client says; `node` in the first message of a stream.
pub fn request(node: Option<Node>, said: &[Said]) -> LoadStatsRequest {
    let mut clusters: Vec<ClusterStats> = Vec::new();
    for one in said {
        let endpoint = UpstreamEndpointStats {
            address: address(&one.endpoint),
            statement: Some(to_message(&one.statement)),
            ..UpstreamEndpointStats::default()
        };
        match clusters.last_mut().filter(|last| last.cluster_name == one.cluster) {
            Some(cluster) => cluster.upstream_locality_stats[0].upstream_endpoint_stats.push(endpoint),
            None => clusters.push(ClusterStats {
                cluster_name: one.cluster.clone(),
                upstream_locality_stats: vec![UpstreamLocalityStats {
                    upstream_endpoint_stats: vec![endpoint],
                    ..UpstreamLocalityStats::default()
                }],
                load_report_interval: None,
            }),
        }
    }
    LoadStatsRequest { node, cluster_stats: clusters }
}

/// What a server hears; what cannot be read is left out.
pub fn said(message: LoadStatsRequest) -> impl Iterator<Item = Said> {
    message.cluster_stats.into_iter().flat_map(|cluster| {
        let name = cluster.cluster_name;
        let endpoints = cluster.upstream_locality_stats.into_iter().flat_map(|l| l.upstream_endpoint_stats);
        endpoints.filter_map(move |stats| {
            let endpoint = label(stats.address?)?;
            Some(Said { cluster: name.clone(), endpoint, statement: statement(&stats.statement?) })
        })
    })
}

/// What a server says: of which endpoints of which clusters it wants to hear, how often, and the suspects of some.
pub fn response<'a>(
    asked: &BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    every: Duration,
    suspects: impl Iterator<Item = (&'a str, Vec<(&'a str, Suspicion)>)>,
) -> LoadStatsResponse {
    let suspect = |(endpoint, suspicion): (&str, Suspicion)| OutlierSuspect {
        address: endpoint.to_owned(),
        number: suspicion.number,
        failing: suspicion.failing,
        asked: suspicion.asked,
    };
    let suspects = suspects.map(|(cluster, suspects)| OutlierSuspects {
        cluster: cluster.to_owned(),
        endpoints: suspects.into_iter().map(suspect).collect(),
    });
    let named = asked.iter().filter(|(_, endpoints)| endpoints.len() <= MOST_NAMED);
    let named = named.map(|(cluster, endpoints)| OutlierAsked {
        cluster: cluster.to_string(),
        endpoints: endpoints.iter().map(ToString::to_string).collect(),
    });
    LoadStatsResponse {
        clusters: asked.keys().map(ToString::to_string).collect(),
        asked: named.collect(),
        load_reporting_interval: every.try_into().ok(),
        report_endpoint_granularity: true,
        suspects: suspects.collect(),
    }
}

/// What a client hears: all suspects of each cluster that it is told of.
pub fn suspects(message: &LoadStatsResponse) -> impl Iterator<Item = (&str, Vec<Suspect>)> {
    message.suspects.iter().map(|told| {
        let suspect = |one: &OutlierSuspect| Suspect {
            endpoint: one.address.clone(),
            number: one.number,
            failing: one.failing,
            asked: one.asked,
        };
        (&*told.cluster, told.endpoints.iter().map(suspect).collect())
    })
}

fn to_message(statement: &Statement) -> OutlierStatement {
    let failing = statement.failing.map(|failing| OutlierFailing {
        failures: failing.failures,
        age: failing.age.try_into().ok(),
        ejected: failing.ejected,
    });
    OutlierStatement { success_age: statement.success.and_then(|age| age.try_into().ok()), failing }
}

/// An age that makes no sense is none: what happened, happened just now.
fn statement(message: &OutlierStatement) -> Statement {
    let age = |age: Option<prost_types::Duration>| age.and_then(|age| Duration::try_from(age).ok());
    let failing = message.failing.as_ref().map(|failing| Failing {
        failures: failing.failures,
        age: age(failing.age).unwrap_or_default(),
        ejected: failing.ejected,
    });
    Statement { success: age(message.success_age), failing }
}

fn address(endpoint: &str) -> Option<Address> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port_specifier = Some(PortSpecifier::PortValue(port.parse::<u16>().ok()?.into()));
    let socket = SocketAddress { address: host.to_owned(), port_specifier };
    Some(Address { address: Some(AnyAddress::SocketAddress(socket)) })
}

fn label(address: Address) -> Option<String> {
    let AnyAddress::SocketAddress(socket) = address.address?;
    let PortSpecifier::PortValue(port) = socket.port_specifier?;
    let host = socket.address;
    Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

mod generated {
    #![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/envoy.service.load_stats.v3.rs"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_said() -> impl Strategy<Value = Said> {
        let age = || (0_u64..1 << 40).prop_map(Duration::from_nanos);
        let failing = (any::<u32>(), age(), any::<bool>());
        let failing = failing.prop_map(|(failures, age, ejected)| Failing { failures, age, ejected });
        let statement = (prop::option::of(age()), prop::option::of(failing));
        let statement = statement.prop_map(|(success, failing)| Statement { success, failing });
        let endpoint = prop_oneof![Just("10.0.0.1:80"), Just("[::1]:8080"), Just("cart.shop:443")];
        (0..3, endpoint, statement).prop_map(|(cluster, endpoint, statement)| Said {
            cluster: format!("c{cluster}"),
            endpoint: endpoint.to_owned(),
            statement,
        })
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(words in prop::collection::vec(any_said(), 0..20)) {
            prop_assert_eq!(said(request(None, &words)).collect::<Vec<_>>(), words);
        }
    }

    #[test]
    fn suspects_arrive_with_their_clusters() {
        let suspicion = Suspicion { number: 7, since: Duration::ZERO, failing: 3, asked: 4 };
        let all = [("a", vec![("10.0.0.1:80", suspicion)]), ("b", Vec::new())];
        let asked = BTreeMap::from([("a".into(), BTreeSet::from(["10.0.0.1:80".into()]))]);
        let message = response(&asked, Duration::from_millis(100), all.into_iter());
        let heard: Vec<_> = suspects(&message).collect();
        let suspect = Suspect { endpoint: String::from("10.0.0.1:80"), number: 7, failing: 3, asked: 4 };
        assert_eq!(heard, [("a", vec![suspect]), ("b", Vec::new())]);
        assert_eq!(message.clusters, ["a"]);
    }

    #[test]
    fn a_client_hears_which_endpoints_are_meant_and_of_an_older_server_that_all_are() {
        let many = (0..=MOST_NAMED).map(|i| Arc::from(format!("10.0.0.1:{i}"))).collect();
        let asked = BTreeMap::from([("a".into(), BTreeSet::from(["e:1".into()])), ("b".into(), many)]);
        let message = response(&asked, Duration::from_millis(100), std::iter::empty());
        let heard = Asked::of(&message);
        assert!(heard.wants("a", "e:1") && !heard.wants("a", "e:2") && !heard.wants("c", "e:1"));
        assert!(heard.wants("b", "e:9"), "too many to be named");
        let older = Asked::of(&LoadStatsResponse { asked: Vec::new(), ..message });
        assert!(older.wants("a", "e:1") && older.wants("a", "e:2") && !older.wants("c", "e:1"));
    }

    #[test]
    fn a_plain_envoy_has_nothing_to_say_of_this() {
        let stats = UpstreamEndpointStats { address: address("10.0.0.1:80"), ..Default::default() };
        let locality = UpstreamLocalityStats { upstream_endpoint_stats: vec![stats], ..Default::default() };
        let cluster = ClusterStats { upstream_locality_stats: vec![locality], ..Default::default() };
        let message = LoadStatsRequest { node: None, cluster_stats: vec![cluster] };
        assert_eq!(said(message).count(), 0);
    }
}
