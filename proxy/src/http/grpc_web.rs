//! gRPC-Web: what a browser can send and read, as the gRPC that the backend speaks.
//!
//! Only the coding changes: bytes pass as they come, and no message is kept, whatever length it says. What the request
//! must be is checked here, because a backend would blame us for it. Where it is done: at a GRPCRoute, and where the
//! backend speaks HTTP/2. Anywhere else the backend may speak gRPC-Web itself, and the request passes untouched.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>.

mod base64;
mod messages;
mod packing;
mod unpacking;

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, request, response};

use super::reply::{grpc_status, is_grpc};

pub(super) use packing::{Packing, trailers};
pub(crate) use unpacking::Malformed;
pub(super) use unpacking::Unpacking;

const X_GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");
const GRPC: &str = "application/grpc";

/// How a client speaks gRPC-Web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrpcWeb {
    pub(super) sent: Coding,
    pub(super) wanted: Coding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Binary,
    /// In base64, for clients that can read nothing but text.
    Text,
}

impl GrpcWeb {
    /// `None` for any other request.
    pub(super) fn of(head: &request::Parts) -> Option<Self> {
        if head.method != Method::POST {
            return None;
        }
        let (sent, _) = media_type(head.headers.get(CONTENT_TYPE)?.to_str().ok()?)?;
        let mut accepted = head.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let wanted = accepted.find_map(|list| list.split(',').find_map(media_type));
        Some(Self { sent, wanted: wanted.map_or(sent, |(coding, _)| coding) })
    }

    /// The request's headers as those of a gRPC request (PROTOCOL-HTTP2).
    pub(super) fn to_grpc(headers: &mut HeaderMap) {
        let written = headers.get(CONTENT_TYPE).and_then(|value| media_type(value.to_str().ok()?));
        let format = written.map_or("", |(_, format)| format);
        if let Ok(value) = HeaderValue::try_from(format!("{GRPC}{format}")) {
            headers.insert(CONTENT_TYPE, value);
        }
        headers.insert(TE, HeaderValue::from_static("trailers"));
        for gone in [ACCEPT, CONTENT_LENGTH, X_GRPC_WEB] {
            headers.remove(gone);
        }
    }

    /// The backend's answer as the client wants it, with what its body still needs: nothing, if the head says it all, or
    /// if it is no gRPC.
    pub(super) fn answer(self, head: &mut response::Parts) -> Option<Packing> {
        if !is_grpc(&head.headers) {
            return None;
        }
        let written = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let format = written.and_then(|value| value.get(GRPC.len()..)).unwrap_or_default();
        head.headers.insert(CONTENT_TYPE, self.wanted.content_type(format));
        head.headers.remove(CONTENT_LENGTH);
        grpc_status(&head.headers).is_none().then(|| Packing::new(self.wanted))
    }
}

impl Coding {
    /// The message format is always said, as clients need not know the default.
    pub(super) fn content_type(self, format: &str) -> HeaderValue {
        let name = match self {
            Self::Binary => "application/grpc-web",
            Self::Text => "application/grpc-web-text",
        };
        let said = if format.starts_with('+') { "" } else { "+proto" };
        HeaderValue::try_from(format!("{name}{said}{format}"))
            .unwrap_or_else(|_| HeaderValue::from_static("application/grpc-web+proto"))
    }
}

/// The coding, and what follows: the message format and parameters.
fn media_type(written: &str) -> Option<(Coding, &str)> {
    let written = written.trim();
    [("application/grpc-web-text", Coding::Text), ("application/grpc-web", Coding::Binary)]
        .into_iter()
        .find_map(|(name, coding)| {
            let (start, rest) = written.split_at_checked(name.len())?;
            let ends = matches!(rest.as_bytes().first(), None | Some(b'+' | b';' | b' '));
            (start.eq_ignore_ascii_case(name) && ends).then_some((coding, rest))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};

    fn asked(content_type: &str, accept: Option<&str>) -> Option<(Coding, Coding)> {
        let mut request = Request::post("/shop.Cart/Get").header(CONTENT_TYPE, content_type);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        let web = GrpcWeb::of(&request.body(()).unwrap().into_parts().0)?;
        Some((web.sent, web.wanted))
    }

    #[test]
    fn the_content_type_says_how_a_request_is_coded_and_accept_how_the_answer_is() {
        use Coding::{Binary, Text};
        for (content_type, accept, want) in [
            ("application/grpc-web", None, Some((Binary, Binary))),
            ("application/grpc-web+proto", Some("*/*"), Some((Binary, Binary))),
            ("Application/gRPC-Web-Text+proto", None, Some((Text, Text))),
            ("application/grpc-web-text", Some("application/grpc-web-text"), Some((Text, Text))),
            (
                "application/grpc-web",
                Some("text/html, application/grpc-web-text+proto"),
                Some((Binary, Text)),
            ),
            ("application/grpc-web-text", Some("application/grpc-web+proto"), Some((Text, Binary))),
            ("application/grpc", None, None),
            ("application/grpc-website", None, None),
            ("application/json", None, None),
        ] {
            assert_eq!(asked(content_type, accept), want, "{content_type} {accept:?}");
        }
        let get = Request::get("/").header(CONTENT_TYPE, "application/grpc-web").body(()).unwrap();
        assert_eq!(GrpcWeb::of(&get.into_parts().0), None);
    }

    #[test]
    fn the_backend_sees_grpc_in_the_same_message_format() {
        for (web, grpc) in [
            ("application/grpc-web", "application/grpc"),
            ("application/grpc-web-text+json;charset=utf-8", "application/grpc+json;charset=utf-8"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(web));
            headers.insert(ACCEPT, HeaderValue::from_static("application/grpc-web-text"));
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("12"));
            headers.insert(X_GRPC_WEB, HeaderValue::from_static("1"));
            GrpcWeb::to_grpc(&mut headers);
            assert_eq!(
                (&headers[CONTENT_TYPE], &headers[TE]),
                (&HeaderValue::from_static(grpc), &HeaderValue::from_static("trailers"))
            );
            assert_eq!(headers.len(), 2, "{headers:?}");
        }
    }

    #[test]
    fn the_client_sees_grpc_web_and_an_answer_that_is_none_as_it_is() {
        let web = GrpcWeb { sent: Coding::Text, wanted: Coding::Text };
        for (grpc, want) in [
            ("application/grpc", "application/grpc-web-text+proto"),
            ("application/grpc+json", "application/grpc-web-text+json"),
            ("text/html", "text/html"),
        ] {
            let mut head = Response::builder().header(CONTENT_TYPE, grpc).body(()).unwrap().into_parts().0;
            assert_eq!(web.answer(&mut head).is_some(), want != "text/html");
            assert_eq!(head.headers[CONTENT_TYPE], want);
        }
    }
}
