//! What outlives a VM: shared values, queues and metrics.

use super::memory::part;
use super::{Cx, Linked, hostcalls};
use crate::status::Outcome;

pub(super) fn link(linked: &mut Linked) -> wasmtime::Result<()> {
    hostcalls! { linked;
        "proxy_get_shared_data"(k: u32, kn: u32, p: u32, n: u32, cas: u32) => get_data;
        "proxy_set_shared_data"(k: u32, kn: u32, v: u32, vn: u32, cas: u32) => set_data;
        "proxy_register_shared_queue"(q: u32, qn: u32, out: u32) => register_queue;
        "proxy_resolve_shared_queue"(vm: u32, vmn: u32, q: u32, qn: u32, out: u32) => resolve_queue;
        "proxy_dequeue_shared_queue"(queue: u32, p: u32, n: u32) => dequeue;
        "proxy_enqueue_shared_queue"(queue: u32, p: u32, n: u32) => enqueue;
        "proxy_define_metric"(kind: u32, name: u32, length: u32, out: u32) => define_metric;
        "proxy_increment_metric"(metric: u32, by: i64) => increment_metric;
        "proxy_record_metric"(metric: u32, value: u64) => record_metric;
        "proxy_get_metric"(metric: u32, out: u32) => get_metric;
    }
    Ok(())
}

fn get_data(cx: &mut Cx<'_, '_>, k: u32, kn: u32, pointer: u32, length: u32, cas_at: u32) -> Outcome {
    let (memory, host) = cx.split();
    let (value, cas) = host.store.get(part(memory, (k, kn))?)?;
    cx.write_u32(cas_at, cas)?;
    cx.hand_over((pointer, length), &value)
}

fn set_data(cx: &mut Cx<'_, '_>, k: u32, kn: u32, v: u32, vn: u32, cas: u32) -> Outcome {
    let (memory, host) = cx.split();
    Ok(host.store.set(part(memory, (k, kn))?, part(memory, (v, vn))?, cas)?)
}

fn register_queue(cx: &mut Cx<'_, '_>, q: u32, qn: u32, out: u32) -> Outcome {
    let (memory, host) = cx.split();
    let name = part(memory, (q, qn))?;
    let queue = host.world.shared.register(&host.settings.vm_id, name, &host.mailbox)?;
    cx.write_u32(out, queue)
}

fn resolve_queue(cx: &mut Cx<'_, '_>, vm: u32, vmn: u32, q: u32, qn: u32, out: u32) -> Outcome {
    let (memory, host) = cx.split();
    let vm_id = String::from_utf8_lossy(part(memory, (vm, vmn))?);
    let vm_id = if vm_id.is_empty() { &host.settings.vm_id } else { &*vm_id };
    let queue = host.world.shared.resolve(vm_id, part(memory, (q, qn))?)?;
    cx.write_u32(out, queue)
}

fn dequeue(cx: &mut Cx<'_, '_>, queue: u32, pointer: u32, length: u32) -> Outcome {
    let item = cx.host().world.shared.dequeue(queue)?;
    cx.hand_over((pointer, length), &item)
}

fn enqueue(cx: &mut Cx<'_, '_>, queue: u32, pointer: u32, length: u32) -> Outcome {
    let (memory, host) = cx.split();
    Ok(host.world.shared.enqueue(queue, part(memory, (pointer, length))?)?)
}

fn define_metric(cx: &mut Cx<'_, '_>, kind: u32, name: u32, length: u32, out: u32) -> Outcome {
    let (memory, host) = cx.split();
    let metric = host.world.metrics.define(kind, part(memory, (name, length))?)?;
    cx.write_u32(out, metric)
}

fn increment_metric(cx: &mut Cx<'_, '_>, metric: u32, by: i64) -> Outcome {
    Ok(cx.host().world.metrics.increment(metric, by)?)
}

fn record_metric(cx: &mut Cx<'_, '_>, metric: u32, value: u64) -> Outcome {
    Ok(cx.host().world.metrics.record(metric, value)?)
}

fn get_metric(cx: &mut Cx<'_, '_>, metric: u32, out: u32) -> Outcome {
    let value = cx.host().world.metrics.get(metric)?;
    cx.write_u64(out, value)
}
