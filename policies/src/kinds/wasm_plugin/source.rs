//! Where a module comes from. What is fetched is known by its digest, so that nobody on the way can put another in its place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::CompileContext;
use crate::plugin::{Image, Source};

/// One of the three.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceSpec {
    /// Of a module on the proxy's disk, an absolute path. When it changes, the plugin is loaded anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oci: Option<OciSpec>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HttpSpec {
    /// `https://…`, or `http://…`.
    #[schemars(length(min = 1, max = 2048))]
    url: String,
    /// Of the module, in hex.
    #[schemars(length(min = 64, max = 64))]
    sha256: String,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OciSpec {
    /// `registry/repository:tag` or `registry/repository@sha256:…`, with the registry's host.
    #[schemars(length(min = 1, max = 1024))]
    image: String,
    /// Of the module, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64))]
    sha256: Option<String>,
    /// A file on the proxy's disk that holds the credentials for the registry, as `docker login` writes it: a mounted pull
    /// secret. Default: nobody is told who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    credentials_file: Option<String>,
    /// Without TLS. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    plain_http: bool,
}

impl SourceSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Source> {
        match (&self.file, &self.http, &self.oci) {
            (Some(file), None, None) => {
                if !file.starts_with('/') {
                    cx.error(format!("{at}/file"), "write the whole path, from `/`");
                }
                Some(Source::File(file.clone()))
            }
            (None, Some(http), None) => http.compile(&format!("{at}/http"), cx),
            (None, None, Some(oci)) => oci.compile(&format!("{at}/oci"), cx),
            _ => {
                cx.error(at, "write one of `file`, `http` and `oci`");
                None
            }
        }
    }
}

impl HttpSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Source> {
        let uri = self.url.parse::<http::Uri>().ok();
        let usable = |uri: &http::Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        };
        if !uri.as_ref().is_some_and(usable) {
            cx.error(format!("{at}/url"), format!("`{}` is no URL of http or https", self.url));
        }
        let sha256 = digest(&self.sha256, &format!("{at}/sha256"), cx)?;
        Some(Source::Http { url: self.url.clone(), sha256 })
    }
}

impl OciSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Source> {
        let image = image(&self.image, self.plain_http);
        if image.is_none() {
            let message = format!("`{}` is no image: write `registry/repository:tag`", self.image);
            cx.error(format!("{at}/image"), message);
        }
        let sha256 = match &self.sha256 {
            Some(written) => Some(digest(written, &format!("{at}/sha256"), cx)?),
            None => None,
        };
        Some(Source::Oci { image: image?, sha256, credentials: self.credentials_file.clone() })
    }
}

/// The registry is always written: there is no one that is meant if none is.
fn image(written: &str, plain: bool) -> Option<Image> {
    let (registry, rest) = written.split_once('/')?;
    let is_host = registry == "localhost" || registry.contains(['.', ':']);
    let (repository, reference) = match rest.split_once('@') {
        Some((repository, digest)) => {
            let hex = digest.strip_prefix("sha256:")?;
            (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(())?;
            // A tag before the digest says nothing more.
            (repository.split_once(':').map_or(repository, |(name, _)| name), digest)
        }
        None => rest.split_once(':')?,
    };
    let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
    let tag = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    let valid = is_host
        && !repository.is_empty()
        && repository.bytes().all(name)
        && !repository.split('/').any(|part| part.is_empty() || part == "..")
        && !reference.is_empty()
        && reference.bytes().all(tag);
    valid.then(|| Image {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        reference: reference.to_owned(),
        plain,
    })
}

fn digest(written: &str, at: &str, cx: &mut CompileContext<'_>) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = (written.len() == 64 && written.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| written.as_bytes().chunks_exact(2));
    let parsed = digits.and_then(|digits| {
        for (byte, pair) in bytes.iter_mut().zip(digits) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(bytes)
    });
    if parsed.is_none() {
        cx.error(at, "a SHA-256 has 64 hexadecimal digits");
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_registry_and_a_tag_or_digest() {
        let read =
            |text: &str| image(text, false).map(|image| (image.registry, image.repository, image.reference));
        let some = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(read("ghcr.io/acme/auth:1.0"), some("ghcr.io", "acme/auth", "1.0"));
        assert_eq!(read("localhost:5000/auth:v1"), some("localhost:5000", "auth", "v1"));
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(read(&format!("r.test/a:1@{digest}")), some("r.test", "a", &digest));
        for bad in [
            "auth:1",
            "acme/auth:1",
            "r.test/a",
            "r.test/:1",
            "r.test/a/../b:1",
            "r.test/A:1",
            "r.test/a@sha256:12",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
