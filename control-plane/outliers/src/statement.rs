//! What one proxy says of one endpoint.

use std::time::Duration;

/// See the module. Each replaces the one before, so that one may be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// How long ago its last success was; `None`: there was none.
    pub success: Option<Duration>,
    /// It fails at present.
    pub failing: Option<Failing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Failures since the last success.
    pub failures: u32,
    /// How long ago the first of them was.
    pub age: Duration,
    /// The proxy's own breaker holds it back, for whatever reason it is told to.
    pub ejected: bool,
}
