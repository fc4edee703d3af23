//! Properties: what a plugin may ask of a request beside its messages. Paths are parts joined by NUL.
//!
//! What lies in the heads is there as long as those are, as in Envoy: in their own phase, and in the log.

use super::headers::{Readable, readable};
use super::memory::part;
use super::{Cx, Linked, hostcalls};
use crate::host::Host;
use crate::status::{Outcome, Status};

pub(super) fn link(linked: &mut Linked) -> wasmtime::Result<()> {
    hostcalls! { linked;
        "proxy_get_property"(path: u32, length: u32, p: u32, n: u32) => get;
        "proxy_set_property"(path: u32, length: u32, v: u32, vn: u32) => set;
    }
    Ok(())
}

fn get(cx: &mut Cx<'_, '_>, path: u32, length: u32, pointer: u32, out_length: u32) -> Outcome {
    let path = cx.read((path, length))?.to_owned();
    let value = find(cx.host(), &path).ok_or(Status::NotFound)?;
    cx.hand_over((pointer, out_length), &value)
}

fn set(cx: &mut Cx<'_, '_>, path: u32, length: u32, v: u32, vn: u32) -> Outcome {
    let (memory, host) = cx.split();
    let (path, value) = (part(memory, (path, length))?, part(memory, (v, vn))?);
    let stream = host.stream().ok_or(Status::NotFound)?;
    if stream.exchange.set(path, value) { Ok(()) } else { Err(Status::InternalFailure.into()) }
}

fn find(host: &Host, path: &[u8]) -> Option<Vec<u8>> {
    let path = path.strip_suffix(&[0]).unwrap_or(path);
    let stream = host.stream_ref();
    // What was set under several parts is not found again, as in Envoy.
    if !path.contains(&0)
        && let Some(value) = stream.and_then(|stream| stream.exchange.get(path))
    {
        return Some(value);
    }
    let text = std::str::from_utf8(path).ok()?;
    let parts: Vec<&str> = text.split('\0').collect();
    let text = |text: &str| Some(text.as_bytes().to_vec());
    match &*parts {
        ["plugin_name"] => text(&host.settings.name),
        ["plugin_root_id"] => text(&host.settings.root_id),
        ["plugin_vm_id"] => text(&host.settings.vm_id),
        ["request", name @ ..] if let Some(value) = of_request(host, name) => Some(value),
        ["response", name @ ..] if let Some(value) = of_response(host, name) => Some(value),
        parts => {
            let of_stream = stream.and_then(|stream| stream.exchange.view().property(parts));
            of_stream.or_else(|| host.world.outside.property(parts))
        }
    }
}

fn of_request(host: &Host, name: &[&str]) -> Option<Vec<u8>> {
    let head = readable(host, 0).ok()??;
    let value = match name {
        ["path"] => head.get(b":path")?,
        ["url_path"] => split(head.get(b":path")?).0,
        ["query"] => split(head.get(b":path")?).1,
        ["host"] => head.get(b":authority")?,
        ["scheme"] => head.get(b":scheme")?,
        ["method"] => head.get(b":method")?,
        ["useragent"] => head.get(b"user-agent")?,
        ["referer"] => head.get(b"referer")?,
        ["id"] => head.get(b"x-request-id")?,
        _ => return of_headers(&head, name),
    };
    Some(value.to_vec())
}

fn of_response(host: &Host, name: &[&str]) -> Option<Vec<u8>> {
    let head = readable(host, 2).ok()??;
    if let ["code"] = name {
        let code: i64 = std::str::from_utf8(head.get(b":status")?).ok()?.parse().ok()?;
        return Some(code.to_le_bytes().to_vec());
    }
    of_headers(&head, name)
}

fn of_headers(head: &Readable<'_>, name: &[&str]) -> Option<Vec<u8>> {
    match name {
        ["headers"] => {
            let mut out = Vec::new();
            head.write(&mut out);
            Some(out)
        }
        ["headers", name] => head.get(name.as_bytes()).map(<[u8]>::to_vec),
        _ => None,
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|byte| *byte == b'?') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, b""),
    }
}
