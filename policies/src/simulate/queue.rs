use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What comes first is taken first. Made for what is mostly put in in order: that costs as much as a queue does, and only
/// the strays cost what a heap does.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// Those that came in order: the next one of them is in front.
    run: VecDeque<T>,
    strays: BinaryHeap<Reverse<T>>,
}

impl<T: Ord> Queue<T> {
    pub(super) fn new() -> Self {
        Self { run: VecDeque::new(), strays: BinaryHeap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.run.len() + self.strays.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, item: T) {
        if self.run.back().is_none_or(|last| *last < item) {
            self.run.push_back(item);
        } else {
            self.strays.push(Reverse(item));
        }
    }

    pub(super) fn first(&self) -> Option<&T> {
        match (self.run.front(), self.strays.peek()) {
            (Some(next), Some(Reverse(stray))) => Some(next.min(stray)),
            (next, stray) => next.or(stray.map(|Reverse(stray)| stray)),
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        match (self.run.front(), self.strays.peek()) {
            (Some(next), Some(Reverse(stray))) if stray < next => {
                self.strays.pop().map(|Reverse(stray)| stray)
            }
            (Some(_), _) => self.run.pop_front(),
            (None, _) => self.strays.pop().map(|Reverse(stray)| stray),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_out_is_the_least_that_is_in(steps in prop::collection::vec(any::<Option<u8>>(), 0..200)) {
            let (mut queue, mut all) = (Queue::new(), Vec::new());
            for step in steps {
                match step {
                    Some(item) => {
                        queue.push(item);
                        all.push(item);
                        all.sort_unstable();
                    }
                    None => {
                        prop_assert_eq!(queue.first(), all.first());
                        let least = (!all.is_empty()).then(|| all.remove(0));
                        prop_assert_eq!(queue.pop(), least);
                    }
                }
                prop_assert_eq!((queue.len(), queue.is_empty()), (all.len(), all.is_empty()));
            }
        }
    }
}
