//! Header maps: reading, changing, and what may be changed when.

use std::fmt;

use super::memory::part;
use super::{Cx, Linked, hostcalls};
use crate::abi::AbiVersion;
use crate::host::{Host, Stage};
use crate::map::{Map, Pair};
use crate::pairs;
use crate::status::{Failure, Outcome, Status};

pub(super) fn link(linked: &mut Linked) -> wasmtime::Result<()> {
    hostcalls! { linked;
        "proxy_get_header_map_pairs"(map: u32, p: u32, n: u32) => pairs;
        "proxy_set_header_map_pairs"(map: u32, p: u32, n: u32) => set_pairs;
        "proxy_get_header_map_size"(map: u32, out: u32) => size;
        "proxy_get_header_map_value"(map: u32, k: u32, kn: u32, p: u32, n: u32) => value;
        "proxy_add_header_map_value"(map: u32, k: u32, kn: u32, v: u32, vn: u32) => add;
        "proxy_replace_header_map_value"(map: u32, k: u32, kn: u32, v: u32, vn: u32) => replace;
        "proxy_remove_header_map_value"(map: u32, k: u32, kn: u32) => remove;
    }
    Ok(())
}

fn pairs(cx: &mut Cx<'_, '_>, map: u32, pointer: u32, length: u32) -> Outcome {
    cx.give((pointer, length), |host, out| {
        if let Some(map) = readable(host, map)? {
            map.write(out);
        }
        Ok(())
    })
}

fn set_pairs(cx: &mut Cx<'_, '_>, map: u32, pointer: u32, length: u32) -> Outcome {
    let (memory, host) = cx.split();
    let pairs = pairs::read(part(memory, (pointer, length))?);
    writable(host, map)?.set_all(&pairs)?;
    Ok(())
}

fn size(cx: &mut Cx<'_, '_>, map: u32, out: u32) -> Outcome {
    let map = readable(cx.host(), map)?;
    let bytes = map.map_or(0, |map| map.bytes());
    cx.write_u32(out, u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// The first value only, as in Envoy.
fn value(cx: &mut Cx<'_, '_>, map: u32, k: u32, kn: u32, pointer: u32, length: u32) -> Outcome {
    let old = cx.host().abi == AbiVersion::V0_1_0;
    // By hand, since the name lies in the memory that is written to.
    let (memory, host) = cx.split();
    let name = part(memory, (k, kn))?;
    let mut scratch = std::mem::take(&mut host.scratch);
    scratch.clear();
    let found = match readable(host, map)?.ok_or(Status::BadArgument)?.get(name) {
        Some(value) => {
            scratch.extend_from_slice(value);
            Ok(())
        }
        None if old => Ok(()),
        None => Err(Failure::from(Status::NotFound)),
    };
    let given = found.and_then(|()| cx.hand_over((pointer, length), &scratch));
    cx.host().scratch = scratch;
    given
}

fn add(cx: &mut Cx<'_, '_>, map: u32, k: u32, kn: u32, v: u32, vn: u32) -> Outcome {
    let (memory, host) = cx.split();
    let (name, value) = (part(memory, (k, kn))?, part(memory, (v, vn))?);
    Ok(writable(host, map)?.add(name, value)?)
}

fn replace(cx: &mut Cx<'_, '_>, map: u32, k: u32, kn: u32, v: u32, vn: u32) -> Outcome {
    let (memory, host) = cx.split();
    let (name, value) = (part(memory, (k, kn))?, part(memory, (v, vn))?);
    Ok(writable(host, map)?.replace(name, value)?)
}

fn remove(cx: &mut Cx<'_, '_>, map: u32, k: u32, kn: u32) -> Outcome {
    let (memory, host) = cx.split();
    let name = part(memory, (k, kn))?;
    writable(host, map)?.remove(name);
    Ok(())
}

/// A map to be looked at: one that lies in a slot, or one of those that are only told.
pub(super) enum Readable<'a> {
    Map(&'a Map),
    Request(&'a crate::map::RequestHead),
    Response(&'a crate::map::ResponseHead),
}

/// `None`: there is such a map, but not now.
pub(super) fn readable(host: &Host, number: u32) -> Result<Option<Readable<'_>>, Failure> {
    let stream = host.stream_ref();
    let slot = match number {
        0 | 2 => stream.and_then(|stream| stream.sides[side(number)].headers.as_ref()),
        1 | 3 => stream.and_then(|stream| stream.sides[side(number)].trailers.as_ref()),
        4..=7 => {
            let view = host.view.as_ref().filter(|view| view.grpc == (number < 6));
            view.and_then(|view| {
                if number.is_multiple_of(2) { view.headers.as_ref() } else { view.trailers.as_ref() }
            })
        }
        _ => return Err(Status::BadArgument.into()),
    };
    if let Some(map) = slot {
        return Ok(Some(Readable::Map(map)));
    }
    let logged = stream.filter(|_| host.stage == Stage::Logging).map(|stream| &stream.logged);
    Ok(match number {
        0 => logged.and_then(|logged| logged.request.as_deref()).map(Readable::Request),
        2 => logged.and_then(|logged| logged.response.as_deref()).map(Readable::Response),
        _ => None,
    })
}

fn writable(host: &mut Host, number: u32) -> Result<&mut Map, Status> {
    if host.stage == Stage::Logging {
        return Err(Status::BadArgument);
    }
    let stream = host.stream().ok_or(Status::BadArgument)?;
    match number {
        0 | 2 => stream.sides[side(number)].headers.as_mut(),
        1 | 3 => stream.sides[side(number)].trailers.as_mut(),
        _ => None,
    }
    .ok_or(Status::BadArgument)
}

/// Requests are 0 and 1, responses 2 and 3.
fn side(number: u32) -> usize {
    usize::from(number > 1)
}

impl<'a> Readable<'a> {
    /// Looks at it, whatever kind it is.
    pub(super) fn get(&self, name: &[u8]) -> Option<&'a [u8]> {
        match self {
            Self::Map(map) => map.get(name),
            Self::Request(head) => head.get(name),
            Self::Response(head) => head.get(name),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Map(map) => pairs::write(out, || map.pairs()),
            Self::Request(head) => pairs::write(out, || head.pairs()),
            Self::Response(head) => pairs::write(out, || head.pairs()),
        }
    }

    fn bytes(&self) -> usize {
        let sum = |sum, (name, value): Pair<'_>| sum + name.len() + value.len();
        match self {
            Self::Map(map) => map.pairs().fold(0, sum),
            Self::Request(head) => head.pairs().fold(0, sum),
            Self::Response(head) => head.pairs().fold(0, sum),
        }
    }
}

impl fmt::Debug for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readable")
    }
}
