//! Logging, time, contexts, and going on.

use http::{HeaderName, HeaderValue, StatusCode};

use super::memory::part;
use super::{Cx, Linked, hostcalls};
use crate::host::{ROOT, Stage, Tick};
use crate::log::{Level, Line, MAX_LINE};
use crate::pairs;
use crate::status::{Outcome, Status};
use crate::stream::{Direction, Kind, LocalResponse};

pub(super) fn link(linked: &mut Linked) -> wasmtime::Result<()> {
    hostcalls! { linked;
        "proxy_log"(level: u32, p: u32, n: u32) => log;
        "proxy_get_log_level"(out: u32) => log_level;
        "proxy_get_current_time_nanoseconds"(out: u32) => time;
        "proxy_set_tick_period_milliseconds"(period: u32) => tick_period;
        "proxy_set_effective_context"(context: u32) => effective_context;
        "proxy_done"() => done;
        "proxy_continue_stream"(stream: u32) => continue_stream;
        "proxy_close_stream"(stream: u32) => close_stream;
        "proxy_continue_request"() => continue_request;
        "proxy_continue_response"() => continue_response;
        "proxy_clear_route_cache"() => nothing;
        "proxy_call_foreign_function"(f: u32, fn_: u32, a: u32, an: u32, p: u32, n: u32) => foreign_function;
    }
    let bit = linked.hostcall("proxy_send_local_response");
    linked.linker.func_wrap(
        "env",
        "proxy_send_local_response",
        move |mut caller: wasmtime::Caller<'_, crate::host::Host>,
              code: u32,
              d: u32,
              dn: u32,
              b: u32,
              bn: u32,
              h: u32,
              hn: u32,
              grpc: i32| {
            let response = Sent { code, details: (d, dn), body: (b, bn), headers: (h, hn), grpc };
            super::run(&mut caller, ("proxy_send_local_response", bit), |cx| local_response(cx, &response))
        },
    )?;
    Ok(())
}

/// Writes a line to the plugin's log, within its rate.
pub(super) fn write_log(host: &mut crate::host::Host, level: Level, message: &[u8]) {
    let outside = host.world.outside.clone();
    if level < outside.log_level() {
        return;
    }
    let now = outside.clock().monotonic();
    let Some(dropped) = host.log_rate.admit(host.settings.budgets.log_lines, now) else {
        return host.stats.line_dropped();
    };
    let message = String::from_utf8_lossy(&message[..message.len().min(MAX_LINE)]);
    let stream = host.streams.get(&host.effective).map(|stream| stream.exchange.view());
    outside.log(&Line { plugin: &host.settings.name, level, stream, message: &message, dropped });
}

fn log(cx: &mut Cx<'_, '_>, level: u32, pointer: u32, length: u32) -> Outcome {
    let level = Level::from_number(level).ok_or(Status::BadArgument)?;
    let (memory, host) = cx.split();
    write_log(host, level, part(memory, (pointer, length))?);
    Ok(())
}

fn log_level(cx: &mut Cx<'_, '_>, out: u32) -> Outcome {
    let level = cx.host().world.outside.log_level();
    cx.write_u32(out, level as u32)
}

fn time(cx: &mut Cx<'_, '_>, out: u32) -> Outcome {
    let now = cx.host().world.outside.clock().wall();
    cx.write_u64(out, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

fn tick_period(cx: &mut Cx<'_, '_>, period: u32) -> Outcome {
    let host = cx.host();
    let every = std::time::Duration::from_millis(period.into());
    let next = host.world.outside.clock().monotonic() + every;
    host.tick = (period > 0).then_some(Tick { every, next });
    host.mailbox.wake();
    Ok(())
}

fn effective_context(cx: &mut Cx<'_, '_>, context: u32) -> Outcome {
    let host = cx.host();
    if context != ROOT && !host.streams.contains_key(&context) {
        return Err(Status::BadArgument.into());
    }
    host.effective = context;
    Ok(())
}

fn done(cx: &mut Cx<'_, '_>) -> Outcome {
    let host = cx.host();
    if host.effective != ROOT || !std::mem::take(&mut host.pending_done) {
        return Err(Status::NotFound.into());
    }
    host.mailbox.wake();
    Ok(())
}

/// Of what the stream is not, nothing can go on, and nothing is said of it, as in Envoy.
fn continue_stream(cx: &mut Cx<'_, '_>, stream: u32) -> Outcome {
    let (kind, direction) = side(stream)?;
    let stream = cx.host().stream().ok_or(Status::BadArgument)?;
    if stream.kind == kind {
        stream.resume(direction);
    }
    Ok(())
}

/// A connection ends as a whole, whichever of its sides is named: the other one would be of no use to anybody.
fn close_stream(cx: &mut Cx<'_, '_>, stream: u32) -> Outcome {
    let (kind, _) = side(stream)?;
    let stream = cx.host().stream().ok_or(Status::BadArgument)?;
    if stream.kind == kind {
        stream.closed = true;
        stream.wake();
    }
    Ok(())
}

fn side(stream: u32) -> Result<(Kind, Direction), Status> {
    match stream {
        0 => Ok((Kind::Exchange, Direction::Request)),
        1 => Ok((Kind::Exchange, Direction::Response)),
        2 => Ok((Kind::Connection, Direction::Request)),
        3 => Ok((Kind::Connection, Direction::Response)),
        _ => Err(Status::BadArgument),
    }
}

fn continue_request(cx: &mut Cx<'_, '_>) -> Outcome {
    continue_stream(cx, 0)
}

fn continue_response(cx: &mut Cx<'_, '_>) -> Outcome {
    continue_stream(cx, 1)
}

fn nothing(_cx: &mut Cx<'_, '_>) -> Outcome {
    Ok(())
}

/// There are none: that is how a plugin finds out that it is not in Envoy.
#[expect(clippy::too_many_arguments, reason = "the ABI has so many")]
fn foreign_function(
    cx: &mut Cx<'_, '_>,
    name: u32,
    length: u32,
    arguments: u32,
    size: u32,
    _results: u32,
    _results_length: u32,
) -> Outcome {
    cx.read((name, length))?;
    cx.read((arguments, size))?;
    Err(Status::NotFound.into())
}

/// The arguments of `proxy_send_local_response`.
struct Sent {
    code: u32,
    details: (u32, u32),
    body: (u32, u32),
    headers: (u32, u32),
    grpc: i32,
}

/// The first one counts. When all is over, and when the answer's head has gone, it says nothing to anybody.
fn local_response(cx: &mut Cx<'_, '_>, sent: &Sent) -> Outcome {
    let (memory, host) = cx.split();
    let status = u16::try_from(sent.code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Status::BadArgument)?;
    let details = part(memory, sent.details)?;
    let body = part(memory, sent.body)?;
    let pairs = pairs::read(part(memory, sent.headers)?);
    let logging = host.stage == Stage::Logging;
    let stream = host.stream().ok_or(Status::BadArgument)?;
    // To bytes there is no answer.
    if logging || stream.local.is_some() || stream.kind == Kind::Connection {
        return Ok(());
    }
    if stream.answered {
        stream.closed = true;
        stream.wake();
        return Ok(());
    }
    let header = |(name, value): &(&[u8], &[u8])| {
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    stream.local = Some(LocalResponse {
        status,
        headers: pairs.iter().filter_map(header).collect(),
        body: bytes::Bytes::copy_from_slice(body),
        grpc_status: u32::try_from(sent.grpc).ok(),
        details: String::from_utf8_lossy(details).into_owned(),
    });
    stream.wake();
    Ok(())
}
