use std::ops::AddAssign;

/// What a lookup took, counted and not timed: the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Matches whose every part was compared with the request.
    pub candidates: u32,
    /// Steps in the index: elements of the path, headers and parameters looked up.
    pub steps: u32,
}

impl Work {
    pub const fn total(self) -> u32 {
        self.candidates.saturating_add(self.steps)
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.candidates = self.candidates.saturating_add(other.candidates);
        self.steps = self.steps.saturating_add(other.steps);
    }
}
