//! Tokens of our own making, to be judged by tests: keys that are made anew, and whatever header and claims one likes.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// One key of each type.
pub(crate) struct Signer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    pub(crate) secret: [u8; 64],
}

/// Ours, and that of somebody else.
pub(crate) static SIGNER: LazyLock<Signer> = LazyLock::new(Signer::new);
pub(crate) static OTHER: LazyLock<Signer> = LazyLock::new(Signer::new);

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn new() -> Self {
        let mut secret = [0; 64];
        aws_lc_rs::rand::fill(&mut secret).unwrap();
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
            secret,
        }
    }

    pub(crate) fn rsa_modulus(&self) -> Vec<u8> {
        // PKCS #1: two lengths of four bytes, and a zero, come before it.
        self.rsa.public_key().as_ref()[9..9 + self.rsa.public_modulus_len()].to_vec()
    }

    /// Its key for tokens of this algorithm, as JWK.
    pub(crate) fn jwk(&self, algorithm: &str) -> Value {
        let point = |key: &[u8]| {
            let (x, y) = key[1..].split_at((key.len() - 1) / 2);
            (base64(x), base64(y))
        };
        match algorithm {
            "ES256" => {
                let (x, y) = point(self.p256.public_key().as_ref());
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
            }
            "ES384" => {
                let (x, y) = point(self.p384.public_key().as_ref());
                json!({"kty": "EC", "crv": "P-384", "x": x, "y": y})
            }
            "EdDSA" => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64(self.ed25519.public_key().as_ref())})
            }
            name if name.starts_with("HS") => json!({"kty": "oct", "k": base64(self.secret)}),
            _ => json!({"kty": "RSA", "n": base64(self.rsa_modulus()), "e": "AQAB"}),
        }
    }

    /// A set of this one key.
    pub(crate) fn jwks(&self, algorithm: &str) -> String {
        json!({"keys": [self.jwk(algorithm)]}).to_string()
    }

    pub(crate) fn token(&self, algorithm: &str, claims: &Value) -> String {
        self.token_with(&json!({"alg": algorithm, "typ": "JWT"}), claims.to_string().as_bytes(), algorithm)
    }

    /// Signed by `algorithm`, whatever the header says.
    pub(crate) fn token_with(&self, header: &Value, claims: &[u8], algorithm: &str) -> String {
        let signed = format!("{}.{}", base64(header.to_string()), base64(claims));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", base64(signature))
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        let secret = |hash| hmac::sign(&hmac::Key::new(hash, &self.secret), message).as_ref().to_vec();
        match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(message).as_ref().to_vec(),
            "HS256" => secret(hmac::HMAC_SHA256),
            "HS384" => secret(hmac::HMAC_SHA384),
            "HS512" => secret(hmac::HMAC_SHA512),
            _ => Vec::new(),
        }
    }
}
