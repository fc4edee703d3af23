//! `shares`: tenants that count for more than one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::CompileContext;
use crate::kinds::check;
use crate::kinds::key::KeySpec;
use crate::overload::MOST_WEIGHT;

const MOST: usize = 1_000;

/// A tenant's part of the service.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShareSpec {
    /// One value for each part of `tenant`, in order, as its requests have them.
    #[schemars(length(min = 1, max = 8))]
    tenant: Vec<String>,
    /// Against those of others; a tenant that is not written here has 1.
    #[schemars(range(min = 1, max = 1000))]
    weight: u32,
}

pub(super) fn compile(
    written: &[ShareSpec],
    tenant: &[KeySpec],
    cx: &mut CompileContext<'_>,
) -> Box<[(Vec<String>, u32)]> {
    if written.is_empty() {
        return Box::default();
    }
    if tenant.is_empty() {
        cx.error("/shares", "all requests are of one tenant: write `tenant`, what tells them apart");
    }
    if let Some(i) = tenant.iter().position(|part| !part.is_text()) {
        cx.error(format!("/tenant/{i}"), "a client address cannot be written in `shares`: use another type");
    }
    if written.len() > MOST {
        cx.error("/shares", format!("{} tenants: write at most {MOST}", written.len()));
    }
    for (i, share) in written.iter().enumerate() {
        let at = format!("/shares/{i}");
        check::within(cx, &format!("{at}/weight"), share.weight, 1..=MOST_WEIGHT);
        if share.tenant.len() != tenant.len() {
            let message = format!("{} values: `tenant` has {} parts", share.tenant.len(), tenant.len());
            cx.error(format!("{at}/tenant"), message);
        }
        if written[..i].iter().any(|other| other.tenant == share.tenant) {
            cx.error(format!("{at}/tenant"), "the same tenant is written twice");
        }
    }
    written.iter().map(|share| (share.tenant.clone(), share.weight)).collect()
}
