//! Side calls. They are checked and counted here, and sent by the shell after the callback.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use wasmtime::Caller;

use super::memory::part;
use super::{Cx, Linked, Slice, hostcalls};
use crate::call::{Asked, CallOut, Open};
use crate::host::Host;
use crate::map::{Map, RequestHead};
use crate::pairs;
use crate::status::{Failure, Outcome, Status};

pub(super) fn link(linked: &mut Linked) -> wasmtime::Result<()> {
    let name = "proxy_http_call";
    let bit = linked.hostcall(name);
    #[rustfmt::skip]
    linked.linker.func_wrap("env", name, move |mut caller: Caller<'_, Host>,
        u: u32, un: u32, h: u32, hn: u32, b: u32, bn: u32, t: u32, tn: u32, timeout: u32, out: u32| {
        let call = HttpCall { upstream: (u, un), headers: (h, hn), body: (b, bn), trailers: (t, tn), timeout, out };
        super::run(&mut caller, (name, bit), |cx| http_call(cx, &call))
    })?;
    let name = "proxy_grpc_call";
    let bit = linked.hostcall(name);
    #[rustfmt::skip]
    linked.linker.func_wrap("env", name, move |mut caller: Caller<'_, Host>,
        u: u32, un: u32, s: u32, sn: u32, m: u32, mn: u32, h: u32, hn: u32, b: u32, bn: u32, timeout: u32, out: u32| {
        let target = ((u, un), (s, sn), (m, mn));
        let call = GrpcCall { target, metadata: (h, hn), message: (b, bn), timeout, out };
        super::run(&mut caller, (name, bit), |cx| grpc_call(cx, &call))
    })?;
    let name = "proxy_grpc_stream";
    let bit = linked.hostcall(name);
    #[rustfmt::skip]
    linked.linker.func_wrap("env", name, move |mut caller: Caller<'_, Host>,
        u: u32, un: u32, s: u32, sn: u32, m: u32, mn: u32, h: u32, hn: u32, out: u32| {
        let target = ((u, un), (s, sn), (m, mn));
        super::run(&mut caller, (name, bit), |cx| grpc_stream(cx, target, (h, hn), out))
    })?;
    hostcalls! { linked;
        "proxy_grpc_send"(call: u32, p: u32, n: u32, eos: u32) => grpc_send;
        "proxy_grpc_cancel"(call: u32) => grpc_cancel;
        "proxy_grpc_close"(call: u32) => grpc_close;
        "proxy_get_status"(code: u32, p: u32, n: u32) => get_status;
    }
    Ok(())
}

struct HttpCall {
    upstream: Slice,
    headers: Slice,
    body: Slice,
    trailers: Slice,
    timeout: u32,
    out: u32,
}

/// Upstream, service and method.
type Target = (Slice, Slice, Slice);

struct GrpcCall {
    target: Target,
    metadata: Slice,
    message: Slice,
    timeout: u32,
    out: u32,
}

fn http_call(cx: &mut Cx<'_, '_>, call: &HttpCall) -> Outcome {
    let (memory, host) = cx.split();
    let upstream = known(host, part(memory, call.upstream)?).ok_or(Status::BadArgument)?;
    let pairs = pairs::read(part(memory, call.headers)?);
    let given = |name: &[u8]| pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| !value.is_empty());
    // An authority may be empty, as in Envoy; examples of public SDKs write it so.
    let authority = given(b":authority").or_else(|| given(b"host")).is_some();
    if given(b":method") != Some(true) || given(b":path") != Some(true) || !authority {
        return Err(Status::BadArgument.into());
    }
    let mut head = Map::Request(RequestHead::default());
    head.set_all(&pairs)?;
    let Map::Request(head) = head else { return Err(Status::InternalFailure.into()) };
    let body = Bytes::copy_from_slice(part(memory, call.body)?);
    let trailers = fields(part(memory, call.trailers)?)?;
    let request = Asked::Http { head: Box::new(head), body, trailers };
    begin(cx, upstream, (call.timeout, call.out), request)
}

fn grpc_call(cx: &mut Cx<'_, '_>, call: &GrpcCall) -> Outcome {
    let (upstream, service, method) = target(cx, call.target)?;
    let (memory, _) = cx.split();
    let metadata = fields(part(memory, call.metadata)?)?;
    let message = Bytes::copy_from_slice(part(memory, call.message)?);
    begin(cx, upstream, (call.timeout, call.out), Asked::Grpc { service, method, metadata, message })
}

/// It has no timeout, and ends when either side says so, or with the VM.
fn grpc_stream(cx: &mut Cx<'_, '_>, to: Target, metadata: Slice, out: u32) -> Outcome {
    let (upstream, service, method) = target(cx, to)?;
    let (memory, _) = cx.split();
    let metadata = fields(part(memory, metadata)?)?;
    let messages = Arc::default();
    begin(cx, upstream, (0, out), Asked::GrpcStream { service, method, metadata, messages })
}

fn target(
    cx: &mut Cx<'_, '_>,
    (upstream, service, method): Target,
) -> Result<(String, String, String), Failure> {
    let (memory, host) = cx.split();
    let upstream = part(memory, upstream)?;
    let upstream = match known(host, upstream) {
        Some(upstream) => upstream,
        None => {
            let name = cluster_of(upstream).ok_or(Status::ParseFailure)?;
            known(host, name).ok_or(Status::BadArgument)?
        }
    };
    let text = |slice| Ok::<_, Failure>(String::from_utf8_lossy(part(memory, slice)?).into_owned());
    Ok((upstream, text(service)?, text(method)?))
}

fn begin(cx: &mut Cx<'_, '_>, upstream: String, (timeout, out): (u32, u32), request: Asked) -> Outcome {
    let host = cx.host();
    if host.calls.open.len() >= host.settings.budgets.calls {
        return Err(Status::InternalFailure.into());
    }
    let id = host.calls.number();
    cx.write_u32(out, id)?;
    let host = cx.host();
    host.stats.call();
    let open = match &request {
        Asked::Http { .. } => Open::Http,
        Asked::Grpc { .. } => Open::Grpc,
        Asked::GrpcStream { messages, .. } => Open::Stream(messages.clone()),
    };
    host.calls.open.insert(id, open);
    let timeout = (timeout > 0).then(|| Duration::from_millis(timeout.into()));
    host.calls.outbox.push(CallOut { id, upstream, timeout, request });
    host.mailbox.wake();
    Ok(())
}

/// Only what the policy lists can be called.
fn known(host: &Host, upstream: &[u8]) -> Option<String> {
    let upstreams = &host.settings.capabilities.upstreams;
    upstreams.iter().find(|own| own.as_bytes() == upstream).cloned()
}

/// Plugins for Envoy may give a `GrpcService` message: `envoy_grpc` (1) with `cluster_name` (1).
fn cluster_of(message: &[u8]) -> Option<&[u8]> {
    let of_field_one = |bytes: &'_ [u8]| {
        let (length, rest) = bytes.strip_prefix(&[0x0a])?.split_first()?;
        let length = usize::from(*length);
        (length < 0x80 && length <= rest.len()).then_some(length)
    };
    let inner = of_field_one(message)?;
    let envoy_grpc = &message[2..2 + inner];
    let name = of_field_one(envoy_grpc)?;
    Some(&envoy_grpc[2..2 + name])
}

fn fields(bytes: &[u8]) -> Result<HeaderMap, Status> {
    let mut map = Map::Fields(HeaderMap::new());
    for (name, value) in pairs::read(bytes) {
        map.add(name, value)?;
    }
    let Map::Fields(fields) = map else { return Err(Status::InternalFailure) };
    Ok(fields)
}

/// Only to a stream, and as long as it takes any: what nobody takes is not kept without end.
fn grpc_send(cx: &mut Cx<'_, '_>, call: u32, pointer: u32, length: u32, eos: u32) -> Outcome {
    let (memory, host) = cx.split();
    let messages = match host.calls.open.get(&call) {
        Some(Open::Stream(messages)) if !messages.has_ended() => messages.clone(),
        Some(Open::Stream(_) | Open::Grpc) => return Err(Status::BadArgument.into()),
        Some(Open::Http) | None => return Err(Status::NotFound.into()),
    };
    let message = Bytes::copy_from_slice(part(memory, (pointer, length))?);
    if !messages.push(message, host.settings.budgets.buffer) {
        return Err(Status::InternalFailure.into());
    }
    if eos != 0 {
        messages.end();
    }
    Ok(())
}

/// Of a stream our half ends, and what comes is still told; a call is given up, as in Envoy.
fn grpc_close(cx: &mut Cx<'_, '_>, call: u32) -> Outcome {
    if let Some(Open::Stream(messages)) = cx.host().calls.open.get(&call) {
        messages.end();
        return Ok(());
    }
    grpc_cancel(cx, call)
}

fn grpc_cancel(cx: &mut Cx<'_, '_>, call: u32) -> Outcome {
    let host = cx.host();
    if !matches!(host.calls.open.get(&call), Some(Open::Grpc | Open::Stream(_))) {
        return Err(Status::NotFound.into());
    }
    host.calls.open.remove(&call);
    host.calls.outbox.retain(|out| out.id != call);
    host.calls.cancelled.push(call);
    host.mailbox.wake();
    Ok(())
}

fn get_status(cx: &mut Cx<'_, '_>, code: u32, pointer: u32, length: u32) -> Outcome {
    let status = cx.host().view.as_ref().map(|view| view.status.clone());
    let (number, message) = status.ok_or(Status::BadArgument)?;
    cx.write_u32(code, number)?;
    cx.hand_over((pointer, length), message.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::cluster_of;

    #[test]
    fn a_cluster_is_found_in_a_grpc_service_and_in_nothing_else() {
        assert_eq!(cluster_of(b"\x0a\x06\x0a\x04auth"), Some(&b"auth"[..]));
        for bad in [&b""[..], b"auth", b"\x0a", b"\x0a\x06\x0a\x04aut", b"\x0a\x7f\x0a\x04auth", b"\x0a\x00"]
        {
            assert_eq!(cluster_of(bad), None);
        }
    }
}
