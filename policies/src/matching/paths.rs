use rustc_hash::FxHashMap;

use super::conditions::Conditions;
use super::work::Work;

/// Path prefixes as a tree of path elements: a walk follows the request's path once, however long it is and however
/// many prefixes there are, and comes back up through those that match, longest first.
#[derive(Clone, Debug)]
pub(super) struct Elements(Vec<Element>);

#[derive(Clone, Debug, Default)]
struct Element {
    below: FxHashMap<Box<[u8]>, u32>,
    parent: Option<u32>,
    /// The nearest element above that matches belong to.
    up: Option<u32>,
    /// What is asked for beside this prefix; `None` where no prefix ends.
    matches: Option<Conditions>,
}

impl Default for Elements {
    fn default() -> Self {
        Self(vec![Element::default()])
    }
}

impl Elements {
    /// `prefix` begins with a slash and does not end with one. What does not cannot be met.
    pub(super) fn insert(&mut self, prefix: &str, matches: Conditions) {
        let Some(elements) = prefix.strip_prefix('/') else { return };
        let mut at = 0_u32;
        for name in elements.as_bytes().split(|b| *b == b'/') {
            let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
            let below = &mut self.0[at as usize].below;
            let known = below.get(name).copied();
            if known.is_none() {
                below.insert(name.into(), next);
                self.0.push(Element { parent: Some(at), ..Element::default() });
            }
            at = known.unwrap_or(next);
        }
        self.0[at as usize].matches = Some(matches);
    }

    /// Call once, after the last [`Self::insert`]: then the way up leaves out what nothing belongs to.
    pub(super) fn link(&mut self) {
        // An element comes after its parent, so the parent's own link is there already.
        for at in 0..self.0.len() {
            let above = self.0[at].parent.map(|parent| (parent, &self.0[parent as usize]));
            self.0[at].up = above.and_then(|(parent, element)| match element.matches {
                Some(_) => Some(parent),
                None => element.up,
            });
        }
    }

    /// The end of the longest way from the root along `path`.
    pub(super) fn deepest(&self, path: &str, work: &mut Work) -> u32 {
        let mut at = 0_u32;
        let Some(elements) = path.strip_prefix('/') else { return at };
        // By bytes: a search for each slash costs more than the few bytes of an element.
        for name in elements.as_bytes().split(|b| *b == b'/') {
            let Some(element) = self.0.get(at as usize).filter(|element| !element.below.is_empty()) else {
                break;
            };
            work.steps += 1;
            match element.below.get(name) {
                Some(below) => at = *below,
                None => break,
            }
        }
        at
    }

    /// The matches of `deepest` and of all above it.
    pub(super) fn upwards(&self, deepest: u32) -> impl Iterator<Item = &Conditions> {
        let above = |at: &u32| self.0.get(*at as usize)?.up;
        let way = std::iter::successors(Some(deepest), above);
        way.filter_map(|at| self.0.get(at as usize)?.matches.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(prefixes: &[&str], path: &str) -> Vec<u32> {
        let mut tree = Elements::default();
        for (at, prefix) in (0..).zip(prefixes) {
            tree.insert(prefix, Conditions::only(at));
        }
        tree.link();
        tree.upwards(tree.deepest(path, &mut Work::default())).map(Conditions::first).collect()
    }

    #[test]
    fn the_way_up_goes_from_the_longest_prefix_to_the_shortest() {
        let prefixes = ["/a", "/a/b/c", "/a/b/c/d", "/ab", "/x"];
        assert_eq!(found(&prefixes, "/a/b/c/e"), [1, 0]);
        assert_eq!(found(&prefixes, "/a/b/c/d/"), [2, 1, 0]);
        assert_eq!(found(&prefixes, "/a/b"), [0]);
        assert_eq!(found(&prefixes, "/a/"), [0]);
        assert_eq!(found(&prefixes, "/ab"), [3]);
        assert_eq!(found(&prefixes, "/abc"), [] as [u32; 0]);
        assert_eq!(found(&prefixes, "/"), [] as [u32; 0]);
        assert_eq!(found(&prefixes, "*"), [] as [u32; 0]);
    }

    #[test]
    fn a_walk_ends_where_no_prefix_goes_on() {
        let mut tree = Elements::default();
        (0..1000).for_each(|i| tree.insert(&format!("/route-{i}/x"), Conditions::only(i)));
        let mut work = Work::default();
        tree.deepest(&"/".repeat(60_000), &mut work);
        assert_eq!(work.steps, 1);
        tree.deepest(&format!("/route-7/x{}", "/y".repeat(10_000)), &mut work);
        assert_eq!(work.steps, 3);
    }
}
