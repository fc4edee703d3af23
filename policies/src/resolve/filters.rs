//! The filters of a rule or a backendRef, compiled.

use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::extensions::Level;
use super::rules::{Finder, header_name};
use crate::model::{
    Cors, HeaderModifier, HostPattern, Listed, Mirror, PathMatch, PathModifier, Redirect, Rewrite,
    RouteFilter, RouteMatch, Share, WebScheme,
};
use crate::objects::{
    CorsSpec, FilterType, HeaderModifierSpec, HeaderPair, HttpFilterSpec, MirrorSpec, PathModifierSpec,
    PathModifierType, RedirectSpec, SchemeSpec,
};

/// The prefix that `ReplacePrefixMatch` replaces.
pub(super) fn only_prefix(matches: &[RouteMatch]) -> Option<&Arc<str>> {
    match matches {
        [RouteMatch { path: PathMatch::Prefix(prefix), .. }] => Some(prefix),
        _ => None,
    }
}

/// `prefix` as from [`only_prefix`]; `at`: where the rule or the backendRef is written. A mirror whose backend cannot be
/// used is left out, as specified; a policy that cannot is not, for it must not be skipped.
///
/// # Errors
/// What cannot be carried out.
pub(super) fn filters(
    finder: &mut Finder<'_, '_>,
    (level, at): (Level, &str),
    written: &[HttpFilterSpec],
    prefix: Option<&Arc<str>>,
) -> Result<Vec<RouteFilter>, String> {
    let mut filters = Vec::new();
    for (i, filter) in written.iter().enumerate() {
        let at = format!("{at}/filters/{i}");
        match filter.kind {
            FilterType::RequestMirror => {
                let written = settings(filter.request_mirror.as_ref(), filter.kind)?;
                let share = share(written)?;
                let backend = finder.backend(&at, &written.backend_ref.as_backend_ref());
                filters.extend(backend.ok().map(|backend| RouteFilter::Mirror(Mirror { backend, share })));
            }
            FilterType::ExtensionRef => {
                let written = settings(filter.extension_ref.as_ref(), filter.kind)?;
                let policy = finder.policy(&at, (level, &filters), written);
                filters.push(policy.map_or(RouteFilter::Invalid, RouteFilter::Extension));
            }
            _ => filters.push(compiled(filter, prefix)?),
        }
    }
    Ok(filters)
}

fn compiled(filter: &HttpFilterSpec, prefix: Option<&Arc<str>>) -> Result<RouteFilter, String> {
    match filter.kind {
        FilterType::RequestHeaderModifier => {
            modifier(settings(filter.request_header_modifier.as_ref(), filter.kind)?)
                .map(RouteFilter::RequestHeaders)
        }
        FilterType::ResponseHeaderModifier => {
            modifier(settings(filter.response_header_modifier.as_ref(), filter.kind)?)
                .map(RouteFilter::ResponseHeaders)
        }
        FilterType::RequestRedirect => {
            let written = settings(filter.request_redirect.as_ref(), filter.kind)?;
            redirect(written, prefix).map(RouteFilter::Redirect)
        }
        FilterType::UrlRewrite => {
            let written = settings(filter.url_rewrite.as_ref(), filter.kind)?;
            let hostname = written.hostname.as_deref().map(hostname).transpose()?;
            let path = written.path.as_ref().map(|path| path_modifier(path, prefix)).transpose()?;
            Ok(RouteFilter::Rewrite(Rewrite { hostname, path }))
        }
        FilterType::Cors => cors(settings(filter.cors.as_ref(), filter.kind)?).map(RouteFilter::Cors),
        other => Err(format!("the filter {other:?} is not supported")),
    }
}

fn share(written: &MirrorSpec) -> Result<Share, String> {
    let (numerator, denominator) = match (written.percent, written.fraction) {
        (None, None) => return Ok(Share::ALL),
        (Some(percent), None) => (percent, 100),
        (None, Some(fraction)) => (fraction.numerator, fraction.denominator),
        (Some(_), Some(_)) => return Err(String::from("a mirror with percent and fraction")),
    };
    Share::new(numerator, denominator).ok_or_else(|| format!("{numerator} of {denominator} is no share"))
}

fn settings<T>(written: Option<&T>, kind: FilterType) -> Result<&T, String> {
    written.ok_or_else(|| format!("a {kind:?} without its settings"))
}

fn redirect(written: &RedirectSpec, prefix: Option<&Arc<str>>) -> Result<Redirect, String> {
    let status = StatusCode::from_u16(written.status_code);
    Ok(Redirect {
        scheme: written.scheme.map(|scheme| match scheme {
            SchemeSpec::Http => WebScheme::Http,
            SchemeSpec::Https => WebScheme::Https,
        }),
        hostname: written.hostname.as_deref().map(hostname).transpose()?,
        path: written.path.as_ref().map(|path| path_modifier(path, prefix)).transpose()?,
        port: written.port,
        status: status.map_err(|_| format!("{} is not a status", written.status_code))?,
    })
}

fn cors(written: &CorsSpec) -> Result<Cors, String> {
    /// What a browser keeps a preflight for, unless told otherwise.
    const MAX_AGE: u32 = 5;
    Ok(Cors {
        origins: listed(&written.allow_origins)?,
        credentials: written.allow_credentials,
        methods: listed(&written.allow_methods)?,
        headers: listed(&written.allow_headers)?,
        expose: listed(&written.expose_headers)?,
        max_age: written.max_age.unwrap_or(MAX_AGE),
    })
}

fn listed<T: FromStr<Err: ToString>>(written: &[String]) -> Result<Listed<T>, String> {
    if written.iter().any(|item| item == "*") {
        return Ok(Listed::All);
    }
    let items = written.iter().map(|item| item.parse().map_err(|error: T::Err| error.to_string()));
    items.collect::<Result<_, _>>().map(Listed::Only)
}

fn hostname(text: &str) -> Result<Arc<str>, String> {
    match HostPattern::parse(text) {
        Ok(HostPattern::Exact(name)) => Ok(name),
        _ => Err(format!("`{text}` is not one host")),
    }
}

fn path_modifier(written: &PathModifierSpec, prefix: Option<&Arc<str>>) -> Result<PathModifier, String> {
    let missing = || format!("a {:?} without its path", written.kind);
    match written.kind {
        PathModifierType::ReplaceFullPath => {
            let path = written.replace_full_path.as_deref().ok_or_else(missing)?;
            Ok(PathModifier::Full(path.into()))
        }
        PathModifierType::ReplacePrefixMatch => {
            let replacement = written.replace_prefix_match.as_deref().ok_or_else(missing)?;
            let matched = prefix.ok_or_else(|| String::from("ReplacePrefixMatch without one prefix"))?;
            let replacement = replacement.trim_end_matches('/').into();
            Ok(PathModifier::Prefix { matched: matched.clone(), replacement })
        }
    }
}

fn modifier(written: &HeaderModifierSpec) -> Result<HeaderModifier, String> {
    Ok(HeaderModifier {
        set: written.set.iter().map(pair).collect::<Result<_, _>>()?,
        add: written.add.iter().map(pair).collect::<Result<_, _>>()?,
        remove: written.remove.iter().map(|name| header_name(name)).collect::<Result<_, _>>()?,
    })
}

fn pair(written: &HeaderPair) -> Result<(HeaderName, HeaderValue), String> {
    let value = HeaderValue::from_str(&written.value);
    let value = value.map_err(|_| format!("`{}` cannot be a header's value", written.value))?;
    Ok((header_name(&written.name)?, value))
}
