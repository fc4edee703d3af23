//! Bodies, bytes of connections, configuration and what side calls brought.

use super::memory::part;
use super::{Cx, Linked, hostcalls};
use crate::host::{Host, Stage};
use crate::status::{Outcome, Status};
use crate::stream::{Kind, Side};

pub(super) fn link(linked: &mut Linked) -> wasmtime::Result<()> {
    hostcalls! { linked;
        "proxy_get_buffer_bytes"(buffer: u32, start: u32, max: u32, p: u32, n: u32) => bytes;
        "proxy_get_buffer_status"(buffer: u32, size: u32, flags: u32) => status;
        "proxy_set_buffer_bytes"(buffer: u32, start: u32, size: u32, p: u32, n: u32) => set;
        "proxy_get_configuration"(p: u32, n: u32) => configuration;
    }
    Ok(())
}

fn bytes(cx: &mut Cx<'_, '_>, buffer: u32, start: u32, max: u32, pointer: u32, length: u32) -> Outcome {
    let end = start.checked_add(max).ok_or(Status::BadArgument)?;
    cx.give((pointer, length), |host, out| {
        let bytes = readable(host, buffer)?;
        let at = |place: u32| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
        out.extend_from_slice(&bytes[at(start)..at(end)]);
        Ok(())
    })
}

fn status(cx: &mut Cx<'_, '_>, buffer: u32, size: u32, flags: u32) -> Outcome {
    let bytes = readable(cx.host(), buffer)?.len();
    cx.write_u32(size, u32::try_from(bytes).unwrap_or(u32::MAX))?;
    cx.write_u32(flags, 0)
}

fn set(cx: &mut Cx<'_, '_>, buffer: u32, start: u32, size: u32, pointer: u32, length: u32) -> Outcome {
    let (memory, host) = cx.split();
    let with = part(memory, (pointer, length))?;
    let (kind, index) = of_stream(buffer).ok_or(Status::BadArgument)?;
    let stream = host.stream().filter(|stream| stream.kind == kind);
    let side = stream.map(|stream| &mut stream.sides[index]).filter(|side| side.in_body);
    let side = side.ok_or(Status::BadArgument)?;
    let place = |place: u32| usize::try_from(place).unwrap_or(usize::MAX);
    side.body.set(place(start), place(size), with)?;
    Ok(())
}

/// ABI 0.1.0: that of the plugin while it is configured, else that of the VM.
fn configuration(cx: &mut Cx<'_, '_>, pointer: u32, length: u32) -> Outcome {
    cx.give((pointer, length), |host, out| {
        let settings = &host.settings;
        let of_plugin = host.stage == Stage::Configure;
        let bytes = if of_plugin { &settings.configuration } else { &settings.vm_configuration };
        out.extend_from_slice(bytes);
        Ok(())
    })
}

/// The buffers that belong to a side of a stream.
fn of_stream(buffer: u32) -> Option<(Kind, usize)> {
    match buffer {
        0 => Some((Kind::Exchange, 0)),
        1 => Some((Kind::Exchange, 1)),
        2 => Some((Kind::Connection, 0)),
        3 => Some((Kind::Connection, 1)),
        _ => None,
    }
}

/// Outside its phase a body is empty, and so are a connection's bytes, as in Envoy; an answer of which there is none is not found.
fn readable(host: &Host, buffer: u32) -> Result<&[u8], Status> {
    let of_answer = |grpc: bool| {
        let view = host.view.as_ref().filter(|view| view.grpc == grpc);
        view.and_then(|view| view.body.as_deref()).ok_or(Status::NotFound)
    };
    if let Some((kind, index)) = of_stream(buffer) {
        let stream = host.stream_ref().filter(|stream| stream.kind == kind);
        let side: Option<&Side> = stream.map(|stream| &stream.sides[index]).filter(|side| side.in_body);
        return Ok(side.map_or(&[], |side| side.body.as_slice()));
    }
    match buffer {
        4 => of_answer(false),
        5 => of_answer(true),
        6 => Ok(&host.settings.vm_configuration),
        7 => Ok(&host.settings.configuration),
        8 => Err(Status::NotFound),
        _ => Err(Status::BadArgument),
    }
}
