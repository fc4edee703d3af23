use std::fmt;

use serde::Deserialize;

/// What a listener expects to receive. Gateway API `ProtocolType`, an open set: a protocol that nobody here knows is
/// no fault of the document, it makes that one listener unusable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "String")]
pub enum ListenerProtocol {
    Http,
    Https,
    Tls,
    Tcp,
    Udp,
    /// Another implementation's, such as `example.com/bar`, or a misspelt one.
    Other(String),
}

impl ListenerProtocol {
    /// As in `protocol:` of the document.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Other(name) => name,
        }
    }

    /// Whether a gateway can listen for it.
    pub fn is_served(&self) -> bool {
        !matches!(self, Self::Udp | Self::Other(_))
    }
}

impl From<String> for ListenerProtocol {
    fn from(text: String) -> Self {
        match text.as_str() {
            "HTTP" => Self::Http,
            "HTTPS" => Self::Https,
            "TLS" => Self::Tls,
            "TCP" => Self::Tcp,
            "UDP" => Self::Udp,
            _ => Self::Other(text),
        }
    }
}

impl fmt::Display for ListenerProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
