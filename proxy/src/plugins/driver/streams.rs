//! A stream of messages by gRPC: those of the plugin go out as it sends them, and those that come are told as they do.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tidegate_wasm::{Asked, CallOut, Fault, Outgoing, SharedVm};

use super::{CONNECT_TIMEOUT, Whose, addressed, framed, grpc_head, named, reach, said};
use crate::health_checks::send;
use crate::upstream::Protocol;

const UNKNOWN: u32 = 2;
const RESOURCE_EXHAUSTED: u32 = 8;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

/// What goes out.
pub(super) struct Messages(pub(super) Arc<Outgoing>);

/// What comes in, until a message is whole.
struct Reader {
    held: BytesMut,
    /// Bytes of one message.
    most: usize,
}

/// Until the other side has ended it. As long as that takes: it is cancelled by the plugin, or with its VM.
pub(super) async fn converse((vm, proxy, wanted): Whose, call: CallOut) {
    let CallOut { id, upstream, request, .. } = call;
    let Asked::GrpcStream { service, method, metadata, messages } = request else { return };
    let opened = async {
        let backend = named(&proxy, &wanted, &upstream)?;
        let head = grpc_head(&upstream, (&service, &method), metadata)?;
        let request = addressed(head, Protocol::Http2)?.map(|()| Messages(messages));
        Some((reach(&backend, Protocol::Http2, CONNECT_TIMEOUT).await?, request))
    };
    let status = match opened.await {
        None => Ok(None),
        Some((stream, request)) => {
            let most = wanted.budgets.buffer;
            let told = async |response| Ok(hear(&vm, id, response, most).await);
            send(stream, Protocol::Http2, request, told).await.unwrap_or(Ok(None))
        }
    };
    // Else the VM has ended, and there is nobody to be told.
    let Ok(status) = status else { return };
    let status = status.unwrap_or_else(|| (UNAVAILABLE, String::from("upstream cannot be reached")));
    // One that ends of it tells its plugin so.
    let _ = vm.lock().grpc_closed(id, status);
}

/// Tells what comes. `None`: it has broken off.
async fn hear(
    vm: &SharedVm,
    id: u32,
    response: Response<Incoming>,
    most: usize,
) -> Result<Option<(u32, String)>, Fault> {
    let (head, mut body) = response.into_parts();
    let mut status = said(&head.headers);
    vm.lock().grpc_initial(id, head.headers)?;
    let mut reader = Reader { held: BytesMut::new(), most };
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(None) };
        match frame.into_data() {
            Ok(data) => {
                reader.held.extend_from_slice(&data);
                loop {
                    match reader.next() {
                        Ok(Some(message)) => vm.lock().grpc_received(id, message)?,
                        Ok(None) => break,
                        Err((code, why)) => return Ok(Some((code, String::from(why)))),
                    }
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                status = said(&trailers).or(status);
                vm.lock().grpc_trailing(id, trailers)?;
            }
        }
    }
    Ok(Some(status.unwrap_or_else(|| (UNKNOWN, String::from("no grpc-status")))))
}

impl Reader {
    /// The next message that is whole.
    ///
    /// # Errors
    /// It is none that could be told: code and cause.
    fn next(&mut self) -> Result<Option<Bytes>, (u32, &'static str)> {
        let Some(&[compressed, a, b, c, d]) = self.held.first_chunk::<5>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err((INTERNAL, "a compressed message, which was not asked for"));
        }
        if length > self.most {
            return Err((RESOURCE_EXHAUSTED, "a message is larger than the plugin's budget"));
        }
        if self.held.len() < 5 + length {
            return Ok(None);
        }
        self.held.advance(5);
        Ok(Some(self.held.split_to(length).freeze()))
    }
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // What is too long for a frame of gRPC does not fit into a plugin's memory.
        self.0
            .poll_next(cx)
            .map(|next| next.and_then(|message| framed(&message)).map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<Result<Bytes, u32>> {
        let mut reader = Reader { held: BytesMut::new(), most: 9 };
        let mut found = Vec::new();
        for piece in pieces {
            reader.held.extend_from_slice(piece);
            loop {
                match reader.next() {
                    Ok(Some(message)) => found.push(Ok(message)),
                    Ok(None) => break,
                    Err((code, _)) => {
                        found.push(Err(code));
                        return found;
                    }
                }
            }
        }
        found
    }

    #[test]
    fn messages_are_found_however_they_are_cut_and_what_is_none_is_refused() {
        let whole = [&framed(b"one").unwrap()[..], &framed(b"").unwrap(), &framed(b"two").unwrap()].concat();
        let expected = ["one", "", "two"].map(|message| Ok(Bytes::from(message)));
        for at in 0..whole.len() {
            assert_eq!(read(&[&whole[..at], &whole[at..]]), expected, "cut at {at}");
        }
        assert_eq!(read(&[&whole[..4]]), []);
        assert_eq!(read(&[&[1, 0, 0, 0, 0]]), [Err(INTERNAL)]);
        assert_eq!(read(&[&[0, 0, 0, 0, 10]]), [Err(RESOURCE_EXHAUSTED)]);
        assert_eq!(read(&[&[0, 255, 255, 255, 255]]), [Err(RESOURCE_EXHAUSTED)]);
    }
}
