//! What other threads have for a VM, without its lock: they may hold locks of their own.

use std::task::Waker;

use parking_lot::Mutex;

/// Items in its queues at one time that a VM is told of; a plugin that is told once drains its queue.
const MAX_READY: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<Post>);

#[derive(Debug, Default)]
struct Post {
    ready: Vec<u32>,
    driver: Option<Waker>,
}

impl Mailbox {
    /// An item has come into a queue.
    pub(crate) fn queue_ready(&self, queue: u32) {
        let mut post = self.0.lock();
        if post.ready.len() < MAX_READY {
            post.ready.push(queue);
        }
        let driver = post.driver.take();
        drop(post);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    pub(crate) fn take_ready(&self) -> Vec<u32> {
        std::mem::take(&mut self.0.lock().ready)
    }

    pub(crate) fn has_post(&self) -> bool {
        !self.0.lock().ready.is_empty()
    }

    /// Who does the VM's work beside requests is woken at the next post.
    pub(crate) fn driven_by(&self, driver: &Waker) {
        self.0.lock().driver.get_or_insert_with(|| driver.clone()).clone_from(driver);
    }

    /// There is something else to do.
    pub(crate) fn wake(&self) {
        let driver = self.0.lock().driver.take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}
