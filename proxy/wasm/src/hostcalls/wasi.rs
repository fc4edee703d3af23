//! As much of WASI preview 1 as the SDKs' toolchains import: a clock, random numbers, an environment, and two streams to
//! write to. There are no files, no sockets and no arguments. Numbers are those of `errno`.

use wasmtime::Caller;

use super::memory::{Cx, part};
use super::{Linked, misc};
use crate::error::Exited;
use crate::host::Host;
use crate::log::Level;
use crate::status::{Failure, Status};

/// The old name has the same functions, as far as anybody uses them.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const NOENT: u32 = 44;
const NOSYS: u32 = 52;
const NOTSUP: u32 = 58;

const MAX_RANDOM: u32 = 64 * 1024;

type Errno = Result<(), u32>;

pub(super) fn link(linked: &mut Linked) -> wasmtime::Result<()> {
    for module in MODULES {
        output(linked, module)?;
        clocks(linked, module)?;
        environment(linked, module)?;
        answers(linked, module)?;
        linked.named(module, "proc_exit");
        linked.linker.func_wrap(module, "proc_exit", |code: i32| -> wasmtime::Result<()> {
            Err(Exited(code).into())
        })?;
    }
    Ok(())
}

/// Links functions of WASI: `name(parameters) => what runs`.
macro_rules! wasi {
    ($linked:ident, $module:ident; $($name:literal ($($param:ident: $ty:ty),*) => $run:expr;)*) => {
        $({
            $linked.named($module, $name);
            $linked.linker.func_wrap($module, $name, move |mut caller: Caller<'_, Host>, $($param: $ty),*| {
                errno(&mut caller, |cx| $run(cx, $($param),*))
            })?;
        })*
    };
}

/// Links functions that only ever answer one number.
macro_rules! answers {
    ($linked:ident, $module:ident; $($name:literal ($($ty:ty),*) => $answer:expr;)*) => {
        $({
            $linked.named($module, $name);
            $linked.linker.func_wrap($module, $name, |$(_: $ty),*| $answer)?;
        })*
    };
}

fn output(linked: &mut Linked, module: &'static str) -> wasmtime::Result<()> {
    wasi! { linked, module;
        "fd_write"(fd: u32, iovs: u32, count: u32, out: u32) => fd_write;
        "fd_pwrite"(fd: u32, iovs: u32, count: u32, _offset: u64, out: u32) =>
            |cx: &mut Cx<'_, '_>, fd, iovs, count, _offset, out| fd_write(cx, fd, iovs, count, out);
        "fd_fdstat_get"(fd: u32, out: u32) => fd_fdstat_get;
    }
    Ok(())
}

fn clocks(linked: &mut Linked, module: &'static str) -> wasmtime::Result<()> {
    wasi! { linked, module;
        "clock_time_get"(clock: u32, _precision: u64, out: u32) =>
            |cx: &mut Cx<'_, '_>, clock, _precision, out| clock_time_get(cx, clock, out);
        "clock_res_get"(_clock: u32, out: u32) => |cx: &mut Cx<'_, '_>, _clock, out| put(cx, out, &1_u64.to_le_bytes());
        "random_get"(at: u32, length: u32) => random_get;
        "poll_oneoff"(_subscriptions: u32, _events: u32, _count: u32, out: u32) =>
            |cx: &mut Cx<'_, '_>, _subscriptions, _events, _count, out| put_u32(cx, out, 0);
    }
    Ok(())
}

fn environment(linked: &mut Linked, module: &'static str) -> wasmtime::Result<()> {
    wasi! { linked, module;
        "environ_sizes_get"(count: u32, size: u32) => environ_sizes_get;
        "environ_get"(pointers: u32, texts: u32) => environ_get;
        "args_sizes_get"(count: u32, size: u32) => |cx: &mut Cx<'_, '_>, count, size| {
            put_u32(cx, count, 0)?;
            put_u32(cx, size, 0)
        };
    }
    Ok(())
}

/// There is nothing to open, so nothing to do with what is open. `fd_prestat_get` says that at once: a success would make
/// the C and Go libraries ask for ever.
fn answers(linked: &mut Linked, module: &'static str) -> wasmtime::Result<()> {
    answers! { linked, module;
        "args_get"(u32, u32) => SUCCESS;
        "sched_yield"() => SUCCESS;
        "fd_close"(u32) => SUCCESS;
        "fd_seek"(u32, u64, u32, u32) => SUCCESS;
        "fd_tell"(u32, u32) => BADF;
        "fd_prestat_get"(u32, u32) => BADF;
        "fd_prestat_dir_name"(u32, u32, u32) => NOSYS;
        "fd_fdstat_set_flags"(u32, u32) => NOSYS;
        "fd_fdstat_set_rights"(u32, u64, u64) => NOSYS;
        "fd_read"(u32, u32, u32, u32) => NOSYS;
        "fd_pread"(u32, u32, u32, u64, u32) => NOSYS;
        "fd_readdir"(u32, u32, u32, u64, u32) => NOSYS;
        "fd_advise"(u32, u64, u64, u32) => NOSYS;
        "fd_allocate"(u32, u64, u64) => NOSYS;
        "fd_datasync"(u32) => NOSYS;
        "fd_sync"(u32) => NOSYS;
        "fd_renumber"(u32, u32) => NOSYS;
        "fd_filestat_get"(u32, u32) => NOSYS;
        "fd_filestat_set_size"(u32, u64) => NOSYS;
        "fd_filestat_set_times"(u32, u64, u64, u32) => NOSYS;
        "path_open"(u32, u32, u32, u32, u32, u64, u64, u32, u32) => NOENT;
        "path_create_directory"(u32, u32, u32) => NOSYS;
        "path_filestat_get"(u32, u32, u32, u32, u32) => NOENT;
        "path_filestat_set_times"(u32, u32, u32, u32, u64, u64, u32) => NOSYS;
        "path_link"(u32, u32, u32, u32, u32, u32, u32) => NOSYS;
        "path_readlink"(u32, u32, u32, u32, u32, u32) => NOENT;
        "path_remove_directory"(u32, u32, u32) => NOSYS;
        "path_rename"(u32, u32, u32, u32, u32, u32) => NOSYS;
        "path_symlink"(u32, u32, u32, u32, u32) => NOSYS;
        "path_unlink_file"(u32, u32, u32) => NOSYS;
        "proc_raise"(u32) => NOSYS;
        "sock_accept"(u32, u32, u32) => NOSYS;
        "sock_recv"(u32, u32, u32, u32, u32, u32) => NOSYS;
        "sock_send"(u32, u32, u32, u32, u32) => NOSYS;
        "sock_shutdown"(u32, u32) => NOSYS;
    }
    Ok(())
}

fn errno(
    caller: &mut Caller<'_, Host>,
    call: impl FnOnce(&mut Cx<'_, '_>) -> Errno,
) -> wasmtime::Result<u32> {
    let Some(memory) = caller.data().memory else { return Ok(FAULT) };
    Ok(call(&mut Cx::new(caller, memory)).err().unwrap_or(SUCCESS))
}

fn put(cx: &mut Cx<'_, '_>, at: u32, bytes: &[u8]) -> Errno {
    cx.write(at, bytes).map_err(|_| FAULT)
}

fn put_u32(cx: &mut Cx<'_, '_>, at: u32, value: u32) -> Errno {
    put(cx, at, &value.to_le_bytes())
}

/// A line of the log for each call, without its newline.
fn fd_write(cx: &mut Cx<'_, '_>, fd: u32, iovs: u32, count: u32, out: u32) -> Errno {
    let level = match fd {
        1 => Level::Info,
        2 => Level::Error,
        _ => return Err(BADF),
    };
    let mut line = Vec::new();
    let mut written = 0_u32;
    let (memory, host) = cx.split();
    for number in 0..count.min(1024) {
        let at = iovs.checked_add(number * 8).ok_or(FAULT)?;
        let place = word(memory, at)?;
        let length = word(memory, at.checked_add(4).ok_or(FAULT)?)?;
        let piece = part(memory, (place, length)).map_err(|failure| fault(&failure))?;
        line.extend_from_slice(&piece[..piece.len().min(crate::log::MAX_LINE.saturating_sub(line.len()))]);
        written = written.saturating_add(length);
    }
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    if !text.is_empty() {
        misc::write_log(host, level, text);
    }
    put_u32(cx, out, written)
}

fn word(memory: &[u8], at: u32) -> Result<u32, u32> {
    let bytes = part(memory, (at, 4)).map_err(|failure| fault(&failure))?;
    Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| FAULT)?))
}

fn fault(failure: &Failure) -> u32 {
    match failure {
        Failure::Status(Status::InvalidMemoryAccess) => FAULT,
        Failure::Status(_) | Failure::Trap(_) => INVAL,
    }
}

/// A character device that can be written to.
fn fd_fdstat_get(cx: &mut Cx<'_, '_>, fd: u32, out: u32) -> Errno {
    if !matches!(fd, 1 | 2) {
        return Err(BADF);
    }
    let mut stat = [0; 24];
    (stat[0], stat[8]) = (2, 64);
    put(cx, out, &stat)
}

fn clock_time_get(cx: &mut Cx<'_, '_>, clock: u32, out: u32) -> Errno {
    let clocks = cx.host().world.outside.clone();
    let time = match clock {
        0 => clocks.clock().wall(),
        1 => clocks.clock().monotonic(),
        _ => return Err(NOTSUP),
    };
    put(cx, out, &u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_le_bytes())
}

/// Real randomness: Go does not start without it.
fn random_get(cx: &mut Cx<'_, '_>, at: u32, length: u32) -> Errno {
    if length > MAX_RANDOM {
        return Err(INVAL);
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| INVAL)?];
    let mut filled = 0;
    while filled < bytes.len() {
        let got = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += got.map_err(|_| NOSYS)?;
    }
    put(cx, at, &bytes)
}

fn environ_sizes_get(cx: &mut Cx<'_, '_>, count: u32, size: u32) -> Errno {
    let environment = &cx.host().settings.environment;
    let bytes: usize = environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let (variables, bytes) = (number(environment.len()), number(bytes));
    put_u32(cx, count, variables)?;
    put_u32(cx, size, bytes)
}

fn environ_get(cx: &mut Cx<'_, '_>, mut pointers: u32, mut texts: u32) -> Errno {
    let settings = cx.host().settings.clone();
    for (name, value) in &settings.environment {
        let text = format!("{name}={value}\0");
        put_u32(cx, pointers, texts)?;
        put(cx, texts, text.as_bytes())?;
        pointers = pointers.checked_add(4).ok_or(FAULT)?;
        texts = texts.checked_add(u32::try_from(text.len()).map_err(|_| FAULT)?).ok_or(FAULT)?;
    }
    Ok(())
}
