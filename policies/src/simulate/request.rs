use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request as HttpRequest, Uri, request};

use crate::matching::target::normalize_path;
use crate::model::Peer;
use crate::story::Answer;
use crate::time::Timestamp;

/// One request of the traffic. Its buffers are used again for the next one.
#[derive(Debug)]
pub struct Request {
    /// When it came, since the Unix epoch.
    pub at: Timestamp,
    pub head: Box<request::Parts>,
    pub peer: Peer,
    /// It came over TLS.
    pub secure: bool,
    pub grpc: bool,
    pub logged: Logged,
}

/// What is known of how it was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// What the client was answered with.
    pub status: Option<u16>,
    /// What the backend answered, if one did.
    pub answer: Option<Answer>,
}

/// Who asks, where nothing is known of it.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Default for Request {
    fn default() -> Self {
        Self {
            at: Timestamp::ZERO,
            head: Box::new(HttpRequest::new(()).into_parts().0),
            peer: Peer { address: NOBODY, identity: None },
            secure: false,
            grpc: false,
            logged: Logged::default(),
        }
    }
}

impl Request {
    /// As if there had never been one in it.
    pub fn clear(&mut self) {
        self.clear_all_but_target_and_headers();
        self.head.uri = Uri::default();
        self.head.headers.clear();
    }

    /// The same, for one who sets the target and the headers anyway.
    pub(super) fn clear_all_but_target_and_headers(&mut self) {
        self.at = Timestamp::ZERO;
        self.head.method = Method::GET;
        self.head.extensions.clear();
        (self.peer.address, self.peer.identity) = (NOBODY, None);
        (self.secure, self.grpc, self.logged) = (false, false, Logged::default());
    }

    /// Sets the target, written in the one way in which it is matched. `false`: no proxy would take it.
    pub fn set_target(&mut self, target: &str) -> bool {
        let (path, query) = match memchr::memchr(b'?', target.as_bytes()) {
            Some(at) => (&target[..at], Some(&target[at + 1..])),
            None => (target, None),
        };
        let Ok(path) = normalize_path(path) else { return false };
        let uri = match query {
            // Most are written so already.
            Some(_) if *path == target[..path.len().min(target.len())] => target.parse(),
            Some(query) => format!("{path}?{query}").parse(),
            None => path.parse(),
        };
        uri.map(|uri| self.head.uri = uri).is_ok()
    }

    /// Sets the host that is asked for. `false`: it is no header value.
    pub fn set_host(&mut self, host: &str) -> bool {
        HeaderValue::from_str(host).map(|value| self.head.headers.insert(HOST, value)).is_ok()
    }

    /// Says that it is a call of gRPC.
    pub fn set_grpc(&mut self) {
        self.grpc = true;
        self.head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    }

    /// Another of the same.
    pub fn copy_to(&self, other: &mut Self) {
        other.at = self.at;
        other.head.method.clone_from(&self.head.method);
        other.head.uri.clone_from(&self.head.uri);
        other.head.version = self.head.version;
        other.head.headers.clear();
        let headers = self.head.headers.iter();
        other.head.headers.extend(headers.map(|(name, value)| (name.clone(), value.clone())));
        other.peer.clone_from(&self.peer);
        (other.secure, other.grpc, other.logged) = (self.secure, self.grpc, self.logged);
    }
}
