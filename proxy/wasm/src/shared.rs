//! What plugins share beyond one VM: values with compare-and-swap, and queues. By `vm_id`, across all threads, bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::mailbox::Mailbox;
use crate::status::Status;

/// Of the values of one `vm_id`, with their keys; and of the items of one of its queues.
const MAX_BYTES: usize = 16 << 20;
/// Values of one `vm_id`.
const MAX_VALUES: usize = 64 * 1024;
const MAX_QUEUES: usize = 1024;

/// All that is shared in a process.
#[derive(Debug, Default)]
pub struct Shared {
    stores: Mutex<FxHashMap<String, Arc<Store>>>,
    queues: Mutex<Queues>,
}

/// The values of one `vm_id`.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<Values>);

#[derive(Debug, Default)]
struct Values {
    values: FxHashMap<Vec<u8>, (Bytes, u32)>,
    bytes: usize,
    /// Of the last write; values of one store never share a number, so a value that was removed and written again is told apart.
    last: u32,
}

#[derive(Debug, Default)]
struct Queues {
    /// By `vm_id` and name; its number is its place in the list, from 1.
    numbers: FxHashMap<(String, Vec<u8>), u32>,
    list: Vec<Queue>,
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Bytes>,
    bytes: usize,
    /// Who is told: the VM that registered first and still lives.
    readers: Vec<Weak<Mailbox>>,
}

impl Shared {
    pub(crate) fn store(&self, vm_id: &str) -> Arc<Store> {
        self.stores.lock().entry(vm_id.to_owned()).or_default().clone()
    }

    /// Opens a queue, and tells `reader` of what comes.
    pub(crate) fn register(&self, vm_id: &str, name: &[u8], reader: &Arc<Mailbox>) -> Result<u32, Status> {
        let mut queues = self.queues.lock();
        let key = (vm_id.to_owned(), name.to_owned());
        let number = match queues.numbers.get(&key) {
            Some(number) => *number,
            None if queues.list.len() >= MAX_QUEUES => return Err(Status::InternalFailure),
            None => {
                queues.list.push(Queue { items: VecDeque::new(), bytes: 0, readers: Vec::new() });
                let number = u32::try_from(queues.list.len()).map_err(|_| Status::InternalFailure)?;
                queues.numbers.insert(key, number);
                number
            }
        };
        let reader = Arc::downgrade(reader);
        if let Some(queue) = queues.get(number) {
            queue.readers.retain(|own| own.strong_count() > 0);
            if !queue.readers.iter().any(|own| own.ptr_eq(&reader)) {
                queue.readers.push(reader);
            }
        }
        Ok(number)
    }

    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Result<u32, Status> {
        let key = (vm_id.to_owned(), name.to_owned());
        self.queues.lock().numbers.get(&key).copied().ok_or(Status::NotFound)
    }

    pub(crate) fn enqueue(&self, number: u32, item: &[u8]) -> Result<(), Status> {
        let mut queues = self.queues.lock();
        let queue = queues.get(number).ok_or(Status::NotFound)?;
        if queue.bytes + item.len() > MAX_BYTES {
            return Err(Status::InternalFailure);
        }
        queue.bytes += item.len();
        queue.items.push_back(Bytes::copy_from_slice(item));
        let reader = queue.readers.iter().find_map(Weak::upgrade);
        drop(queues);
        if let Some(reader) = reader {
            reader.queue_ready(number);
        }
        Ok(())
    }

    pub(crate) fn dequeue(&self, number: u32) -> Result<Bytes, Status> {
        let mut queues = self.queues.lock();
        let queue = queues.get(number).ok_or(Status::NotFound)?;
        let item = queue.items.pop_front().ok_or(Status::Empty)?;
        queue.bytes -= item.len();
        Ok(item)
    }
}

impl Queues {
    fn get(&mut self, number: u32) -> Option<&mut Queue> {
        self.list.get_mut(usize::try_from(number).ok()?.checked_sub(1)?)
    }
}

impl Store {
    pub(crate) fn get(&self, key: &[u8]) -> Result<(Bytes, u32), Status> {
        self.0.lock().values.get(key).cloned().ok_or(Status::NotFound)
    }

    /// `cas` 0 writes whatever is there. On a key that does not exist any is taken, as Envoy does.
    pub(crate) fn set(&self, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        let mut values = self.0.lock();
        let old = values.values.get(key).map(|(value, cas)| (value.len() + key.len(), *cas));
        if cas != 0 && old.is_some_and(|(_, own)| own != cas) {
            return Err(Status::CasMismatch);
        }
        let bytes = values.bytes - old.map_or(0, |(bytes, _)| bytes) + key.len() + value.len();
        if bytes > MAX_BYTES || (old.is_none() && values.values.len() >= MAX_VALUES) {
            return Err(Status::InternalFailure);
        }
        values.bytes = bytes;
        values.last = values.last.wrapping_add(1).max(1);
        let written = (Bytes::copy_from_slice(value), values.last);
        values.values.insert(key.to_owned(), written);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_or_invented_cas_is_refused_except_for_a_key_that_is_new() {
        let store = Shared::default().store("vm");
        assert_eq!(store.get(b"k").unwrap_err(), Status::NotFound);
        store.set(b"k", b"1", 77).unwrap();
        let (_, cas) = store.get(b"k").unwrap();
        assert_eq!(cas, 1);
        assert_eq!(store.set(b"k", b"2", 99), Err(Status::CasMismatch));
        store.set(b"k", b"2", cas).unwrap();
        assert_eq!(store.set(b"k", b"3", cas), Err(Status::CasMismatch));
        store.set(b"k", b"4", 0).unwrap();
        let (value, newer) = store.get(b"k").unwrap();
        assert!(&*value == b"4" && newer > cas);
    }

    #[test]
    fn values_belong_to_their_vm_id_and_are_bounded() {
        let shared = Shared::default();
        shared.store("a").set(b"k", b"1", 0).unwrap();
        assert_eq!(shared.store("b").get(b"k").unwrap_err(), Status::NotFound);
        let large = vec![0; MAX_BYTES - 1];
        assert_eq!(shared.store("a").set(b"m", &large, 0), Err(Status::InternalFailure));
        shared.store("b").set(b"k", &large, 0).unwrap();
        // Its own place counts as free.
        shared.store("b").set(b"k", &large, 0).unwrap();
    }

    #[test]
    fn a_queue_is_first_in_first_out_and_tells_one_reader() {
        let shared = Shared::default();
        let (first, second) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
        let queue = shared.register("vm", b"q", &first).unwrap();
        assert_eq!(shared.register("vm", b"q", &second).unwrap(), queue);
        assert_eq!(shared.resolve("vm", b"q"), Ok(queue));
        assert_eq!(shared.resolve("other", b"q"), Err(Status::NotFound));
        shared.enqueue(queue, b"1").unwrap();
        shared.enqueue(queue, b"2").unwrap();
        assert_eq!((first.take_ready(), second.take_ready()), (vec![queue, queue], vec![]));
        assert_eq!(&*shared.dequeue(queue).unwrap(), b"1");
        assert_eq!(&*shared.dequeue(queue).unwrap(), b"2");
        assert_eq!(shared.dequeue(queue), Err(Status::Empty));
        assert_eq!(shared.dequeue(queue + 1), Err(Status::NotFound));
        drop(first);
        shared.enqueue(queue, b"3").unwrap();
        assert_eq!(second.take_ready(), [queue]);
    }
}
