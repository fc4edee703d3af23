//! How the plugin asks the API server: the file that the installer writes out of its service account. Pure.
//!
//! A kubeconfig, so that whoever looks after a node can use it with `kubectl`; as JSON, which is YAML too. Of others' only as
//! much is read as is written here.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use serde_json::{Value as Json, json};

/// A certificate and a token.
pub const MAX_BYTES: u64 = 256 * 1024;

/// Whom to ask, and by which right.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    pub server: Uri,
    /// The roots that its certificate leads to, in PEM.
    pub roots: Vec<u8>,
    pub token: String,
}

/// Never the token.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Access {
    pub fn write(&self) -> String {
        let whole = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "local", "cluster": {
                "server": self.server.to_string().trim_end_matches('/'),
                "certificate-authority-data": BASE64_STANDARD.encode(&self.roots),
            } }],
            "users": [{ "name": "tidegate-cni", "user": { "token": self.token } }],
            "contexts": [{ "name": "tidegate-cni", "context": { "cluster": "local", "user": "tidegate-cni" } }],
            "current-context": "tidegate-cni",
        });
        format!("{whole:#}\n")
    }

    /// # Errors
    /// What is wrong with the text, in words without its contents.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let whole: Json = serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}"))?;
        let at = |pointer: &str| {
            whole.pointer(pointer).and_then(Json::as_str).ok_or_else(|| format!("{pointer}: missing"))
        };
        let server: Uri = at("/clusters/0/cluster/server")?.parse().map_err(|_| "its server is no URL")?;
        let is_own = server.host().is_some_and(|host| ["127.0.0.1", "[::1]"].contains(&host));
        match (server.scheme_str(), server.host()) {
            (Some("https"), Some(_)) => {}
            // A token goes to nobody in clear text, but to this machine.
            (Some("http"), _) if is_own => {}
            _ => return Err(String::from("its server is not at https://")),
        }
        let roots = match at("/clusters/0/cluster/certificate-authority-data") {
            Ok(encoded) => {
                BASE64_STANDARD.decode(encoded).map_err(|error| format!("its authority: {error}"))?
            }
            Err(_) if server.scheme_str() == Some("http") => Vec::new(),
            Err(why) => return Err(why),
        };
        let token = at("/users/0/user/token")?;
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) || token.is_empty() {
            return Err(String::from("its token is none"));
        }
        Ok(Self { server, roots, token: token.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            server: "https://10.96.0.1:443".parse().unwrap(),
            roots: b"PEM".to_vec(),
            token: String::from("s3cret"),
        }
    }

    #[test]
    fn what_the_installer_writes_is_what_the_plugin_reads() {
        assert_eq!(Access::read(access().write().as_bytes()), Ok(access()));
        assert!(!format!("{:?}", access()).contains("s3cret"));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_what_is_in_it() {
        let text = access().write();
        for (from, to, why) in [
            ("https://10", "http://10", "not at https"),
            ("https://10.96.0.1:443", "file:///etc", "no URL"),
            ("https://10.96.0.1:443", "10.96.0.1:443", "not at https"),
            ("s3cret", "s3cret\\r\\nx-evil: 1", "token is none"),
            ("UEVN", "!", "authority"),
            ("\"server\"", "\"serve\"", "server: missing"),
            ("{", "", "no JSON"),
        ] {
            let told = Access::read(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(told.contains(why) && !told.contains("s3cret"), "{told}");
        }
        let own = text.replace("https://10.96.0.1:443", "http://127.0.0.1:8001");
        assert!(Access::read(own.as_bytes()).is_ok(), "a proxy on the same machine");
    }
}
