//! Sets of keys (RFC 7517), and what each of them can have signed.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{Algorithm, Token, TokenFault};

pub(super) const MOST_BYTES: usize = 128 * 1024;
const MOST_KEYS: usize = 64;
/// Of a token that does not say which: more would make each forged one cost us as many signatures.
const MOST_TRIED: usize = 8;

/// The keys of one issuer.
#[derive(Debug)]
pub(crate) struct Jwks(Vec<Key>);

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    /// The one algorithm that it is for, where that is written.
    algorithm: Option<Algorithm>,
    material: Material,
}

enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    P256(ParsedPublicKey),
    P384(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
    Secret(Vec<u8>),
}

/// A key under an algorithm that is for its type.
enum Scheme<'k> {
    Rsa(&'k RsaPublicKeyComponents<Vec<u8>>, &'static RsaParameters),
    Parsed(&'k ParsedPublicKey),
    Hmac(&'k [u8], hmac::Algorithm),
}

/// What is used of a key as it is written.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
    /// The private part.
    d: Option<IgnoredAny>,
}

impl Jwks {
    /// Without any: nothing that it signed is believed.
    pub(crate) fn empty() -> Self {
        Self(Vec::new())
    }

    /// Keys that cannot be used here are passed over, as RFC 7517 (5) wants it.
    ///
    /// # Errors
    /// Why none of them can be used.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("{} bytes: a set of keys has at most {MOST_BYTES}", text.len()));
        }
        let set: Value = serde_json::from_str(text).map_err(|why| format!("not JSON: {why}"))?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("not a JWK Set: write `{\"keys\": […]}` (RFC 7517, 5)")?;
        if keys.len() > MOST_KEYS {
            return Err(format!("{} keys: write at most {MOST_KEYS}", keys.len()));
        }
        let (mut usable, mut faults) = (Vec::new(), Vec::new());
        for (i, key) in keys.iter().enumerate() {
            match Key::new(key) {
                Ok(key) => usable.push(key),
                Err(why) => faults.push(format!("key {i}: {why}")),
            }
        }
        match (usable.is_empty(), faults.is_empty()) {
            (false, _) => Ok(Self(usable)),
            (true, true) => Err(String::from("there is no key in it")),
            (true, false) => Err(format!("no key in it can be used: {}", faults.join("; "))),
        }
    }

    /// Whether there is a key for one of them.
    pub(crate) fn any_for(&self, algorithms: &[Algorithm]) -> bool {
        let fits = |key: &Key| algorithms.iter().any(|algorithm| key.scheme(*algorithm).is_some());
        self.0.iter().any(fits)
    }

    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), TokenFault> {
        let fitting = self.0.iter().filter(|key| key.may_be(token.kid.as_deref()));
        let schemes = fitting.filter_map(|key| key.scheme(token.algorithm)).take(MOST_TRIED);
        let mut fault = TokenFault::Key;
        for scheme in schemes {
            if scheme.verify(token.signed, &token.signature) {
                return Ok(());
            }
            fault = TokenFault::Signature;
        }
        Err(fault)
    }
}

impl Key {
    fn new(written: &Value) -> Result<Self, String> {
        let jwk = Jwk::deserialize(written).map_err(|why| why.to_string())?;
        if jwk.d.is_some() {
            return Err(String::from("it has its private part `d`, which is for its owner alone"));
        }
        let signs = jwk.r#use.as_deref().is_none_or(|for_what| for_what == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs {
            return Err(String::from("it is not for signatures"));
        }
        let named = |name: &String| Algorithm::named(name).ok_or(format!("`alg` {name} is not known here"));
        let algorithm = jwk.alg.as_ref().map(named).transpose()?;
        let key = Self { algorithm, material: Material::new(&jwk)?, kid: jwk.kid };
        if let Some(algorithm) = algorithm.filter(|algorithm| key.scheme(*algorithm).is_none()) {
            return Err(format!("`alg` {algorithm:?} does not go with a key of its type or length"));
        }
        Ok(key)
    }

    /// A token that names a key means that one; a key without a name may be any.
    fn may_be(&self, kid: Option<&str>) -> bool {
        kid.is_none() || self.kid.is_none() || self.kid.as_deref() == kid
    }

    /// THE ONE TABLE of which algorithm is for which type of key; secrets have at least as many bytes as the hash (RFC 7518, 3.2).
    fn scheme(&self, algorithm: Algorithm) -> Option<Scheme<'_>> {
        if self.algorithm.is_some_and(|only| only != algorithm) {
            return None;
        }
        let rsa = |parameters| match &self.material {
            Material::Rsa(key) => Some(Scheme::Rsa(key, parameters)),
            _ => None,
        };
        let secret = |hash, least| match &self.material {
            Material::Secret(secret) if secret.len() >= least => Some(Scheme::Hmac(secret, hash)),
            _ => None,
        };
        match (algorithm, &self.material) {
            (Algorithm::RS256, _) => rsa(&RSA_PKCS1_2048_8192_SHA256),
            (Algorithm::RS384, _) => rsa(&RSA_PKCS1_2048_8192_SHA384),
            (Algorithm::RS512, _) => rsa(&RSA_PKCS1_2048_8192_SHA512),
            (Algorithm::PS256, _) => rsa(&RSA_PSS_2048_8192_SHA256),
            (Algorithm::PS384, _) => rsa(&RSA_PSS_2048_8192_SHA384),
            (Algorithm::PS512, _) => rsa(&RSA_PSS_2048_8192_SHA512),
            (Algorithm::ES256, Material::P256(key))
            | (Algorithm::ES384, Material::P384(key))
            | (Algorithm::EdDSA, Material::Ed25519(key)) => Some(Scheme::Parsed(key)),
            (Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA, _) => None,
            (Algorithm::HS256, _) => secret(hmac::HMAC_SHA256, 32),
            (Algorithm::HS384, _) => secret(hmac::HMAC_SHA384, 48),
            (Algorithm::HS512, _) => secret(hmac::HMAC_SHA512, 64),
        }
    }
}

impl Scheme<'_> {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key, parameters) => key.verify(parameters, message, signature).is_ok(),
            Self::Parsed(key) => key.verify_sig(message, signature).is_ok(),
            Self::Hmac(secret, hash) => {
                hmac::verify(&hmac::Key::new(*hash, secret), message, signature).is_ok()
            }
        }
    }
}

impl Material {
    fn new(jwk: &Jwk) -> Result<Self, String> {
        match (&*jwk.kty, jwk.crv.as_deref()) {
            ("RSA", _) => rsa(jwk),
            ("EC", Some("P-256")) => Ok(Self::P256(point(jwk, 32, &ECDSA_P256_SHA256_FIXED)?)),
            ("EC", Some("P-384")) => Ok(Self::P384(point(jwk, 48, &ECDSA_P384_SHA384_FIXED)?)),
            ("OKP", Some("Ed25519")) => Ok(Self::Ed25519(parsed(&ED25519, &bytes("x", &jwk.x)?)?)),
            ("oct", _) => match bytes("k", &jwk.k)? {
                secret if secret.len() < 32 => {
                    Err(format!("a secret of {} bytes: RFC 7518 (3.2) wants 32 or more", secret.len()))
                }
                secret => Ok(Self::Secret(secret)),
            },
            ("EC" | "OKP", curve) => {
                Err(format!("curve `{}`: known are P-256, P-384 and Ed25519", curve.unwrap_or_default()))
            }
            (kty, _) => Err(format!("`kty` {kty}: known are RSA, EC, OKP and oct")),
        }
    }
}

fn rsa(jwk: &Jwk) -> Result<Material, String> {
    // Some put a zero in front that does not belong there.
    let number = |name, text| {
        let bytes: Vec<u8> = bytes(name, text)?;
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        Ok::<_, String>(bytes[zeros..].to_vec())
    };
    let key = RsaPublicKeyComponents { n: number("n", &jwk.n)?, e: number("e", &jwk.e)? };
    let bits = 8 * key.n.len() - key.n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(format!("an RSA key of {bits} bits: it must have 2048 to 8192"));
    }
    let whole = key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
    whole.map_err(|why| format!("not an RSA key: {why}"))?;
    Ok(Material::Rsa(key))
}

/// Uncompressed (SEC 1, 2.3.3).
fn point(
    jwk: &Jwk,
    length: usize,
    algorithm: &'static dyn VerificationAlgorithm,
) -> Result<ParsedPublicKey, String> {
    let (x, y) = (bytes("x", &jwk.x)?, bytes("y", &jwk.y)?);
    if x.len() != length || y.len() != length {
        return Err(format!("`x` and `y` of {} and {} bytes: both must have {length}", x.len(), y.len()));
    }
    parsed(algorithm, &[&[4][..], &x, &y].concat())
}

fn parsed(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Result<ParsedPublicKey, String> {
    ParsedPublicKey::new(algorithm, key).map_err(|why| format!("not a key: {why}"))
}

fn bytes(name: &str, text: &Option<String>) -> Result<Vec<u8>, String> {
    let text = text.as_ref().ok_or_else(|| format!("it has no `{name}`"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("`{name}` is not base64url"))
}

/// The type alone: of secrets nothing is told.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa(_) => "Rsa",
            Self::P256(_) => "P256",
            Self::P384(_) => "P384",
            Self::Ed25519(_) => "Ed25519",
            Self::Secret(_) => "Secret",
        })
    }
}
