//! Which endpoints are called first, and which only if those cannot take it: by priority, and within it by zone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pool::Member;
use super::settings::{Locality, Prefer};
use crate::model::Placement;
use crate::pick::hash::{self, SUBSET};

/// Priority, then how far away: 0 is our own zone.
pub(super) type Rank = (u32, u32);

/// The members by rank, those to be called first coming first. None is empty.
pub(super) fn by_rank(
    members: &[Member],
    placements: &[Placement],
    locality: &Locality,
    zone: Option<&str>,
) -> BTreeMap<Rank, Vec<Member>> {
    let nowhere = Placement::default();
    let placed = |member: &Member| placements.get(member.index as usize).unwrap_or(&nowhere);
    let all_hinted = members.iter().all(|member| !placed(member).for_zones.is_empty());
    let mut ranks = BTreeMap::<Rank, Vec<Member>>::new();
    for member in members {
        let placement = placed(member);
        let near = match (locality.prefer, zone) {
            (Prefer::Nothing, _) | (_, None) => true,
            (Prefer::SameZone, Some(zone)) => placement.zone.as_deref() == Some(zone),
            (Prefer::Hints, Some(zone)) => {
                !all_hinted || placement.for_zones.iter().any(|hint| **hint == *zone)
            }
        };
        let distance = if near { 0 } else { 1 + failover(locality, placement.zone.as_deref()) };
        ranks.entry((placement.priority, distance)).or_default().push(*member);
    }
    ranks
}

/// The place of a zone in the list; that of all others is after it.
fn failover(locality: &Locality, zone: Option<&str>) -> u32 {
    let listed = locality.failover.iter().position(|listed| Some(&**listed) == zone);
    u32::try_from(listed.unwrap_or(locality.failover.len())).unwrap_or(u32::MAX - 1)
}

/// Those members that this proxy calls: the first `size` in an order that a hash of its name and theirs gives.
///
/// Proxies do not know of each other, so each draws by itself. Of `C` proxies, an endpoint among `n` is called by `C * size / n`
/// on average, spread as by chance: with a standard deviation of no more than the root of that. When an endpoint goes,
/// a proxy that called it takes one other in its place, and no proxy changes anything else. Weights play no part here: they do
/// within the subset.
pub(super) fn subset(
    members: Vec<Member>,
    size: Option<u32>,
    node: &str,
    name: impl Fn(&Member) -> Arc<str>,
) -> Vec<Member> {
    let Some(size) = size.map(|size| size as usize).filter(|size| *size < members.len()) else {
        return members;
    };
    let lot = |member: &Member| hash::of(SUBSET, &[node.as_bytes(), name(member).as_bytes()]);
    let mut drawn: Vec<_> = members.into_iter().map(|member| (lot(&member), member)).collect();
    drawn.sort_unstable_by_key(|(lot, member)| (*lot, member.index));
    drawn.truncate(size);
    drawn.sort_unstable_by_key(|(_, member)| member.index);
    drawn.into_iter().map(|(_, member)| member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(many: u32) -> Vec<Member> {
        (0..many).map(|index| Member { index, weight: 1 }).collect()
    }

    fn in_zone(zone: &str, priority: u32, hints: &[&str]) -> Placement {
        let for_zones = hints.iter().map(|hint| Arc::from(*hint)).collect();
        Placement { zone: Some(zone.into()), for_zones, priority }
    }

    fn ranks(
        placements: &[Placement],
        prefer: Prefer,
        failover: &[&str],
        zone: Option<&str>,
    ) -> Vec<(Rank, Vec<u32>)> {
        let locality = Locality { prefer, failover: failover.iter().map(|zone| Arc::from(*zone)).collect() };
        let members = members(placements.len() as u32);
        let ranks = by_rank(&members, placements, &locality, zone);
        ranks.into_iter().map(|(rank, of)| (rank, of.iter().map(|member| member.index).collect())).collect()
    }

    #[test]
    fn our_zone_comes_first_then_those_that_are_listed_then_all_others() {
        let all = ["a", "b", "c", "d", "a"].map(|zone| in_zone(zone, 0, &[]));
        let got = ranks(&all, Prefer::SameZone, &["c"], Some("a"));
        assert_eq!(got, [((0, 0), vec![0, 4]), ((0, 1), vec![2]), ((0, 2), vec![1, 3])]);
        assert_eq!(ranks(&all, Prefer::Nothing, &[], Some("a")).len(), 1);
        assert_eq!(ranks(&all, Prefer::SameZone, &["c"], None).len(), 1, "nobody knows where we are");
    }

    #[test]
    fn a_priority_comes_before_any_zone() {
        let all = [in_zone("a", 1, &[]), in_zone("b", 0, &[])];
        let got = ranks(&all, Prefer::SameZone, &[], Some("a"));
        assert_eq!(got, [((0, 1), vec![1]), ((1, 0), vec![0])]);
    }

    #[test]
    fn hints_hold_only_where_every_endpoint_has_one() {
        let hinted = [in_zone("a", 0, &["b"]), in_zone("b", 0, &["a", "b"])];
        assert_eq!(ranks(&hinted, Prefer::Hints, &[], Some("a")), [((0, 0), vec![1]), ((0, 1), vec![0])]);
        let half = [in_zone("a", 0, &["b"]), in_zone("b", 0, &[])];
        assert_eq!(ranks(&half, Prefer::Hints, &[], Some("a")), [((0, 0), vec![0, 1])]);
    }

    fn drawn(many: u32, size: u32, node: &str) -> Vec<u32> {
        let name = |member: &Member| Arc::from(format!("10.0.0.{}:80", member.index));
        subset(members(many), Some(size), node, name).iter().map(|member| member.index).collect()
    }

    #[test]
    fn all_are_taken_where_there_are_no_more_than_that() {
        assert_eq!(drawn(5, 5, "web-1"), [0, 1, 2, 3, 4]);
        assert_eq!(drawn(3, 20, "web-1"), [0, 1, 2]);
        assert_eq!(drawn(100, 20, "web-1"), drawn(100, 20, "web-1"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_endpoint_is_called_by_about_as_many_proxies(seed in any::<u64>()) {
            const PROXIES: u32 = 1000;
            let mut callers = vec![0_u32; 100];
            for proxy in 0..PROXIES {
                let subset = drawn(100, 20, &format!("web-{seed}-{proxy}"));
                prop_assert_eq!(subset.len(), 20);
                subset.iter().for_each(|index| callers[*index as usize] += 1);
            }
            // Six standard deviations around 200.
            prop_assert!(callers.iter().all(|callers| (124..=276).contains(callers)), "{callers:?}");
        }

        #[test]
        fn an_endpoint_that_goes_changes_one_place_of_a_subset(node in "[a-z]{1,8}", many in 21_u32..200) {
            let (before, after) = (drawn(many, 20, &node), drawn(many - 1, 20, &node));
            let new = after.iter().filter(|index| !before.contains(index)).count();
            prop_assert!(new <= usize::from(before.contains(&(many - 1))));
        }
    }
}
