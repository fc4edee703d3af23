//! Whether something matches, where that cannot always be told (Kleene's logic).
//!
//! What a rule asks for may not be there: an expression fails, or requests are asked about where only bytes are carried. Guessing
//! either way would open something: what counts as no match opens a Deny rule, what counts as one opens an Allow rule. So it
//! stays unknown up to the rule, whose action says against whom it counts.

/// In this order `and` is the least and `or` the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Truth {
    No,
    Unknown,
    Yes,
}

impl Truth {
    pub(super) fn and(self, other: impl FnOnce() -> Self) -> Self {
        if self == Self::No { self } else { self.min(other()) }
    }

    /// Of none: yes.
    pub(super) fn all(each: impl Iterator<Item = Self>) -> Self {
        let mut all = Self::Yes;
        for one in each {
            all = all.min(one);
            if all == Self::No {
                break;
            }
        }
        all
    }

    /// Of none: no.
    pub(super) fn any(each: impl Iterator<Item = Self>) -> Self {
        let mut any = Self::No;
        for one in each {
            any = any.max(one);
            if any == Self::Yes {
                break;
            }
        }
        any
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
            Self::Yes => Self::No,
        }
    }
}
