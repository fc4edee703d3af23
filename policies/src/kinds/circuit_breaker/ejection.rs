//! The bounds of ejection as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::health::EjectionLimits;
use crate::kind::CompileContext;
use crate::kinds::check;

/// An endpoint is ejected while one of its breakers is open or half-open. What would be too much stays in use, and its status
/// says why it should not be.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EjectionSpec {
    /// At most so many percent of the endpoints that take calls, rounded down; where it is written, one of several in any case.
    /// Those that health checks find unhealthy take of it, too, but are called no sooner for it. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    max_percent: Option<u32>,
    /// While less than so many percent of the endpoints are left, neither ejected nor unhealthy, all are called that health
    /// checks let be called, ejected or not. Default: 0, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    panic_percent: Option<u32>,
    /// Default: Keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_endpoint: Option<LastEndpoint>,
}

/// What becomes of the last endpoint that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum LastEndpoint {
    /// It is called, however it does.
    Keep,
    /// It is ejected as any other, as far as `maxPercent` goes; the only endpoint of a backend in any case.
    Eject,
}

impl EjectionSpec {
    pub(super) fn compile(self, cx: &mut CompileContext<'_>) -> EjectionLimits {
        let usual = EjectionLimits::default();
        let mut percent = |field: &str, value: Option<u32>, least: u32, usual: u8| {
            let Some(value) = value else { return usual };
            check::within(cx, &format!("/ejection/{field}"), value, least..=100);
            u8::try_from(value).unwrap_or(100)
        };
        EjectionLimits {
            max_percent: percent("maxPercent", self.max_percent, 1, usual.max_percent),
            panic_percent: percent("panicPercent", self.panic_percent, 0, usual.panic_percent),
            at_least_one: self.max_percent.is_some(),
            last_too: self.last_endpoint == Some(LastEndpoint::Eject),
        }
    }
}
