//! Names of workloads (SPIFFE-ID, section 2), in the form that service meshes give them:
//! `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID, section 2.3.
const MAX_ID: usize = 2_048;
/// The same, section 2.1; that of a DNS name.
const MAX_DOMAIN: usize = 255;
/// Of a Kubernetes name.
const MAX_SEGMENT: usize = 253;

/// Whose authority names workloads, e.g. `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustDomain(Arc<str>);

/// A workload's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    pub trust_domain: TrustDomain,
    pub namespace: Arc<str>,
    pub service_account: Arc<str>,
}

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("a trust domain has lower case letters, digits, `.`, `-` and `_`")]
    TrustDomain,
    #[error("a namespace and a service account have letters, digits, `.`, `-` and `_`")]
    Segment,
    #[error("write spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
    Form,
}

impl TrustDomain {
    /// Where nobody says another one.
    pub const DEFAULT: &'static str = "cluster.local";

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if text.is_empty() || text.len() > MAX_DOMAIN || !text.bytes().all(fits) {
            return Err(BadName::TrustDomain);
        }
        Ok(Self(text.into()))
    }
}

impl SpiffeId {
    /// # Errors
    /// The namespace or the service account cannot be in a name.
    pub fn new(trust_domain: TrustDomain, namespace: &str, service_account: &str) -> Result<Self, BadName> {
        if !is_segment(namespace) || !is_segment(service_account) {
            return Err(BadName::Segment);
        }
        Ok(Self { trust_domain, namespace: namespace.into(), service_account: service_account.into() })
    }

    /// The control plane's own name. No join token is for it.
    pub fn control_plane(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, namespace: "tidegate-system".into(), service_account: "tidegate".into() }
    }

    /// Whether it is the control plane's, in whichever trust domain.
    pub fn is_control_plane(&self) -> bool {
        *self == Self::control_plane(self.trust_domain.clone())
    }
}

/// One segment of the path (section 2.2).
fn is_segment(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !matches!(text, "" | "." | "..") && text.len() <= MAX_SEGMENT && text.bytes().all(fits)
}

impl FromStr for SpiffeId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.len() > MAX_ID {
            return Err(BadName::Form);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(BadName::Form)?;
        let mut parts = rest.split('/');
        let mut next = || parts.next().ok_or(BadName::Form);
        let (domain, ns, namespace, sa, account) = (next()?, next()?, next()?, next()?, next()?);
        if (ns, sa) != ("ns", "sa") || parts.next().is_some() {
            return Err(BadName::Form);
        }
        Self::new(domain.parse()?, namespace, account)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, namespace, service_account } = self;
        write!(f, "{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(domain in "[a-z0-9._-]{1,20}", ns in "[a-z0-9-]{1,20}", sa in "[a-zA-Z0-9._-]{1,20}") {
            prop_assume!(!matches!(&*sa, "." | ".."));
            let id = SpiffeId::new(domain.parse().unwrap(), &ns, &sa).unwrap();
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn what_is_read_is_what_was_written(text in "(spiffe://)?[a-zA-Z/.%?#@:_-]{0,40}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn names_that_could_be_taken_for_others_are_refused() {
        for text in [
            "spiffe://a/ns/x/sa/y/z",
            "spiffe://a/ns/../sa/y",
            "spiffe://a/ns//sa/y",
            "spiffe://A/ns/x/sa/y",
            "spiffe://a/ns/x%2fy/sa/z",
            "spiffe://a@b/ns/x/sa/y",
            "spiffe://a:80/ns/x/sa/y",
            "spiffe://a/ns/x/sa/y?z",
            "https://a/ns/x/sa/y",
            "spiffe://a/sa/x/ns/y",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }
}
