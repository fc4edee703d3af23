//! Where HTTP/3 is to be had, as HTTP/1 and HTTP/2 tell it (RFC 7838, RFC 9114 section 3.1).

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustc_hash::FxHashMap;
use tidegate_policy::snapshot::BindAddress;

/// How long a client may remember it, in seconds: one whose memory fails it takes TCP.
const MAX_AGE: u32 = 24 * 60 * 60;

/// The value of `alt-svc`, for each socket beside which there is one for HTTP/3.
#[derive(Debug, Default)]
pub(crate) struct Adverts(ArcSwap<FxHashMap<BindAddress, HeaderValue>>);

impl Adverts {
    pub(crate) fn of(&self, bind: BindAddress) -> Option<HeaderValue> {
        self.0.load().get(&bind).cloned()
    }

    /// HTTP/3 is on `port` of the same host now.
    pub(crate) fn set(&self, bind: BindAddress, port: u16) {
        let Ok(value) = HeaderValue::try_from(format!("h3=\":{port}\"; ma={MAX_AGE}")) else { return };
        self.0.rcu(|all| {
            let mut all = FxHashMap::clone(all);
            all.insert(bind, value.clone());
            all
        });
    }

    pub(crate) fn remove(&self, bind: BindAddress) {
        self.0.rcu(|all| {
            let mut all = FxHashMap::clone(all);
            all.remove(&bind);
            all
        });
    }
}
