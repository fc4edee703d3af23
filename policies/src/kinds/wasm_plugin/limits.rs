//! What a plugin may cost, and what happens when it costs more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::CompileContext;
use crate::kinds::check;
use crate::objects::GepDuration;
use crate::plugin::{Budgets, Offences};

/// What is not written has its default.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct BudgetsSpec {
    /// CPU time of one callback, 10ms to 1s; what runs for longer is ended. Default: 50ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    callback: Option<GepDuration>,
    /// CPU time of a start, 10ms to 30s. Default: 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<GepDuration>,
    /// Memory of one instance (there is one for each thread of a proxy), 1 to 1024 MiB. Default: 64.
    #[serde(default, rename = "memoryMiB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    memory_mib: Option<u32>,
    /// Calls to others at one time, of one instance. Default: 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1024))]
    calls: Option<u32>,
    /// How much of a body, or of a connection's bytes, is held for the plugin, each way, 1 to 65536 KiB. Default: 1024.
    #[serde(default, rename = "bufferKiB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65536))]
    buffer_kib: Option<u32>,
    /// Lines of log per second, of one instance. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    log_lines: Option<u32>,
}

/// After so many failures within so long the plugin is left out for a while, and the failure policy holds. Who fails again
/// at once is left out for twice as long.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuarantineSpec {
    /// 1 to 1000. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    failures: Option<u32>,
    /// 1s to 1h. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<GepDuration>,
    /// 1s to 10m. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<GepDuration>,
}

const MIB: usize = 1 << 20;

impl BudgetsSpec {
    pub(super) fn compile(&self, cx: &mut CompileContext<'_>) -> Budgets {
        let duration = |written: Option<GepDuration>, default: &str| written.or_else(|| default.parse().ok());
        let mut within = |name: &str, written: Option<u32>, default, least, most| {
            let value = written.unwrap_or(default);
            check::within(cx, &format!("/budgets/{name}"), value, least..=most);
            usize::try_from(value).unwrap_or(usize::MAX)
        };
        let memory = within("memoryMiB", self.memory_mib, 64, 1, 1024).saturating_mul(MIB);
        let calls = within("calls", self.calls, 64, 0, 1024);
        let buffer = within("bufferKiB", self.buffer_kib, 1024, 1, 65536).saturating_mul(1024);
        within("logLines", self.log_lines, 100, 0, 10_000);
        let mut time = |name: &str, written, default, bounds| {
            let written: Option<GepDuration> = duration(written, default);
            let checked = |value| check::duration_within(cx, &format!("/budgets/{name}"), value, bounds);
            written.map(checked).unwrap_or_default()
        };
        Budgets {
            callback: time("callback", self.callback, "50ms", ("10ms", "1s")),
            start: time("start", self.start, "1s", ("10ms", "30s")),
            memory,
            calls,
            buffer,
            log_lines: self.log_lines.unwrap_or(100),
        }
    }
}

impl QuarantineSpec {
    pub(super) fn compile(&self, cx: &mut CompileContext<'_>) -> Offences {
        let failures = self.failures.unwrap_or(5);
        check::within(cx, "/quarantine/failures", failures, 1..=1000);
        let mut time = |name: &str, written: Option<GepDuration>, default: &str, bounds| {
            let written = written.or_else(|| default.parse().ok());
            let checked = |value| check::duration_within(cx, &format!("/quarantine/{name}"), value, bounds);
            written.map(checked).unwrap_or_default()
        };
        Offences {
            count: usize::try_from(failures).unwrap_or(usize::MAX),
            within: time("within", self.within, "1m", ("1s", "1h")),
            quarantine: time("period", self.period, "10s", ("1s", "10m")),
        }
    }
}
