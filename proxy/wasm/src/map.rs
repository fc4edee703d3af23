//! The maps that plugins read and change: heads with their pseudo-headers, and trailers.
//!
//! Names are in lower case; `host` and `:authority` are one field, which the head keeps as `host`.

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::status::Status;

/// A request's head, as the mesh has it inside: the path in the target, the authority in `host`.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    pub method: Method,
    pub uri: Uri,
    /// `https` if the client came by TLS.
    pub https: bool,
    pub headers: HeaderMap,
}

/// An answer's head.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// One of the maps.
#[derive(Clone, Debug)]
pub(crate) enum Map {
    Request(RequestHead),
    Response(ResponseHead),
    Fields(HeaderMap),
}

/// Something's name and value, as the plugin sees them.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

impl Map {
    pub(crate) fn headers(&self) -> &HeaderMap {
        match self {
            Self::Request(head) => &head.headers,
            Self::Response(head) => &head.headers,
            Self::Fields(fields) => fields,
        }
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Request(head) => &mut head.headers,
            Self::Response(head) => &mut head.headers,
            Self::Fields(fields) => fields,
        }
    }

    fn is_request(&self) -> bool {
        matches!(self, Self::Request(_))
    }

    /// Pseudo-headers first, then the rest in order.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        let (pseudo, hide_host) = match self {
            Self::Request(head) => (head.pseudo(), true),
            Self::Response(head) => (head.pseudo(), false),
            Self::Fields(_) => ([None; 4], false),
        };
        pseudo.into_iter().flatten().chain(fields(self.headers(), hide_host))
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs().count()
    }

    /// The first value.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Request(head) => head.get(name),
            Self::Response(head) => head.get(name),
            Self::Fields(fields) => first(fields, name),
        }
    }

    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        if self.put_pseudo(name, value)? {
            return Ok(());
        }
        let (name, value) = field(name, value)?;
        self.headers_mut().try_append(name, value).map_err(|_| Status::BadArgument)?;
        Ok(())
    }

    pub(crate) fn replace(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        if self.put_pseudo(name, value)? {
            return Ok(());
        }
        let (name, value) = field(name, value)?;
        self.headers_mut().try_insert(name, value).map_err(|_| Status::BadArgument)?;
        Ok(())
    }

    /// What is not there, and what no message can do without, is left as it is.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        let hide_host = self.is_request() && name.eq_ignore_ascii_case(b"host");
        if let (Ok(name), false) = (std::str::from_utf8(name), hide_host) {
            self.headers_mut().remove(name);
        }
    }

    /// Everything at once, pseudo-headers too; of those, what is not said stays.
    pub(crate) fn set_all(&mut self, pairs: &[Pair<'_>]) -> Result<(), Status> {
        let mut new = self.clone();
        let host = self.is_request().then(|| self.headers().get(HOST).cloned()).flatten();
        new.headers_mut().clear();
        for (name, value) in pairs {
            new.add(name, value)?;
        }
        if let (Some(host), false) = (host, new.headers().contains_key(HOST)) {
            new.headers_mut().insert(HOST, host);
        }
        *self = new;
        Ok(())
    }

    /// Whether it was a pseudo-header, or `host`.
    fn put_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Status> {
        let bad = Status::BadArgument;
        match self {
            Self::Request(head) => match name {
                b":authority" => {
                    head.headers.insert(HOST, HeaderValue::from_bytes(value).map_err(|_| bad)?);
                }
                b":method" => head.method = Method::from_bytes(value).map_err(|_| bad)?,
                b":path" => head.uri = target(value).ok_or(bad)?,
                b":scheme" => head.https = value.eq_ignore_ascii_case(b"https"),
                _ if name.eq_ignore_ascii_case(b"host") => {
                    head.headers.insert(HOST, HeaderValue::from_bytes(value).map_err(|_| bad)?);
                }
                _ => return Ok(false),
            },
            Self::Response(head) => match name {
                b":status" => head.status = StatusCode::from_bytes(value).map_err(|_| bad)?,
                _ => return Ok(false),
            },
            Self::Fields(_) => return Ok(false),
        }
        Ok(true)
    }
}

type Pseudo<'a> = [Option<Pair<'a>>; 4];

impl RequestHead {
    fn pseudo(&self) -> Pseudo<'_> {
        [
            self.headers.get(HOST).map(|host| (&b":authority"[..], host.as_bytes())),
            Some((b":path", path(&self.uri))),
            Some((b":method", self.method.as_str().as_bytes())),
            Some((b":scheme", if self.https { b"https" } else { b"http" })),
        ]
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        self.pseudo().into_iter().flatten().chain(fields(&self.headers, true))
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        named(self.pseudo(), &self.headers, name)
    }
}

impl ResponseHead {
    fn pseudo(&self) -> Pseudo<'_> {
        [Some((b":status", self.status.as_str().as_bytes())), None, None, None]
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = Pair<'_>> {
        self.pseudo().into_iter().flatten().chain(fields(&self.headers, false))
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        named(self.pseudo(), &self.headers, name)
    }
}

fn fields(headers: &HeaderMap, hide_host: bool) -> impl Iterator<Item = Pair<'_>> {
    let shown = headers.iter().filter(move |(name, _)| !(hide_host && *name == HOST));
    shown.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

fn named<'a>(pseudo: Pseudo<'a>, headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    if name.first() != Some(&b':') {
        return first(headers, name);
    }
    pseudo.into_iter().flatten().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Looked up by text: that spares making a name of it.
fn first<'a>(headers: &'a HeaderMap, name: &[u8]) -> Option<&'a [u8]> {
    headers.get(std::str::from_utf8(name).ok()?).map(HeaderValue::as_bytes)
}

/// The path with its query.
pub(crate) fn path(uri: &Uri) -> &[u8] {
    uri.path_and_query().map_or(&b"/"[..], |target| target.as_str().as_bytes())
}

/// A path with its query, as the target of a request.
pub(crate) fn target(path: &[u8]) -> Option<Uri> {
    let whole = path.first() == Some(&b'/') || path == b"*";
    PathAndQuery::try_from(path).ok().filter(|_| whole).map(Uri::from)
}

fn field(name: &[u8], value: &[u8]) -> Result<(HeaderName, HeaderValue), Status> {
    let name = HeaderName::from_bytes(name).map_err(|_| Status::BadArgument)?;
    let value = HeaderValue::from_bytes(value).map_err(|_| Status::BadArgument)?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Map {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        headers.insert(HOST, HeaderValue::from_static("a.test"));
        headers.append("x-a", HeaderValue::from_static("2"));
        Map::Request(RequestHead { method: Method::GET, uri: target(b"/p?q").unwrap(), https: true, headers })
    }

    fn shown(map: &Map) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        map.pairs().map(|(name, value)| format!("{}={} ", text(name), text(value))).collect()
    }

    #[test]
    fn pseudo_headers_come_first_and_host_is_one_of_them() {
        assert_eq!(shown(&request()), ":authority=a.test :path=/p?q :method=GET :scheme=https x-a=1 x-a=2 ");
        assert_eq!(request().get(b"X-A").unwrap(), b"1");
        assert_eq!(request().get(b"host").unwrap(), b"a.test");
        assert_eq!(request().get(b":path").unwrap(), b"/p?q");
        assert!(request().get(b":status").is_none());
    }

    #[test]
    fn add_keeps_replace_drops_and_remove_is_never_an_error() {
        let mut map = request();
        map.add(b"x-a", b"3").unwrap();
        map.replace(b":path", b"/other").unwrap();
        map.replace(b"Host", b"b.test").unwrap();
        map.remove(b"x-none");
        map.remove(b"host");
        assert_eq!(
            shown(&map),
            ":authority=b.test :path=/other :method=GET :scheme=https x-a=1 x-a=2 x-a=3 "
        );
        map.replace(b"x-a", b"4").unwrap();
        assert_eq!(map.headers().get_all("x-a").iter().count(), 1);
    }

    #[test]
    fn what_no_message_may_hold_is_a_bad_argument_and_changes_nothing() {
        let mut map = request();
        let before = shown(&map);
        for (name, value) in [
            (&b"a b"[..], &b"v"[..]),
            (b"x", b"a\r\nb"),
            (b":path", b"no slash"),
            (b":method", b"G T"),
            (b":x", b""),
        ] {
            assert_eq!(map.replace(name, value), Err(Status::BadArgument));
            assert_eq!(map.set_all(&[(b"ok", b"1"), (name, value)]), Err(Status::BadArgument));
        }
        assert_eq!(shown(&map), before);
        map.set_all(&[(b":method", b"PUT"), (b"x-b", b"1")]).unwrap();
        assert_eq!(shown(&map), ":authority=a.test :path=/p?q :method=PUT :scheme=https x-b=1 ");
    }
}
