//! What is asked for: of requests all of it, of connections that are carried only the port and the server name.

use http::{HeaderName, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contradiction;
use super::rule::{Asked, at_most, each};
use super::truth::Truth;
use crate::kind::CompileContext;
use crate::kinds::key::Templates;
use crate::matching::authority;
use crate::matching::target::{decoded, normalize_path};
use crate::model::HostPattern;

/// All that is written must fit: of each list, one entry.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct OperationSpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    methods: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    paths: Vec<PathSpec>,
    /// `shop.example.com` or `*.example.com`, without port. Where connections are carried: whom the client asks for by TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    headers: Vec<HeaderSpec>,
    /// Where it arrives: at a gateway the port of the listener, at a sidecar that of its application.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(range(min = 1)))]
    ports: Vec<u16>,
    /// None of this may fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not: Option<NotOperationSpec>,
}

/// As the lists of the same names beside it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NotOperationSpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    methods: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    paths: Vec<PathSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    headers: Vec<HeaderSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(range(min = 1)))]
    ports: Vec<u16>,
}

/// Write one of `exact`, `prefix` and `template`; without the query. Paths are compared in the form in which routes match them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PathSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    exact: Option<String>,
    /// By whole elements: `/admin` is also that of `/admin/users`, and not of `/administration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    prefix: Option<String>,
    /// `/users/{id}/orders`, where `{…}` or `*` is any one element, and `**` at the end is all that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    template: Option<String>,
}

/// Write one of `exact`, `prefix` and `present`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HeaderSpec {
    #[schemars(length(min = 1, max = 256))]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    exact: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    prefix: Option<String>,
    /// Whatever it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
}

/// An operation that has passed validation.
#[derive(Debug)]
pub(super) struct Operation {
    fits: Parts,
    not: Parts,
}

#[derive(Debug, Default)]
struct Parts {
    methods: Box<[Method]>,
    paths: Box<[PathMatch]>,
    hosts: Box<[HostPattern]>,
    headers: Box<[HeaderMatch]>,
    ports: Box<[u16]>,
}

#[derive(Debug)]
enum PathMatch {
    Exact(Box<str>),
    /// Without a slash at its end.
    Prefix(Box<str>),
    Template(Templates),
}

#[derive(Debug)]
struct HeaderMatch {
    name: HeaderName,
    value: ValueMatch,
}

#[derive(Debug)]
enum ValueMatch {
    Exact(Box<str>),
    Prefix(Box<str>),
    Present,
}

const MOST: usize = 64;
const MOST_FEW: usize = 32;

type Lists<'s> = (&'s [String], &'s [PathSpec], &'s [String], &'s [HeaderSpec], &'s [u16]);

impl OperationSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Operation> {
        let none = NotOperationSpec::default();
        let not = self.not.as_ref().unwrap_or(&none);
        let lists: [Lists<'_>; 2] = [
            (&self.methods, &self.paths, &self.hosts, &self.headers, &self.ports),
            (&not.methods, &not.paths, &not.hosts, &not.headers, &not.ports),
        ];
        let is_empty = |(a, b, c, d, e): &Lists<'_>| {
            a.is_empty() && b.is_empty() && c.is_empty() && d.is_empty() && e.is_empty()
        };
        if lists.iter().all(is_empty) {
            cx.error(at, "it says nothing: write what is asked for, or leave it out for everything");
        }
        contradiction::excluded(cx, at, "methods", (&self.methods, &not.methods));
        contradiction::excluded(cx, at, "paths", (&self.paths, &not.paths));
        contradiction::excluded(cx, at, "hosts", (&self.hosts, &not.hosts));
        contradiction::excluded(cx, at, "headers", (&self.headers, &not.headers));
        contradiction::excluded(cx, at, "ports", (&self.ports, &not.ports));
        let [fits, not] = lists;
        let (fits, not) = (parts(fits, at, cx), parts(not, &format!("{at}/not"), cx));
        Some(Operation { fits: fits?, not: not? })
    }
}

fn parts(
    (methods, paths, hosts, headers, ports): Lists<'_>,
    at: &str,
    cx: &mut CompileContext<'_>,
) -> Option<Parts> {
    for (field, count, most) in [
        ("methods", methods.len(), MOST_FEW),
        ("paths", paths.len(), MOST),
        ("hosts", hosts.len(), MOST),
        ("headers", headers.len(), MOST_FEW),
        ("ports", ports.len(), MOST),
    ] {
        at_most(cx, &format!("{at}/{field}"), count, most);
    }
    let methods = each(cx, &format!("{at}/methods"), methods, |name| method(name));
    let paths = each(cx, &format!("{at}/paths"), paths, PathSpec::compile);
    let hosts = each(cx, &format!("{at}/hosts"), hosts, |host| match HostPattern::parse(host) {
        Ok(HostPattern::Any) => Err(String::from("an empty host is nobody's")),
        parsed => parsed.map_err(|why| why.to_string()),
    });
    let headers = each(cx, &format!("{at}/headers"), headers, HeaderSpec::compile);
    let ports = each(cx, &format!("{at}/ports"), ports, |port| match port {
        0 => Err(String::from("nothing arrives at port 0")),
        port => Ok(*port),
    });
    Some(Parts { methods: methods?, paths: paths?, hosts: hosts?, headers: headers?, ports: ports? })
}

/// Methods are told apart by case (RFC 9110, 9.1), so one in lower case is a slip that would match nothing.
fn method(name: &str) -> Result<Method, String> {
    let upper = name.to_ascii_uppercase();
    match Method::try_from(name) {
        Ok(method) if upper == name => Ok(method),
        Ok(_) => Err(format!("`{name}` is a method that nobody sends: write {upper}")),
        Err(_) => Err(format!("`{name}` is no method")),
    }
}

impl PathSpec {
    fn compile(&self) -> Result<PathMatch, String> {
        let normal = |text: &str| {
            if !text.starts_with('/') {
                return Err(format!("`{text}` does not begin with `/`"));
            }
            normalize_path(text).map(|path| path.into_owned()).map_err(|why| format!("`{text}`: {why}"))
        };
        match (&self.exact, &self.prefix, &self.template) {
            (Some(text), None, None) => Ok(PathMatch::Exact(normal(text)?.into())),
            (None, Some(text), None) => Ok(PathMatch::Prefix(normal(text)?.trim_end_matches('/').into())),
            (None, None, Some(text)) => {
                let one = Templates::new(std::slice::from_ref(text));
                one.map(PathMatch::Template).map_err(|(_, why)| why)
            }
            _ => Err(String::from("write one of `exact`, `prefix` and `template`")),
        }
    }
}

impl HeaderSpec {
    fn compile(&self) -> Result<HeaderMatch, String> {
        let name = HeaderName::try_from(&self.name);
        let name = name.map_err(|_| format!("`{}` is not the name of a header", self.name))?;
        let value = match (&self.exact, &self.prefix, self.present) {
            (Some(text), None, None) => ValueMatch::Exact(text.as_str().into()),
            (None, Some(text), None) => ValueMatch::Prefix(text.as_str().into()),
            (None, None, Some(true)) => ValueMatch::Present,
            (None, None, Some(false)) => {
                return Err(String::from("for a header that is not there write it under `not`"));
            }
            _ => return Err(String::from("write one of `exact`, `prefix` and `present`")),
        };
        Ok(HeaderMatch { name, value })
    }
}

impl Operation {
    pub(super) fn fits(&self, asked: &Asked<'_>) -> Truth {
        let fits = Truth::all(self.fits.each(asked).into_iter().flatten());
        fits.and(|| Truth::all(self.not.each(asked).into_iter().flatten().map(|one| !one)))
    }

    /// Whether it asks for what only requests have.
    pub(super) fn is_of_requests(&self) -> bool {
        let of =
            |parts: &Parts| !parts.methods.is_empty() || !parts.paths.is_empty() || !parts.headers.is_empty();
        of(&self.fits) || of(&self.not)
    }
}

impl Parts {
    /// Whether each list that is written has one that fits.
    fn each(&self, asked: &Asked<'_>) -> [Option<Truth>; 5] {
        let head = asked.request.as_ref().map(|facts| facts.head);
        let of = |wanted: bool, fits: &dyn Fn(&http::request::Parts) -> Truth| {
            wanted.then(|| head.map_or(Truth::Unknown, fits))
        };
        let ports = (!self.ports.is_empty())
            .then(|| asked.port.map_or(Truth::Unknown, |port| self.ports.contains(&port).into()));
        [
            ports,
            of(!self.methods.is_empty(), &|head| self.methods.contains(&head.method).into()),
            (!self.hosts.is_empty()).then(|| self.host(asked)),
            of(!self.paths.is_empty(), &|head| self.path(head.uri.path())),
            of(!self.headers.is_empty(), &|head| Truth::any(self.headers.iter().map(|one| one.fits(head)))),
        ]
    }

    fn host(&self, asked: &Asked<'_>) -> Truth {
        let fits = |host: &str| self.hosts.iter().any(|wanted| wanted.matches(host)).into();
        match (&asked.request, asked.server_name) {
            (Some(facts), _) => authority(facts.head).map_or(Truth::Unknown, |asked| fits(&asked.host)),
            (None, Some(name)) => fits(&name.to_ascii_lowercase()),
            (None, None) => Truth::Unknown,
        }
    }

    /// Where servers differ over what a path means, so may what was meant by the rule.
    fn path(&self, path: &str) -> Truth {
        let fits = |path: &str| self.paths.iter().any(|wanted| wanted.fits(path));
        let own = fits(path);
        match decoded(path) {
            Some(other) if fits(&other) != own => Truth::Unknown,
            _ => own.into(),
        }
    }
}

impl PathMatch {
    fn fits(&self, path: &str) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *path,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && !prefix.is_empty())),
            Self::Template(template) => template.of(path).is_some(),
        }
    }
}

impl HeaderMatch {
    /// Of several values, servers take the first, the last or all: if not all of them fit, nobody can tell.
    fn fits(&self, head: &http::request::Parts) -> Truth {
        let (mut any, mut all) = (false, true);
        for value in head.headers.get_all(&self.name) {
            let fits = self.value.fits(value.as_bytes());
            (any, all) = (any || fits, all && fits);
        }
        match (any, all) {
            (true, true) => Truth::Yes,
            (true, false) => Truth::Unknown,
            (false, _) => Truth::No,
        }
    }
}

impl ValueMatch {
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => wanted.as_bytes() == value,
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            Self::Present => true,
        }
    }
}
