//! Which of the fields that a proxy must look at a head has, found in one walk over its names: a look-up for each of them
//! costs several times as much, and most heads have few.

use std::ops::BitOr;

use http::header::{
    CONNECTION, CONTENT_TYPE, COOKIE, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName};

/// A set of names. What it knows is true of the moment of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Names(u32);

impl Names {
    pub(crate) const CONNECTION: Self = Self(1);
    pub(crate) const TE: Self = Self(1 << 1);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 2);
    pub(crate) const UPGRADE: Self = Self(1 << 3);
    pub(crate) const PROXY_AUTHENTICATE: Self = Self(1 << 4);
    pub(crate) const PROXY_AUTHORIZATION: Self = Self(1 << 5);
    pub(crate) const KEEP_ALIVE: Self = Self(1 << 6);
    pub(crate) const PROXY_CONNECTION: Self = Self(1 << 7);
    pub(crate) const HOST: Self = Self(1 << 8);
    pub(crate) const COOKIE: Self = Self(1 << 9);
    pub(crate) const CONTENT_TYPE: Self = Self(1 << 10);
    pub(crate) const X_FORWARDED_FOR: Self = Self(1 << 11);
    pub(crate) const X_FORWARDED_PROTO: Self = Self(1 << 12);
    pub(crate) const X_REQUEST_ID: Self = Self(1 << 13);
    pub(crate) const X_TIDEGATE_ATTEMPT: Self = Self(1 << 14);
    pub(crate) const TRACEPARENT: Self = Self(1 << 15);
    pub(crate) const X_TIDEGATE_REASON: Self = Self(1 << 16);
    pub(crate) const X_TIDEGATE_EXPLAIN: Self = Self(1 << 17);

    const NONE: Self = Self(0);
    /// Of this hop only (RFC 9110, section 7.6.1).
    pub(crate) const HOP_BY_HOP: Self = Self(0xff);

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::NONE, |all, name| all | Self::named(name))
    }

    /// Whether at least one of `wanted` is there.
    pub(crate) fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 != 0
    }

    fn named(name: &HeaderName) -> Self {
        match *name {
            CONNECTION => Self::CONNECTION,
            TE => Self::TE,
            TRANSFER_ENCODING => Self::TRANSFER_ENCODING,
            UPGRADE => Self::UPGRADE,
            PROXY_AUTHENTICATE => Self::PROXY_AUTHENTICATE,
            PROXY_AUTHORIZATION => Self::PROXY_AUTHORIZATION,
            HOST => Self::HOST,
            COOKIE => Self::COOKIE,
            CONTENT_TYPE => Self::CONTENT_TYPE,
            _ => Self::extension(name.as_str()),
        }
    }

    /// Names that the `http` crate does not know, told apart by their length first.
    fn extension(name: &str) -> Self {
        let (known, found) = match name.len() {
            10 => ("keep-alive", Self::KEEP_ALIVE),
            11 => ("traceparent", Self::TRACEPARENT),
            12 => ("x-request-id", Self::X_REQUEST_ID),
            15 => ("x-forwarded-for", Self::X_FORWARDED_FOR),
            16 => ("proxy-connection", Self::PROXY_CONNECTION),
            17 => return Self::of_seventeen(name),
            18 => return Self::of_eighteen(name),
            _ => return Self::NONE,
        };
        if name == known { found } else { Self::NONE }
    }

    fn of_eighteen(name: &str) -> Self {
        match name {
            "x-tidegate-attempt" => Self::X_TIDEGATE_ATTEMPT,
            "x-tidegate-explain" => Self::X_TIDEGATE_EXPLAIN,
            _ => Self::NONE,
        }
    }

    fn of_seventeen(name: &str) -> Self {
        match name {
            "x-forwarded-proto" => Self::X_FORWARDED_PROTO,
            "x-tidegate-reason" => Self::X_TIDEGATE_REASON,
            _ => Self::NONE,
        }
    }
}

impl BitOr for Names {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers::{
        KEEP_ALIVE, PROXY_CONNECTION, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_REQUEST_ID,
    };
    use crate::upstream::X_TIDEGATE_ATTEMPT;
    use http::HeaderValue;

    #[test]
    fn every_name_is_found_and_taken_for_no_other() {
        let known = [
            (CONNECTION, Names::CONNECTION),
            (TE, Names::TE),
            (TRANSFER_ENCODING, Names::TRANSFER_ENCODING),
            (UPGRADE, Names::UPGRADE),
            (PROXY_AUTHENTICATE, Names::PROXY_AUTHENTICATE),
            (PROXY_AUTHORIZATION, Names::PROXY_AUTHORIZATION),
            (KEEP_ALIVE, Names::KEEP_ALIVE),
            (PROXY_CONNECTION, Names::PROXY_CONNECTION),
            (HOST, Names::HOST),
            (COOKIE, Names::COOKIE),
            (CONTENT_TYPE, Names::CONTENT_TYPE),
            (X_FORWARDED_FOR, Names::X_FORWARDED_FOR),
            (X_FORWARDED_PROTO, Names::X_FORWARDED_PROTO),
            (X_REQUEST_ID, Names::X_REQUEST_ID),
            (X_TIDEGATE_ATTEMPT, Names::X_TIDEGATE_ATTEMPT),
            (HeaderName::from_static("traceparent"), Names::TRACEPARENT),
            (HeaderName::from_static("x-tidegate-reason"), Names::X_TIDEGATE_REASON),
            (HeaderName::from_static("x-tidegate-explain"), Names::X_TIDEGATE_EXPLAIN),
        ];
        let mut headers = HeaderMap::new();
        let mut all = Names::NONE;
        for (name, want) in known {
            assert_eq!(Names::named(&name), want, "{name}");
            assert!(!all.has(want), "{name}: two names share a bit");
            headers.insert(name, HeaderValue::from_static("x"));
            all = all | want;
        }
        assert_eq!(Names::of(&headers), all);
        for stranger in ["x-request-ib", "accept", "keep-alivx", "x-forwarded-host"] {
            assert_eq!(Names::named(&HeaderName::from_static(stranger)), Names::NONE, "{stranger}");
        }
    }
}
