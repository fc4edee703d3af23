//! Which of several control planes lends of a bucket. Pure: the list is what is written, whoever of it can be reached. Two
//! that see others gone would lend the same twice.

use std::net::SocketAddr;

use clap::Args;
use http::uri::Authority;
use tidegate_quota::{BucketId, owner};

/// With whom mesh-wide limits are shared.
#[derive(Args, Clone, Debug, Default)]
pub struct QuotaArgs {
    /// The gRPC addresses of all replicas of the control plane, this one included, written alike at each of them. Every
    /// shared limit is then lent by one of them, whichever its clients are connected to. The list is all that says by
    /// which: as long as a replica cannot be reached, nobody lends of its limits, and clients fall back as the
    /// policies say until it is back. To change the list, stop all replicas before the first starts with another one.
    #[arg(long, value_name = "HOST:PORT,...", env = "TIDEGATE_CP_QUOTA_PEERS", value_delimiter = ',')]
    pub quota_peers: Vec<String>,
    /// Which of --quota-peers this one is. Default: the address of --listen.
    #[arg(long, value_name = "HOST:PORT", env = "TIDEGATE_CP_QUOTA_NAME", requires = "quota_peers")]
    pub quota_name: Option<String>,
}

/// What is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeersError {
    #[error("--quota-peers: `{0}` is not HOST:PORT")]
    Address(String),
    #[error(
        "--quota-peers {list} does not have this replica, {own}: add it, or say with --quota-name which it is"
    )]
    Missing { own: String, list: String },
}

/// All replicas; none if there is only this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers {
    own: String,
    /// Sorted.
    all: Vec<String>,
}

/// What to do with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way<'a> {
    /// It is of a bucket that is lent here.
    Here,
    /// The bucket is another's, of this name.
    To(&'a str),
    /// It was relayed, and its bucket is not lent here: who relays has another list. Relayed again it might go in circles.
    Nowhere,
}

impl Peers {
    /// # Errors
    /// An address is none, or this replica is not among them.
    pub(crate) fn new(args: &QuotaArgs, listen: SocketAddr) -> Result<Self, PeersError> {
        let listed = args.quota_peers.iter().map(|peer| peer.trim()).filter(|peer| !peer.is_empty());
        let mut all: Vec<String> = listed.map(str::to_owned).collect();
        all.sort();
        all.dedup();
        if let Some(wrong) = all.iter().find(|peer| !is_address(peer)) {
            return Err(PeersError::Address(wrong.clone()));
        }
        let own = args.quota_name.clone().unwrap_or_else(|| listen.to_string());
        if !all.is_empty() && !all.contains(&own) {
            return Err(PeersError::Missing { own, list: all.join(",") });
        }
        Ok(Self { own, all })
    }

    pub(super) fn own(&self) -> &str {
        &self.own
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(String::as_str).filter(|peer| *peer != self.own)
    }

    pub(super) fn way(&self, bucket: BucketId, is_relayed: bool) -> Way<'_> {
        match owner(bucket, self.all.iter().map(String::as_str)) {
            None => Way::Here,
            Some(owner) if owner == self.own => Way::Here,
            Some(_) if is_relayed => Way::Nowhere,
            Some(owner) => Way::To(owner),
        }
    }
}

fn is_address(peer: &str) -> bool {
    peer.parse::<Authority>().is_ok_and(|address| address.port_u16().is_some() && !address.host().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTEN: &str = "10.0.0.1:15010";

    fn peers(list: &[&str], name: Option<&str>) -> Result<Peers, PeersError> {
        let quota_peers = list.iter().map(|peer| (*peer).to_owned()).collect();
        let args = QuotaArgs { quota_peers, quota_name: name.map(str::to_owned) };
        Peers::new(&args, LISTEN.parse().unwrap())
    }

    fn buckets() -> impl Iterator<Item = BucketId> {
        (0..300_u32).map(|i| BucketId::of([&i.to_le_bytes()[..]]))
    }

    #[test]
    fn one_alone_lends_of_everything() {
        for alone in [peers(&[], None), peers(&[""], Some("b:1")), peers(&["b:1"], Some("b:1"))] {
            let alone = alone.unwrap();
            assert!(buckets().all(|bucket| alone.way(bucket, false) == Way::Here));
            assert!(buckets().all(|bucket| alone.way(bucket, true) == Way::Here));
            assert_eq!(alone.others().count(), 0);
        }
    }

    #[test]
    fn of_every_bucket_one_lends_and_all_others_relay_to_it_in_whatever_order_they_are_listed() {
        let list = ["a:1", "b:1", "c:1"];
        let all = list.map(|own| peers(&list, Some(own)).unwrap());
        let turned = peers(&["c:1", " a:1", "b:1", "a:1"], Some("a:1")).unwrap();
        assert_eq!(turned, all[0]);
        for bucket in buckets() {
            let lends: Vec<_> = all.iter().filter(|peers| peers.way(bucket, false) == Way::Here).collect();
            let [owner] = lends[..] else { panic!("{lends:?}") };
            for other in all.iter().filter(|peers| *peers != owner) {
                assert_eq!(other.way(bucket, false), Way::To(owner.own()));
                assert!(other.others().any(|peer| peer == owner.own()));
            }
        }
    }

    #[test]
    fn what_was_relayed_is_lent_of_or_dropped_and_never_relayed_again() {
        // Two that have another list each, so that each thinks that the other lends.
        let (left, right) =
            (peers(&["a:1", "b:1"], Some("a:1")).unwrap(), peers(&["a:1", "c:1"], Some("c:1")).unwrap());
        for peers in [&left, &right] {
            let ways = buckets().map(|bucket| (peers.way(bucket, false), peers.way(bucket, true)));
            let (here, dropped): (Vec<_>, Vec<_>) = ways.partition(|(direct, _)| *direct == Way::Here);
            assert!(here.iter().all(|(_, relayed)| *relayed == Way::Here));
            assert!(!dropped.is_empty() && dropped.iter().all(|(_, relayed)| *relayed == Way::Nowhere));
        }
    }

    #[test]
    fn a_list_without_this_replica_and_an_address_without_a_port_are_refused() {
        assert_eq!(peers(&["b:1", LISTEN], None).unwrap().own(), LISTEN);
        let missing = peers(&["b:1", "a:1"], None).unwrap_err().to_string();
        assert!(missing.contains("a:1,b:1") && missing.contains(LISTEN), "{missing}");
        assert!(matches!(peers(&["a:1"], Some("b:1")), Err(PeersError::Missing { .. })));
        for wrong in ["b", "b:x", ":1", "http://b:1", "b:1/x", "b 1:1"] {
            assert_eq!(peers(&[LISTEN, wrong], None), Err(PeersError::Address(wrong.to_owned())));
        }
        assert!(peers(&["[::1]:15010"], Some("[::1]:15010")).is_ok());
    }
}
