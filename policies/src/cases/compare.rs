use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use http::header::{HOST, LOCATION};
use http::{HeaderMap, request};

use super::Mismatch;
use super::format::{Then, ThenRequest};
use super::play::{Observed, Whither};
use super::world::World;
use crate::document::ObjectKey;
use crate::model::BackendName;

/// How far a share may be off, in points; nothing and all are exact.
const TOLERANCE: f64 = 3.0;

/// What a comparison is about.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: Arc<str>,
    pub(super) case: String,
    pub(super) line: u32,
}

/// What did not come out as it was written.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) place: Place,
    pub(super) all: Vec<Mismatch>,
}

impl Findings {
    pub(super) fn new(place: Place) -> Self {
        Self { place, all: Vec::new() }
    }

    pub(super) fn told(&mut self, field: impl Into<String>, expected: String, got: String) {
        let Place { file, case, line } = self.place.clone();
        self.all.push(Mismatch { file, line, case, field: field.into(), expected, got });
    }

    /// What is written is compared with what is there; `none` names its absence.
    fn same<T: PartialEq + Display>(&mut self, field: &str, expected: Option<&T>, got: Option<&T>) {
        if expected.is_some() && expected != got {
            let text = |value: Option<&T>| value.map_or_else(|| String::from("none"), ToString::to_string);
            self.told(field, text(expected), text(got));
        }
    }

    /// Each expected error is there, and no other.
    pub(super) fn errors(&mut self, expected: &[String], got: &[String]) {
        for part in expected.iter().filter(|part| !got.iter().any(|error| error.contains(&***part))) {
            self.told("errors", part.clone(), if got.is_empty() { "none".into() } else { got.join("; ") });
        }
        for error in got.iter().filter(|error| !expected.iter().any(|part| error.contains(&**part))) {
            self.told("errors", String::from("none like it"), error.clone());
        }
    }

    pub(super) fn conditions(
        &mut self,
        expected: &BTreeMap<String, BTreeMap<String, String>>,
        world: &World,
    ) {
        for (object, reasons) in expected {
            let told = told_of(object, world);
            for (kind, reason) in reasons {
                let got: Vec<_> = told.iter().filter(|(k, _)| k == kind).map(|(_, r)| r.as_str()).collect();
                if !got.contains(&reason.as_str()) {
                    let got = if got.is_empty() { String::from("none") } else { got.join(", ") };
                    self.told(format!("conditions of {object}: {kind}"), reason.clone(), got);
                }
            }
        }
    }

    pub(super) fn step(&mut self, then: &Then, observed: &Observed) {
        let seen = &observed.last;
        self.same("route", then.route.as_ref(), seen.route.as_ref());
        self.same("rule", then.rule.as_ref(), seen.rule.as_ref());
        if let Some(expected) = &then.backend
            && !seen.backend.as_ref().is_some_and(|backend| is_called(backend, expected))
        {
            let why = seen.reason.map_or("none", |reason| reason.flag());
            let got = seen.backend.as_ref().map_or_else(|| why.to_owned(), ToString::to_string);
            self.told("backend", expected.clone(), got);
        }
        self.shares(&then.shares, observed);
        self.same("endpoint", then.endpoint.as_ref(), seen.endpoint.as_ref());
        for (name, percent) in &then.endpoints {
            let count = observed.endpoints.get(name).copied().unwrap_or_default();
            self.share(&format!("endpoints.{name}"), *percent, (count, observed.times));
        }
        self.same("status", then.status.as_ref(), Some(&seen.response.status.as_u16()));
        let reason = seen.reason.map(|reason| reason.flag().to_owned());
        self.same("reason", then.reason.as_ref(), reason.as_ref());
        self.same("grpc", then.grpc.as_ref(), seen.grpc.as_ref());
        self.same("attempts", then.attempts.as_ref(), Some(&seen.attempts));
        self.headers("headers", (&then.headers, &then.without), &seen.response.headers);
        let location = value(&seen.response.headers, LOCATION.as_str());
        self.same("location", then.location.as_ref(), location.as_ref());
        if let Some(expected) = &then.request {
            match &seen.forwarded {
                Some(head) => self.request(expected, head),
                None => self.told("request", String::from("a request to a backend"), String::from("none")),
            }
        }
        self.lists(then, observed);
    }

    fn lists(&mut self, then: &Then, observed: &Observed) {
        let seen = &observed.last;
        if let Some(expected) = &then.mirrors {
            let same = expected.len() == seen.mirrors.len()
                && expected.iter().zip(&seen.mirrors).all(|(name, backend)| is_called(backend, name));
            if !same {
                let got: Vec<_> = seen.mirrors.iter().map(ToString::to_string).collect();
                self.told("mirrors", expected.join(", "), got.join(", "));
            }
        }
        if let Some(expected) = &then.decisions {
            let same = expected.len() == seen.decisions.len()
                && expected.iter().zip(&seen.decisions).all(|(words, got)| got.starts_with(&**words));
            if !same {
                self.told("decisions", expected.join(", "), seen.decisions.join(", "));
            }
        }
    }

    fn shares(&mut self, expected: &BTreeMap<String, f64>, observed: &Observed) {
        for (name, percent) in expected {
            let is_meant = |whither: &Whither| match whither {
                Whither::Backend(backend) => is_called(backend, name),
                Whither::Status(status) => status.to_string() == *name,
            };
            let counts = observed.counts.iter().filter(|(whither, _)| is_meant(whither));
            let count: u32 = counts.map(|(_, count)| count).sum();
            self.share(&format!("shares.{name}"), *percent, (count, observed.times));
        }
    }

    fn share(&mut self, field: &str, percent: f64, (count, times): (u32, u32)) {
        let got = f64::from(count) * 100.0 / f64::from(times);
        let exact = percent == 0.0 || percent == 100.0;
        let off = (got - percent).abs();
        if off > TOLERANCE || (exact && off > 0.0) {
            self.told(field, format!("{percent} %"), format!("{got} %"));
        }
    }

    fn request(&mut self, then: &ThenRequest, head: &request::Parts) {
        self.same("request.path", then.path.as_ref(), Some(&head.uri.to_string()));
        self.same("request.host", then.host.as_ref(), value(&head.headers, HOST.as_str()).as_ref());
        self.headers("request.headers", (&then.headers, &then.without), &head.headers);
    }

    fn headers(
        &mut self,
        field: &str,
        (expected, without): (&BTreeMap<String, String>, &[String]),
        got: &HeaderMap,
    ) {
        for (name, expected) in expected {
            self.same(&format!("{field}.{name}"), Some(expected), value(got, name).as_ref());
        }
        for name in without {
            if let Some(got) = value(got, name) {
                self.told(format!("{field}.{name}"), String::from("none"), got);
            }
        }
    }
}

/// All fields of a name, joined with commas.
fn value(headers: &HeaderMap, name: &str) -> Option<String> {
    let fields: Vec<_> =
        headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect();
    (!fields.is_empty()).then(|| fields.join(","))
}

/// Whether people would call the backend by this name.
fn is_called(backend: &BackendName, name: &str) -> bool {
    let object = name.rsplit_once(':').map_or(name, |(object, _)| object);
    let port = name.rsplit_once(':').map(|(_, port)| port);
    let same_port = port.is_none_or(|port| port == backend.port.to_string());
    same_port && (*object == *backend.object.name || object == backend.object.to_string())
}

/// Type and reason of everything that is said about an object, in words of the case.
fn told_of(object: &str, world: &World) -> Vec<(String, String)> {
    let (kind, name) = object.split_once(' ').unwrap_or((object, ""));
    if kind == "Listener" {
        return told_of_listener(name, world);
    }
    let is_meant = |key: &&ObjectKey| {
        key.kind == kind && (key.name == name || format!("{}/{}", key.namespace, key.name) == name)
    };
    let found = world.resolved.conditions.iter().filter(|(key, _)| is_meant(key));
    let conditions = found.flat_map(|(_, conditions)| conditions);
    conditions.map(|condition| (condition.kind.to_owned(), condition.reason.to_owned())).collect()
}

/// `gateway/listener`.
fn told_of_listener(name: &str, world: &World) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for (gateway, listeners) in &world.resolved.listeners {
        for listener in listeners.iter().filter(|l| format!("{}/{}", gateway.name, l.name) == name) {
            let conditions = listener.conditions.iter();
            told.extend(conditions.map(|c| (c.kind.to_owned(), c.reason.to_owned())));
            told.push((String::from("attachedRoutes"), listener.attached_routes.to_string()));
        }
    }
    told
}
