use std::borrow::Borrow;

use rustc_hash::FxHashMap;

/// The most frequent of many texts, in bounded memory: the Space-Saving algorithm (Metwally, Agrawal and El Abbadi, 2005). A
/// text that is not among those that are counted takes the place, and the count, of the rarest; so no count is too low,
/// each tells by how much it may be too high, and whatever makes up more than one part in the capacity is there.
#[derive(Clone, Debug)]
pub struct Frequent {
    capacity: usize,
    places: FxHashMap<Box<str>, usize>,
    /// A heap by count, the rarest first.
    counted: Vec<Counted>,
}

#[derive(Clone, Debug)]
struct Counted {
    text: Box<str>,
    count: u64,
    /// Of these, maybe others'.
    excess: u64,
}

impl Frequent {
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), places: FxHashMap::default(), counted: Vec::new() }
    }

    pub fn add(&mut self, text: &str) {
        let place = match self.places.get(text) {
            Some(place) => *place,
            None if self.counted.len() < self.capacity => self.push(text),
            None => self.replace(text),
        };
        self.counted[place].count += 1;
        self.sink(place);
    }

    /// The most frequent first: what, how often at most, and by how much that may be too high.
    pub fn top(&self, most: usize) -> Vec<(&str, u64, u64)> {
        let mut all: Vec<_> =
            self.counted.iter().map(|one| (one.text.borrow(), one.count, one.excess)).collect();
        all.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
        all.truncate(most);
        all
    }

    fn push(&mut self, text: &str) -> usize {
        let mut place = self.counted.len();
        self.counted.push(Counted { text: text.into(), count: 0, excess: 0 });
        self.places.insert(text.into(), place);
        while place > 0 {
            let above = (place - 1) / 2;
            if self.counted[above].count <= self.counted[place].count {
                break;
            }
            self.swap(above, place);
            place = above;
        }
        place
    }

    fn replace(&mut self, text: &str) -> usize {
        let rarest = &mut self.counted[0];
        self.places.remove(&rarest.text);
        (rarest.text, rarest.excess) = (text.into(), rarest.count);
        self.places.insert(text.into(), 0);
        0
    }

    /// It has become more frequent than some below it.
    fn sink(&mut self, mut place: usize) {
        loop {
            let below = [2 * place + 1, 2 * place + 2].into_iter().filter(|at| *at < self.counted.len());
            let Some(rarer) = below.min_by_key(|at| self.counted[*at].count) else { return };
            if self.counted[place].count <= self.counted[rarer].count {
                return;
            }
            self.swap(place, rarer);
            place = rarer;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.counted.swap(a, b);
        for at in [a, b] {
            if let Some(place) = self.places.get_mut(&self.counted[at].text) {
                *place = at;
            }
        }
    }
}
