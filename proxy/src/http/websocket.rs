//! The opening handshake of a WebSocket over HTTP/1.1 (RFC 6455, section 4), for when the other end of the tunnel speaks
//! HTTP/2 and has none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use sha1::{Digest as _, Sha1};

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A value for `sec-websocket-key`. It keeps caches from mistaking an old answer for ours, and is no secret.
pub(super) fn key(rng: &mut fastrand::Rng) -> HeaderValue {
    value(&rng.u128(..).to_be_bytes())
}

/// The `sec-websocket-accept` that answers a key.
pub(super) fn accept(key: &HeaderValue) -> HeaderValue {
    value(&Sha1::new().chain_update(key.as_bytes().trim_ascii()).chain_update(GUID).finalize())
}

fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::try_from(STANDARD.encode(bytes)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_rfc_has_it() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn every_key_is_sixteen_bytes_of_its_own() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (one, other) = (key(&mut rng), key(&mut rng));
        assert_ne!(one, other);
        assert_eq!(STANDARD.decode(one.as_bytes()).unwrap().len(), 16);
    }
}
