//! `scope: Mesh`: one budget for all proxies, of which the control plane lends each a share. Requests spend what is here and
//! wait for nobody; the shell carries reports and assignments ([`Leases`]).

mod bucket;
mod leases;
mod served;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_quota::{Fallback, Limit, Rate, Share, Terms};

use super::exact::Written;
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::objects::GepDuration;

pub(super) use bucket::{LentBucket, LentBuckets};
pub use leases::{Leases, Standing};
pub use served::QuotaLimits;

/// How a policy with `scope: Mesh` goes on without the control plane.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct MeshSpec {
    /// How long a proxy that is cut off keeps the share it has, 1s to 1h. That long the shares of proxies that ended without a
    /// word are of no use to others, and so are all new ones after a restart of the control plane. Default: 4s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep_share: Option<GepDuration>,
    /// Of each limit, what each proxy lets through by itself before it has a share and after it lost it, in percent.
    /// Default: 10. 0 refuses everything then; 100 is the whole limit at each proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    fallback_percent: Option<u32>,
}

/// The same, valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mesh {
    keep: Duration,
    percent: u32,
}

/// Without a word for so long, a proxy counts as cut off.
const TTL: Duration = Duration::from_secs(2);
const KEEP: Duration = Duration::from_secs(4);
const PERCENT: u32 = 10;

impl Mesh {
    pub(super) fn compile(written: Option<&MeshSpec>, cx: &mut CompileContext<'_>) -> Self {
        let keep = written.and_then(|mesh| mesh.keep_share);
        let keep = keep.map(|keep| check::duration_within(cx, "/mesh/keepShare", keep, ("1s", "1h")));
        let percent = written.and_then(|mesh| mesh.fallback_percent).unwrap_or(PERCENT);
        check::within(cx, "/mesh/fallbackPercent", percent, 0..=100);
        Self { keep: keep.unwrap_or(KEEP), percent }
    }

    fn fallback(self) -> Fallback {
        Fallback::Share(Share::billionths(u64::from(self.percent) * 10_000_000))
    }

    fn terms(self) -> Terms {
        Terms { ttl: TTL, reuse: self.keep }
    }

    fn limit(self, written: Written) -> Limit {
        Limit { rate: rate(written), terms: self.terms() }
    }
}

fn rate(Written { requests, per, burst }: Written) -> Rate {
    Rate { requests: requests.get().into(), per, burst: burst.get().into() }
}
