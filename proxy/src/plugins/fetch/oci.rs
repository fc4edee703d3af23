//! A module out of an OCI registry: a manifest, then the one layer that is a module, each known by its digest.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>; tokens as in
//! <https://distribution.github.io/distribution/spec/auth/token/>; which layer it is as in
//! <https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tidegate_policy::plugin::Image;

use super::web::{self, Got};
use super::{MAX_MODULE, hex};

const MAX_MANIFEST: usize = 1 << 20;
const MANIFESTS: HeaderValue = HeaderValue::from_static(
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
);
const MODULE_TYPES: [&str; 2] = ["application/vnd.module.wasm.content.layer.v1+wasm", "application/wasm"];

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    digest: String,
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

/// What docker writes of registries.
#[derive(Deserialize)]
struct Credentials {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

struct Registry<'a> {
    image: &'a Image,
    /// `Basic`, with whatever follows.
    basic: Option<HeaderValue>,
    /// What a registry wants to be told, once it has said so.
    told: Option<HeaderValue>,
}

/// # Errors
/// Why there is no module, in words.
pub(super) async fn pull(image: &Image, credentials: Option<&str>) -> Result<Vec<u8>, String> {
    let basic = match credentials {
        Some(file) => basic(file, &image.registry)?,
        None => None,
    };
    let mut registry = Registry { image, basic, told: None };
    let manifest = registry.get("manifests", &image.reference, MAX_MANIFEST).await?;
    if image.reference.starts_with("sha256:") {
        verified(&manifest, &image.reference)?;
    }
    let manifest: Manifest =
        serde_json::from_slice(&manifest).map_err(|error| format!("not a manifest of an image: {error}"))?;
    let layer = match &*manifest.layers {
        [only] => only,
        several => several
            .iter()
            .find(|layer| MODULE_TYPES.contains(&layer.media_type.as_str()))
            .ok_or_else(|| format!("none of {} layers is a module", several.len()))?,
    };
    let module = registry.get("blobs", &layer.digest, MAX_MODULE).await?;
    verified(&module, &layer.digest)?;
    if module.starts_with(&[0x1f, 0x8b]) {
        return Err(format!(
            "the layer is an archive ({}); push the module itself, with media type {}",
            layer.media_type, MODULE_TYPES[0]
        ));
    }
    Ok(module)
}

impl Registry<'_> {
    async fn get(&mut self, what: &str, reference: &str, most: usize) -> Result<Vec<u8>, String> {
        let Image { registry, repository, plain, .. } = self.image;
        let scheme = if *plain { "http" } else { "https" };
        let url = format!("{scheme}://{registry}/v2/{repository}/{what}/{reference}");
        let mut got = self.ask(&url, most).await?;
        if got.status == StatusCode::UNAUTHORIZED && self.told.is_none() {
            self.told = Some(self.introduced(&got.headers).await?);
            got = self.ask(&url, most).await?;
        }
        if got.status != StatusCode::OK {
            return Err(format!("{url}: status {}", got.status.as_u16()));
        }
        Ok(got.body)
    }

    async fn ask(&self, url: &str, most: usize) -> Result<Got, String> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, MANIFESTS);
        if let Some(told) = &self.told {
            headers.insert(AUTHORIZATION, told.clone());
        }
        web::ask(url, &headers, most).await
    }

    /// What the registry wants: the name itself, or a token from whom it says.
    async fn introduced(&self, answer: &HeaderMap) -> Result<HeaderValue, String> {
        let registry = &self.image.registry;
        let challenge =
            answer.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return self.basic.clone().ok_or_else(|| format!("{registry} wants a name and a password"));
        }
        let parameter = |name: &str| {
            let parameters = parameters.split(',').filter_map(|part| part.trim().split_once('='));
            let mut named = parameters.filter(|(own, _)| own.eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| value.trim_matches('"'))
        };
        let realm = parameter("realm")
            .ok_or_else(|| format!("{registry} refuses, and does not say what it wants"))?;
        if !self.image.plain && !realm.starts_with("https://") {
            return Err(format!("{registry} wants a token from {realm}, without TLS"));
        }
        let service = parameter("service").unwrap_or_default();
        let scope = format!("repository:{}:pull", self.image.repository);
        let url = format!("{realm}?service={service}&scope={scope}");
        let mut headers = HeaderMap::new();
        if let Some(basic) = &self.basic {
            headers.insert(AUTHORIZATION, basic.clone());
        }
        let got = web::ask(&url, &headers, MAX_MANIFEST).await?;
        if got.status != StatusCode::OK {
            return Err(format!("{realm} gives no token: status {}", got.status.as_u16()));
        }
        let Token { token } =
            serde_json::from_slice(&got.body).map_err(|_| format!("{realm} gives no token"))?;
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| format!("{realm} gives no token"))
    }
}

fn verified(bytes: &[u8], digest: &str) -> Result<(), String> {
    let found: [u8; 32] = Sha256::digest(bytes).into();
    let found = format!("sha256:{}", hex(&found));
    if found == digest { Ok(()) } else { Err(format!("what came is {found}, and {digest} was asked for")) }
}

fn basic(file: &str, registry: &str) -> Result<Option<HeaderValue>, String> {
    let read = std::fs::read(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let credentials: Credentials =
        serde_json::from_slice(&read).map_err(|_| format!("{file} is not what `docker login` writes"))?;
    let host = |name: &str| {
        let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
        name.split('/').next().unwrap_or(name) == registry
    };
    let Some((_, auth)) = credentials.auths.iter().find(|(name, _)| host(name)) else { return Ok(None) };
    let encoded = match (&auth.auth, &auth.username, &auth.password) {
        (Some(encoded), _, _) => encoded.clone(),
        (None, Some(name), Some(password)) => STANDARD.encode(format!("{name}:{password}")),
        _ => return Ok(None),
    };
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))
        .map_err(|_| format!("{file}: no header can hold that"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
