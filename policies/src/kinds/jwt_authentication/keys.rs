//! Where the keys of an issuer are written, or where it publishes them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fingerprint;
use crate::document::crd::rules;
use crate::jwt::{Jwks, KeysAt};
use crate::kind::{CompileContext, FieldError, FindText};
use crate::kinds::check;
use crate::model::{Address, Trust, Verification};
use crate::objects::GepDuration;
use crate::snapshot::TlsSettings;

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_AGE: Duration = Duration::from_secs(3600);
const STALE_FOR: Duration = Duration::from_secs(24 * 3600);
const WAIT: Duration = Duration::from_secs(1);
const PEM: &str = "-----BEGIN CERTIFICATE-----";

/// A JWK Set (RFC 7517). Write one of `inline`, `configMapRef` and `uri`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rules::exactly_one(&["inline", "configMapRef", "uri"])]))]
pub(super) struct JwksSpec {
    /// As JSON. Keys that cannot be used here are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 131_072))]
    inline: Option<String>,
    /// Where it is, in the policy's own namespace. As long as it is not there, no token of this provider holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config_map_ref: Option<ConfigMapRef>,
    /// Where the issuer publishes it: `https://…`, or `http://…` where the way there can be trusted. Each proxy fetches it, and
    /// again before it is old; a token with a key that is not known has it fetched at once, but not more than once in 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    uri: Option<String>,
    /// With `uri` by https: whose signature the server's certificate must have. Default: of the authorities that the proxy's own
    /// machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_certificates: Option<CaSpec>,
    /// With `uri`: for one fetch. Default: 5s; 100ms to 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<GepDuration>,
    /// With `uri`: they count as new for no longer; less where Cache-Control says so, but at least 30s. Default: 1h; 30s to 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age: Option<GepDuration>,
    /// With `uri`: for how long after that they are believed if no new ones can be had. Default: 24h; 0s to 720h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stale_for: Option<GepDuration>,
    /// With `uri`: how long requests wait for the first ones. Without keys those with a token get 503. Default: 1s; 0s to 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait: Option<GepDuration>,
}

/// CA certificates in PEM. Write one of `inline` and `configMapRef`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CaSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 131_072))]
    inline: Option<String>,
    /// Where they are, in the policy's own namespace. As long as they are not there, nobody is asked for keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config_map_ref: Option<ConfigMapRef>,
}

/// Where keys come from.
#[derive(Debug)]
pub(super) enum Keys {
    Written(Jwks),
    /// They are still to be found.
    Lost,
    Remote(Remote),
}

/// Keys that are to be fetched.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) at: Arc<KeysAt>,
    /// The same for the same settings.
    pub(super) fingerprint: String,
}

/// One text of a ConfigMap.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConfigMapRef {
    #[schemars(length(min = 1, max = 253))]
    name: String,
    #[schemars(length(min = 1, max = 253))]
    key: String,
}

impl JwksSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Keys> {
        if self.uri.is_none() {
            for (field, written) in [
                ("caCertificates", self.ca_certificates.is_some()),
                ("timeout", self.timeout.is_some()),
                ("maxAge", self.max_age.is_some()),
                ("staleFor", self.stale_for.is_some()),
                ("wait", self.wait.is_some()),
            ] {
                if written {
                    cx.error(format!("{at}/{field}"), format!("`{field}` goes with `uri` only"));
                }
            }
        }
        match (&self.inline, &self.config_map_ref, &self.uri) {
            (Some(text), None, None) => {
                let keys = Jwks::parse(text);
                keys.map_err(|why| cx.error(format!("{at}/inline"), why)).ok().map(Keys::Written)
            }
            (None, Some(_), None) => Some(Keys::Lost),
            (None, None, Some(uri)) => self.remote(uri, at, cx),
            _ => {
                cx.error(at, "write one of `inline`, `configMapRef` and `uri`");
                None
            }
        }
    }

    fn remote(&self, uri: &str, at: &str, cx: &mut CompileContext<'_>) -> Option<Keys> {
        let mut within = |field: &str, written: Option<GepDuration>, default: Duration, bounds| {
            let at = format!("{at}/{field}");
            written.map_or(default, |written| check::duration_within(cx, &at, written, bounds))
        };
        let timeout = within("timeout", self.timeout, TIMEOUT, ("100ms", "30s"));
        let max_age = within("maxAge", self.max_age, MAX_AGE, ("30s", "24h"));
        let stale_for = within("staleFor", self.stale_for, STALE_FOR, ("0s", "720h"));
        let wait = within("wait", self.wait, WAIT, ("0s", "10s"));
        let place = place(uri).map_err(|why| cx.error(format!("{at}/uri"), why)).ok();
        let trust = match &self.ca_certificates {
            None => Some(Trust::System),
            Some(written) => written.compile(&format!("{at}/caCertificates"), cx)?,
        };
        let Place { tls, host, path, address, name } = place?;
        if !tls && self.ca_certificates.is_some() {
            cx.error(format!("{at}/caCertificates"), "http:// knows no certificates: write https://");
        }
        // Without its authorities nobody there can be believed.
        let Some(trust) = trust else { return Some(Keys::Lost) };
        let verification = Verification { trust: Some(trust), hostname: name, alt_names: Vec::new() };
        let tls = tls.then(|| Arc::new(TlsSettings::new(verification, None)));
        let keys = KeysAt { address, host, path, tls, timeout, max_age, stale_for, wait };
        let text = serde_json::to_vec(self).ok()?;
        Some(Keys::Remote(Remote { at: Arc::new(keys), fingerprint: fingerprint(&text) }))
    }
}

impl CaSpec {
    /// `Some(None)`: they are still to be found.
    #[expect(clippy::option_option, reason = "wrong, or not there yet")]
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Option<Trust>> {
        match (&self.inline, &self.config_map_ref) {
            (Some(pem), None) if pem.contains(PEM) => Some(Some(Trust::Bundle(pem.as_bytes().into()))),
            (Some(_), None) => {
                cx.error(
                    format!("{at}/inline"),
                    format!("there is no certificate in it: it begins with `{PEM}`"),
                );
                None
            }
            (None, Some(_)) => Some(None),
            _ => {
                cx.error(at, "write one of `inline` and `configMapRef`");
                None
            }
        }
    }
}

/// The parts of an `uri`.
struct Place {
    tls: bool,
    host: Arc<str>,
    path: Arc<str>,
    address: Address,
    /// To be found in the certificate.
    name: Arc<str>,
}

fn place(uri: &str) -> Result<Place, String> {
    let parsed: Uri = uri.parse().map_err(|why| format!("`{uri}` is no URI: {why}"))?;
    let tls = match parsed.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(format!("`{uri}` begins neither with https:// nor with http://")),
    };
    let authority = parsed.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| format!("`{uri}` names no host"))?;
    if authority.as_str().contains('@') {
        return Err(String::from("whoever may read the policy would know the password: leave it out"));
    }
    let bare = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let port = match (authority.port(), authority.port_u16()) {
        (None, _) => {
            if tls {
                443
            } else {
                80
            }
        }
        (Some(_), Some(port)) if port > 0 => port,
        (Some(port), _) => return Err(format!("`{port}` is no port")),
    };
    let address = match bare.parse::<IpAddr>() {
        Ok(ip) => Address::Socket(SocketAddr::new(ip, port)),
        Err(_) => Address::Name { host: bare.as_str().into(), port },
    };
    let path = parsed.path_and_query().map_or("/", |path| path.as_str());
    Ok(Place { tls, host: authority.as_str().into(), path: path.into(), address, name: bare.into() })
}

/// Puts the sets and certificates that references lead to in their place. What leads to none stays as it is.
pub(super) fn look_up(spec: &mut Value, find: FindText<'_>) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let providers = spec.get_mut("providers").and_then(Value::as_array_mut);
    for (i, provider) in providers.into_iter().flatten().enumerate() {
        let Some(jwks) = provider.get_mut("jwks") else { continue };
        let at = format!("/providers/{i}/jwks");
        let is_set = |text: &str| Jwks::parse(text).map(drop);
        faults.extend(put(jwks, &at, find, &is_set));
        let Some(certificates) = jwks.get_mut("caCertificates") else { continue };
        let is_pem = |text: &str| match text.contains(PEM) {
            true => Ok(()),
            false => Err(String::from("there is no certificate in it")),
        };
        faults.extend(put(certificates, &format!("{at}/caCertificates"), find, &is_pem));
    }
    faults
}

/// The text that a `configMapRef` leads to, as `inline`.
fn put(
    holder: &mut Value,
    at: &str,
    find: FindText<'_>,
    check: &dyn Fn(&str) -> Result<(), String>,
) -> Option<FieldError> {
    let ConfigMapRef { name, key } = ConfigMapRef::deserialize(holder.get("configMapRef")?).ok()?;
    let found = find(&name, &key).and_then(|text| match check(&text) {
        Ok(()) => Ok(text),
        Err(why) => Err(format!("`{key}` of ConfigMap {name}: {why}")),
    });
    match found {
        Ok(text) => {
            *holder = serde_json::json!({ "inline": text });
            None
        }
        Err(message) => Some(FieldError { pointer: format!("{at}/configMapRef"), message }),
    }
}
