//! From whom: the peer that mTLS verified, and the address.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::block::Block;
use super::contradiction;
use super::rule::{Asked, at_most, each};
use super::truth::Truth;
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::kinds::key::ClientAddress;
use crate::model::Identity;

/// All that is written must fit: of each list, one entry.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SourceSpec {
    /// SPIFFE ids. `{prefix: "spiffe://"}` is whoever has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    identities: Vec<IdentitySpec>,
    /// Of the peer, as its SPIFFE id says (`spiffe://…/ns/NAMESPACE/sa/…`), whatever its trust domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    namespaces: Vec<String>,
    /// `namespace/name`, or `name` in the policy's own namespace; as the SPIFFE id says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 317)))]
    service_accounts: Vec<String>,
    /// Addresses, or blocks of them such as 10.0.0.0/8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 43)))]
    ip_blocks: Vec<String>,
    /// For `ipBlocks`: how many proxies before this one are trusted to have told in x-forwarded-for from whom a request
    /// came. Default 0: the address is that of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 16))]
    trusted_hops: Option<u8>,
    /// None of this may fit. Of a peer that is not known, nobody can tell that it is not one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not: Option<NotSourceSpec>,
}

/// As the lists of the same names beside it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NotSourceSpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    identities: Vec<IdentitySpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    namespaces: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 317)))]
    service_accounts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 43)))]
    ip_blocks: Vec<String>,
}

/// Write one of `exact`, `prefix` and `trustDomain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IdentitySpec {
    /// `spiffe://cluster.local/ns/shop/sa/checkout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    exact: Option<String>,
    /// By whole elements: `spiffe://cluster.local/ns/shop` is not that of `…/ns/shopping/…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    prefix: Option<String>,
    /// `cluster.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    trust_domain: Option<String>,
}

/// A source that has passed validation.
#[derive(Debug)]
pub(super) struct Source {
    fits: Peers,
    not: Peers,
    address: ClientAddress,
}

#[derive(Debug, Default)]
struct Peers {
    identities: Box<[IdentityMatch]>,
    namespaces: Box<[Box<str>]>,
    /// Namespace and name.
    accounts: Box<[(Box<str>, Box<str>)]>,
    blocks: Box<[Block]>,
}

#[derive(Debug)]
enum IdentityMatch {
    Exact(Box<str>),
    Prefix(Box<str>),
    TrustDomain(Box<str>),
}

const MOST: usize = 64;
const MOST_BLOCKS: usize = 256;
const SCHEME: &str = "spiffe://";

type Lists<'s> = (&'s [IdentitySpec], &'s [String], &'s [String], &'s [String]);

impl SourceSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Source> {
        let hops = self.trusted_hops.unwrap_or(0);
        check::within(cx, &format!("{at}/trustedHops"), hops.into(), 0..=16);
        let none = NotSourceSpec::default();
        let not = self.not.as_ref().unwrap_or(&none);
        let written = [self.lists(), not.lists()];
        let is_empty =
            |(a, b, c, d): &Lists<'_>| a.is_empty() && b.is_empty() && c.is_empty() && d.is_empty();
        if written.iter().all(is_empty) {
            cx.error(at, "it says nothing: write whom it is, or leave it out for everybody");
        }
        if self.trusted_hops.is_some() && self.ip_blocks.is_empty() && not.ip_blocks.is_empty() {
            cx.error(format!("{at}/trustedHops"), "`trustedHops` goes with `ipBlocks` only");
        }
        contradiction::excluded(cx, at, "identities", (&self.identities, &not.identities));
        contradiction::excluded(cx, at, "namespaces", (&self.namespaces, &not.namespaces));
        contradiction::excluded(cx, at, "serviceAccounts", (&self.service_accounts, &not.service_accounts));
        contradiction::excluded(cx, at, "ipBlocks", (&self.ip_blocks, &not.ip_blocks));
        let [fits, not] = written;
        let fits = peers(fits, at, cx);
        let not = peers(not, &format!("{at}/not"), cx);
        let source = Source { fits: fits?, not: not?, address: ClientAddress::past(hops) };
        if source.fits.is_nobody() {
            let message = "nobody is all of this: no `exact` identity has one of the namespaces and service accounts beside it";
            cx.error(at, message);
        }
        Some(source)
    }

    fn lists(&self) -> Lists<'_> {
        (&self.identities, &self.namespaces, &self.service_accounts, &self.ip_blocks)
    }
}

impl NotSourceSpec {
    fn lists(&self) -> Lists<'_> {
        (&self.identities, &self.namespaces, &self.service_accounts, &self.ip_blocks)
    }
}

fn peers(
    (identities, namespaces, accounts, blocks): Lists<'_>,
    at: &str,
    cx: &mut CompileContext<'_>,
) -> Option<Peers> {
    for (field, count) in [
        ("identities", identities.len()),
        ("namespaces", namespaces.len()),
        ("serviceAccounts", accounts.len()),
    ] {
        at_most(cx, &format!("{at}/{field}"), count, MOST);
    }
    at_most(cx, &format!("{at}/ipBlocks"), blocks.len(), MOST_BLOCKS);
    let own = cx.policy().name.namespace.clone();
    let identities = each(cx, &format!("{at}/identities"), identities, IdentitySpec::compile);
    let namespaces = each(cx, &format!("{at}/namespaces"), namespaces, |name| {
        is_segment(name).then(|| name.as_str().into()).ok_or_else(|| format!("`{name}` is no namespace"))
    });
    let accounts = each(cx, &format!("{at}/serviceAccounts"), accounts, |text| account(text, &own));
    let blocks = each(cx, &format!("{at}/ipBlocks"), blocks, |text| Block::parse(text));
    Some(Peers { identities: identities?, namespaces: namespaces?, accounts: accounts?, blocks: blocks? })
}

fn account(text: &str, own: &Arc<str>) -> Result<(Box<str>, Box<str>), String> {
    let (namespace, name) = text.split_once('/').unwrap_or((own, text));
    if is_segment(namespace) && is_segment(name) {
        return Ok((namespace.into(), name.into()));
    }
    Err(format!("`{text}` is no service account: write `namespace/name`, or `name`"))
}

/// As it may stand between the slashes of a SPIFFE id (SPIFFE-ID 2.2).
fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

impl IdentitySpec {
    fn compile(&self) -> Result<IdentityMatch, String> {
        let id = |text: &str| match text.strip_prefix(SCHEME) {
            Some(_) => Ok(text.into()),
            None => Err(format!("`{text}` is no SPIFFE id: it begins with `{SCHEME}`")),
        };
        match (&self.exact, &self.prefix, &self.trust_domain) {
            (Some(text), None, None) if text == SCHEME => Err(String::from("an id names its trust domain")),
            (Some(text), None, None) => id(text).map(IdentityMatch::Exact),
            (None, Some(text), None) => id(text).map(IdentityMatch::Prefix),
            (None, None, Some(domain)) if is_segment(domain) => {
                Ok(IdentityMatch::TrustDomain(domain.as_str().into()))
            }
            (None, None, Some(domain)) => {
                Err(format!("`{domain}` is no trust domain: write its name alone, such as cluster.local"))
            }
            _ => Err(String::from("write one of `exact`, `prefix` and `trustDomain`")),
        }
    }
}

impl Source {
    pub(super) fn fits(&self, asked: &Asked<'_>) -> Truth {
        let fits = self.fits.each(asked, self.address, Truth::No);
        let not = self.not.each(asked, self.address, Truth::Unknown);
        Truth::all(fits.into_iter().flatten()).and(|| Truth::all(not.into_iter().flatten().map(|one| !one)))
    }
}

impl Peers {
    /// Whether each list that is written has one that fits. `stranger`: of a peer that is not known.
    fn each(&self, asked: &Asked<'_>, address: ClientAddress, stranger: Truth) -> [Option<Truth>; 4] {
        let id = asked.peer.identity.as_ref().map(Known::of);
        let of = |wanted: bool, fits: &dyn Fn(&Known<'_>) -> bool| {
            wanted.then(|| id.as_ref().map_or(stranger, |id| Truth::from(fits(id))))
        };
        [
            of(!self.identities.is_empty(), &|id| self.identities.iter().any(|wanted| wanted.fits(id))),
            of(!self.namespaces.is_empty(), &|id| id.is_in(&self.namespaces)),
            of(!self.accounts.is_empty(), &|id| id.is_one_of(&self.accounts)),
            (!self.blocks.is_empty()).then(|| match asked.address(address) {
                Some(ip) => self.blocks.iter().any(|block| block.contains(ip)).into(),
                None => Truth::Unknown,
            }),
        ]
    }

    /// Whether its lists leave nobody over, as far as that can be told.
    fn is_nobody(&self) -> bool {
        let exact = |wanted: &IdentityMatch| match wanted {
            IdentityMatch::Exact(id) => Some(Identity((**id).into())),
            IdentityMatch::Prefix(_) | IdentityMatch::TrustDomain(_) => None,
        };
        let named: Option<Vec<_>> = self.identities.iter().map(exact).collect();
        let fits = |known: &Known<'_>| {
            (self.namespaces.is_empty() || known.is_in(&self.namespaces))
                && (self.accounts.is_empty() || known.is_one_of(&self.accounts))
        };
        match named {
            Some(named) if !named.is_empty() => !named.iter().any(|id| fits(&Known::of(id))),
            _ => {
                let inside = |(namespace, _): &(Box<str>, Box<str>)| self.namespaces.contains(namespace);
                let both = !self.namespaces.is_empty() && !self.accounts.is_empty();
                both && !self.accounts.iter().any(inside)
            }
        }
    }
}

/// A peer by the parts of its SPIFFE id.
struct Known<'a> {
    id: &'a str,
    domain: &'a str,
    /// Namespace and service account.
    workload: Option<(&'a str, &'a str)>,
}

impl<'a> Known<'a> {
    /// `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT` and nothing after it; of another form, there is but the domain.
    fn of(identity: &'a Identity) -> Self {
        let id = &*identity.0;
        let rest = id.strip_prefix(SCHEME).unwrap_or_default();
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut parts = path.split('/');
        let parts = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
        let workload = match parts {
            [Some("ns"), Some(namespace), Some("sa"), Some(account), None] => Some((namespace, account)),
            _ => None,
        };
        Self { id, domain, workload }
    }

    fn is_in(&self, namespaces: &[Box<str>]) -> bool {
        self.workload.is_some_and(|(own, _)| namespaces.iter().any(|wanted| **wanted == *own))
    }

    fn is_one_of(&self, accounts: &[(Box<str>, Box<str>)]) -> bool {
        let is =
            |(namespace, account): &(Box<str>, Box<str>)| self.workload == Some((&**namespace, &**account));
        accounts.iter().any(is)
    }
}

impl IdentityMatch {
    fn fits(&self, known: &Known<'_>) -> bool {
        match self {
            Self::Exact(id) => **id == *known.id,
            Self::Prefix(prefix) => known
                .id
                .strip_prefix(&**prefix)
                .is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')),
            Self::TrustDomain(domain) => **domain == *known.domain,
        }
    }
}

/// What the address is, if it can be told.
impl Asked<'_> {
    fn address(&self, whose: ClientAddress) -> Option<std::net::IpAddr> {
        match &self.request {
            Some(facts) => Some(whose.ip(facts.head, self.peer)),
            // What proxies before us have told is in requests.
            None if whose != ClientAddress::default() => None,
            None => Some(self.peer.address.ip()),
        }
    }
}
