//! What other toolchains expect of any host: Emscripten, and AssemblyScript.

use wasmtime::Caller;

use super::memory::part;
use super::{Linked, misc};
use crate::host::Host;
use crate::log::Level;

pub(super) fn link(linked: &mut Linked) -> wasmtime::Result<()> {
    linked.named("env", "emscripten_notify_memory_growth");
    linked.linker.func_wrap("env", "emscripten_notify_memory_growth", |_memory: i32| {})?;
    linked.named("env", "pthread_equal");
    linked.linker.func_wrap("env", "pthread_equal", |one: i32, other: i32| i32::from(one == other))?;
    linked.named("env", "seed");
    linked.linker.func_wrap("env", "seed", || -> f64 {
        let mut bytes = [0_u8; 4];
        let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        f64::from(u32::from_le_bytes(bytes))
    })?;
    linked.named("env", "abort");
    linked.linker.func_wrap("env", "abort", abort)?;
    Ok(())
}

/// AssemblyScript's panic: its texts are UTF-16, with their size in front.
fn abort(
    mut caller: Caller<'_, Host>,
    message: u32,
    _file: u32,
    line: u32,
    column: u32,
) -> wasmtime::Result<()> {
    let text = caller.data().memory.and_then(|memory| text(memory.data(&caller), message));
    let told = format!("abort: {} at {line}:{column}", text.unwrap_or_default());
    misc::write_log(caller.data_mut(), Level::Critical, told.as_bytes());
    Err(wasmtime::Error::msg(told))
}

fn text(memory: &[u8], at: u32) -> Option<String> {
    let size = part(memory, (at.checked_sub(4)?, 4)).ok()?;
    let size = u32::from_le_bytes(size.try_into().ok()?).min(1024) & !1;
    let bytes = part(memory, (at, size)).ok()?;
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Some(String::from_utf16_lossy(&units))
}
