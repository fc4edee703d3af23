//! What a schema cannot say about filters: which belong together, and what their values must be.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::super::Faults;
use super::super::rules::{Reference, check_distinct, check_hostname};
use super::check::{check_backend, check_header_name};
use super::filters::is_request_path;
use super::{
    CorsSpec, ExtensionRefSpec, FilterType, HeaderModifierSpec, HeaderPair, HttpFilterSpec, HttpRule,
    MatchMethod, MirrorSpec, PathMatchType, PathModifierSpec, PathModifierType, REDIRECT_STATUSES,
    RedirectSpec, RewriteSpec,
};
use crate::model::OriginPattern;

/// Where filters are written.
#[derive(Clone, Copy)]
pub(super) struct Site {
    /// The rule has exactly one match, and that is a PathPrefix.
    pub(super) one_prefix: bool,
    /// These are a rule's filters, and the rule has backendRefs.
    pub(super) backends: bool,
}

impl Site {
    pub(super) fn of(rule: &HttpRule) -> Self {
        let one_prefix = match rule.matches.as_slice() {
            // Nothing written means one PathPrefix.
            [] => true,
            [only] => only.path.kind == PathMatchType::PathPrefix,
            _ => false,
        };
        Self { one_prefix, backends: !rule.backend_refs.is_empty() }
    }
}

pub(super) fn check_filters(at: &str, filters: &[HttpFilterSpec], site: Site, faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (i, filter) in filters.iter().enumerate() {
        let at = format!("{at}/filters/{i}");
        let repeatable = matches!(filter.kind, FilterType::RequestMirror | FilterType::ExtensionRef);
        if !seen.insert(filter.kind) && !repeatable {
            faults.error(&at, format!("a second {} filter: put all changes in one", filter.kind.name()));
        }
        check_filter(&at, filter, site, faults);
        if filter.kind == FilterType::RequestRedirect && site.backends {
            faults.error_with_help(
                &at,
                "a rule that redirects sends nothing to its backendRefs",
                "remove the backendRefs, or the filter",
            );
        }
    }
    if seen.contains(&FilterType::RequestRedirect) && seen.contains(&FilterType::UrlRewrite) {
        faults.error(format!("{at}/filters"), "URLRewrite and RequestRedirect cannot be used together");
    }
}

fn check_filter(at: &str, filter: &HttpFilterSpec, site: Site, faults: &mut Faults) {
    let fields = filter.fields();
    let Some((_, own, present)) = fields.iter().find(|(kind, ..)| *kind == filter.kind) else {
        return faults.unsupported(format!("{at}/type"), &format!("the filter {}", filter.kind.name()));
    };
    if !present {
        faults.error(at, format!("a filter of type {} needs `{own}`", filter.kind.name()));
    }
    for (_, field, _) in fields.iter().filter(|(kind, _, present)| *kind != filter.kind && *present) {
        let message = format!("does not belong in a filter of type {}", filter.kind.name());
        faults.error(format!("{at}/{field}"), message);
    }
    let at = format!("{at}/{own}");
    match filter.kind {
        FilterType::RequestHeaderModifier => {
            check_some(filter.request_header_modifier.as_ref(), |m| check_modifier(&at, m, faults));
        }
        FilterType::ResponseHeaderModifier => {
            check_some(filter.response_header_modifier.as_ref(), |m| check_modifier(&at, m, faults));
        }
        FilterType::RequestRedirect => {
            check_some(filter.request_redirect.as_ref(), |r| check_redirect(&at, r, site, faults));
        }
        FilterType::UrlRewrite => {
            check_some(filter.url_rewrite.as_ref(), |r| check_rewrite(&at, r, site, faults));
        }
        FilterType::Cors => check_some(filter.cors.as_ref(), |c| check_cors(&at, c, faults)),
        FilterType::RequestMirror => {
            check_some(filter.request_mirror.as_ref(), |m| check_mirror(&at, m, faults));
        }
        FilterType::ExtensionRef => check_some(filter.extension_ref.as_ref(), |extension| {
            let ExtensionRefSpec { group, kind, .. } = extension;
            Reference { group, kind, namespace: None }.check(&at, faults);
        }),
        FilterType::ExternalAuth => {}
    }
}

fn check_some<T>(value: Option<T>, check: impl FnOnce(T)) {
    if let Some(value) = value {
        check(value);
    }
}

fn check_redirect(at: &str, redirect: &RedirectSpec, site: Site, faults: &mut Faults) {
    if !REDIRECT_STATUSES.contains(&redirect.status_code) {
        let message = format!("{} does not redirect", redirect.status_code);
        faults.error_with_help(format!("{at}/statusCode"), message, "use one of 301, 302, 303, 307, 308");
    }
    check_precise_hostname(at, redirect.hostname.as_deref(), faults);
    check_some(redirect.path.as_ref(), |path| check_path_modifier(at, path, site, faults));
}

fn check_rewrite(at: &str, rewrite: &RewriteSpec, site: Site, faults: &mut Faults) {
    check_precise_hostname(at, rewrite.hostname.as_deref(), faults);
    check_some(rewrite.path.as_ref(), |path| check_path_modifier(at, path, site, faults));
}

fn check_precise_hostname(at: &str, hostname: Option<&str>, faults: &mut Faults) {
    let Some(hostname) = hostname else { return };
    let at = format!("{at}/hostname");
    if hostname.starts_with("*.") {
        faults.error(at, format!("`{hostname}` is not one host: a wildcard cannot be used here"));
    } else {
        check_hostname(&at, hostname, faults);
    }
}

fn check_path_modifier(at: &str, path: &PathModifierSpec, site: Site, faults: &mut Faults) {
    let at = format!("{at}/path");
    let (full, prefix) = (&path.replace_full_path, &path.replace_prefix_match);
    let (field, wanted, other_field, other) = match path.kind {
        PathModifierType::ReplaceFullPath => ("replaceFullPath", full, "replacePrefixMatch", prefix),
        PathModifierType::ReplacePrefixMatch => ("replacePrefixMatch", prefix, "replaceFullPath", full),
    };
    match wanted {
        None => faults.error(&at, format!("type {:?} needs `{field}`", path.kind)),
        Some(value) if value.is_empty() || is_request_path(value) => {}
        Some(value) => faults.error(
            format!("{at}/{field}"),
            format!("`{value}` is not a path: it must begin with `/` and hold no query"),
        ),
    }
    if other.is_some() {
        faults.error(format!("{at}/{other_field}"), format!("does not belong in type {:?}", path.kind));
    }
    if path.kind == PathModifierType::ReplacePrefixMatch && !site.one_prefix {
        faults.error_with_help(
            format!("{at}/type"),
            "ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix",
            "give each match a rule of its own",
        );
    }
}

fn check_cors(at: &str, cors: &CorsSpec, faults: &mut Faults) {
    let origin = |text: &str| text.parse::<OriginPattern>().map(drop).map_err(|invalid| invalid.to_string());
    check_list(&format!("{at}/allowOrigins"), &cors.allow_origins, origin, faults);
    let method = |text: &str| match MatchMethod::deserialize(StrDeserializer::<ValueError>::new(text)) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("`{text}` is not a method of HTTP: methods are written in upper case")),
    };
    check_list(&format!("{at}/allowMethods"), &cors.allow_methods, method, faults);
    let header = |text: &str| match text.parse::<HeaderName>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("`{text}` is not a header name")),
    };
    check_list(&format!("{at}/allowHeaders"), &cors.allow_headers, header, faults);
    // Here the CRD lets `*` have company.
    let exposed = |text: &str| if text == "*" { Ok(()) } else { header(text) };
    check_items(&format!("{at}/exposeHeaders"), &cors.expose_headers, exposed, faults);
}

fn check_mirror(at: &str, mirror: &MirrorSpec, faults: &mut Faults) {
    check_backend(&format!("{at}/backendRef"), &mirror.backend_ref.as_backend_ref(), faults);
    let Some(fraction) = mirror.fraction else { return };
    if mirror.percent.is_some() {
        faults.error(format!("{at}/fraction"), "write either `percent` or `fraction`, not both");
    }
    if fraction.numerator > fraction.denominator {
        let message = format!("{} of {} is more than all", fraction.numerator, fraction.denominator);
        faults.error(format!("{at}/fraction"), message);
    }
}

/// `*` stands alone.
fn check_list(at: &str, list: &[String], check: impl Fn(&str) -> Result<(), String>, faults: &mut Faults) {
    if let Some(i) = list.iter().position(|item| item == "*" && list.len() > 1) {
        faults.error(format!("{at}/{i}"), "`*` allows everything: nothing else can stand beside it");
    }
    check_items(at, list, |item| if item == "*" { Ok(()) } else { check(item) }, faults);
}

fn check_items(at: &str, list: &[String], check: impl Fn(&str) -> Result<(), String>, faults: &mut Faults) {
    for (i, item) in list.iter().enumerate() {
        if let Err(message) = check(item) {
            faults.error(format!("{at}/{i}"), message);
        }
    }
    check_distinct(at, list, "", faults);
}

fn check_modifier(at: &str, modifier: &HeaderModifierSpec, faults: &mut Faults) {
    check_pairs(&format!("{at}/set"), &modifier.set, faults);
    check_pairs(&format!("{at}/add"), &modifier.add, faults);
    for (i, name) in modifier.remove.iter().enumerate() {
        check_header_name(&format!("{at}/remove/{i}"), name, faults);
    }
    check_distinct(&format!("{at}/remove"), &modifier.remove, "", faults);
}

fn check_pairs(at: &str, pairs: &[HeaderPair], faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (i, pair) in pairs.iter().enumerate() {
        check_header_name(&format!("{at}/{i}/name"), &pair.name, faults);
        if HeaderValue::from_str(&pair.value).is_err() {
            faults.error(format!("{at}/{i}/value"), "holds a character that headers cannot carry");
        }
        if !seen.insert(pair.name.to_ascii_lowercase()) {
            faults.error(format!("{at}/{i}/name"), format!("`{}` is written twice", pair.name));
        }
    }
}

impl HttpFilterSpec {
    /// The field of every kind that is done, and whether it was written.
    fn fields(&self) -> [(FilterType, &'static str, bool); 7] {
        use FilterType::{RequestHeaderModifier, RequestRedirect, ResponseHeaderModifier, UrlRewrite};
        let (request, response) = (&self.request_header_modifier, &self.response_header_modifier);
        [
            (RequestHeaderModifier, "requestHeaderModifier", request.is_some()),
            (ResponseHeaderModifier, "responseHeaderModifier", response.is_some()),
            (RequestRedirect, "requestRedirect", self.request_redirect.is_some()),
            (UrlRewrite, "urlRewrite", self.url_rewrite.is_some()),
            (FilterType::Cors, "cors", self.cors.is_some()),
            (FilterType::RequestMirror, "requestMirror", self.request_mirror.is_some()),
            (FilterType::ExtensionRef, "extensionRef", self.extension_ref.is_some()),
        ]
    }
}

impl FilterType {
    /// As in `type:` of the document.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RequestHeaderModifier => "RequestHeaderModifier",
            Self::ResponseHeaderModifier => "ResponseHeaderModifier",
            Self::RequestMirror => "RequestMirror",
            Self::RequestRedirect => "RequestRedirect",
            Self::UrlRewrite => "URLRewrite",
            Self::Cors => "CORS",
            Self::ExternalAuth => "ExternalAuth",
            Self::ExtensionRef => "ExtensionRef",
        }
    }
}
