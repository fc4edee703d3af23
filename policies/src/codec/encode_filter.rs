use super::encode::optional;
use super::proto;
use crate::model::{Cors, HeaderModifier, Listed, PathModifier, Redirect, Rewrite, RouteFilter, WebScheme};

impl From<&RouteFilter> for proto::RouteFilter {
    fn from(filter: &RouteFilter) -> Self {
        use proto::route_filter::Filter;
        let filter = match filter {
            RouteFilter::RequestHeaders(modifier) => Filter::RequestHeaders(modifier.into()),
            RouteFilter::ResponseHeaders(modifier) => Filter::ResponseHeaders(modifier.into()),
            RouteFilter::Redirect(redirect) => Filter::Redirect(redirect.into()),
            RouteFilter::Rewrite(rewrite) => Filter::Rewrite(rewrite.into()),
            RouteFilter::Extension(policy) => Filter::Extension(proto::PolicyKey {
                kind: policy.kind.to_string(),
                name: Some((&policy.name).into()),
            }),
            RouteFilter::Invalid => Filter::Invalid(proto::InvalidFilter {}),
            RouteFilter::Cors(cors) => Filter::Cors(cors.into()),
            RouteFilter::Mirror(mirror) => Filter::Mirror(proto::Mirror {
                backend: Some((&mirror.backend).into()),
                numerator: mirror.share.numerator(),
                denominator: mirror.share.denominator(),
            }),
        };
        Self { filter: Some(filter) }
    }
}

impl From<&HeaderModifier> for proto::HeaderModifier {
    fn from(modifier: &HeaderModifier) -> Self {
        let header = |(name, value): &(http::HeaderName, http::HeaderValue)| proto::Header {
            name: name.to_string(),
            value: value.as_bytes().to_vec(),
        };
        Self {
            set: modifier.set.iter().map(header).collect(),
            add: modifier.add.iter().map(header).collect(),
            remove: modifier.remove.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&Redirect> for proto::Redirect {
    fn from(redirect: &Redirect) -> Self {
        let scheme = match redirect.scheme {
            None => proto::WebScheme::Unspecified,
            Some(WebScheme::Http) => proto::WebScheme::Http,
            Some(WebScheme::Https) => proto::WebScheme::Https,
        };
        Self {
            scheme: scheme.into(),
            hostname: optional(redirect.hostname.as_ref()),
            path: redirect.path.as_ref().map(Into::into),
            port: redirect.port.map(Into::into),
            status: redirect.status.as_u16().into(),
        }
    }
}

impl From<&Rewrite> for proto::Rewrite {
    fn from(rewrite: &Rewrite) -> Self {
        let path = rewrite.path.as_ref().map(Into::into);
        Self { hostname: optional(rewrite.hostname.as_ref()), path }
    }
}

impl From<&PathModifier> for proto::PathModifier {
    fn from(modifier: &PathModifier) -> Self {
        use proto::path_modifier::Kind;
        let kind = match modifier {
            PathModifier::Full(path) => Kind::Full(path.to_string()),
            PathModifier::Prefix { matched, replacement } => Kind::Prefix(proto::PrefixModifier {
                matched: matched.to_string(),
                replacement: replacement.to_string(),
            }),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&Cors> for proto::Cors {
    fn from(cors: &Cors) -> Self {
        Self {
            origins: listed(&cors.origins),
            credentials: cors.credentials,
            methods: listed(&cors.methods),
            headers: listed(&cors.headers),
            expose: listed(&cors.expose),
            max_age: cors.max_age,
        }
    }
}

fn listed<T: ToString>(list: &Listed<T>) -> Vec<String> {
    match list {
        Listed::All => vec![String::from("*")],
        Listed::Only(items) => items.iter().map(ToString::to_string).collect(),
    }
}
