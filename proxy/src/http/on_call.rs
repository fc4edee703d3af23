//! A future that is asked again only once it has called. What a connection waits for besides requests (a drain, its timer)
//! would else be asked at every poll of its task, and answer each time that nothing has happened.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// See the module.
pub(super) struct OnCall<F> {
    future: Pin<Box<F>>,
    bell: Option<Bell>,
}

struct Bell {
    rope: Arc<Rope>,
    /// As what is polled knows it.
    waker: Waker,
}

struct Rope {
    pulled: AtomicBool,
    task: Waker,
}

impl<F: Future> OnCall<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future: Box::pin(future), bell: None }
    }

    /// The future itself, to be changed or asked. It will be asked again afterwards.
    pub(super) fn itself(&mut self) -> Pin<&mut F> {
        self.bell = None;
        self.future.as_mut()
    }

    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<F::Output> {
        let bell = match &mut self.bell {
            Some(bell) if bell.rope.task.will_wake(cx.waker()) => {
                if !bell.rope.pulled.load(Ordering::Relaxed) {
                    return Poll::Pending;
                }
                // Before it is asked: what it calls meanwhile must not be missed.
                bell.rope.pulled.store(false, Ordering::SeqCst);
                bell
            }
            bell => bell.insert(Bell::new(cx.waker())),
        };
        self.future.as_mut().poll(&mut Context::from_waker(&bell.waker))
    }
}

impl Bell {
    fn new(task: &Waker) -> Self {
        let rope = Arc::new(Rope { pulled: AtomicBool::new(false), task: task.clone() });
        Self { waker: Waker::from(rope.clone()), rope }
    }
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.pulled.store(true, Ordering::SeqCst);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicU32;

    use tokio::sync::oneshot;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_has_not_called_is_not_asked_again_and_what_has_is() {
        let (asked, woken) = (AtomicU32::new(0), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let (call, mut called) = oneshot::channel();
        let mut waiting = OnCall::new(poll_fn(|cx| {
            asked.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut called).poll(cx)
        }));
        for _ in 0..5 {
            assert!(waiting.poll(&Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        call.send(7).unwrap();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the task is woken");
        assert_eq!(waiting.poll(&Context::from_waker(&waker)), Poll::Ready(Ok(7)));
    }

    #[test]
    fn another_task_that_polls_it_is_the_one_to_be_woken() {
        let (first, second) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let (call, called) = oneshot::channel();
        let mut waiting = OnCall::new(called);
        for woken in [&first, &second] {
            let waker = Waker::from(woken.clone());
            assert!(waiting.poll(&Context::from_waker(&waker)).is_pending());
        }
        call.send(7).unwrap();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (0, 1));
    }

    #[test]
    fn what_was_changed_is_asked_again() {
        let asked = AtomicU32::new(0);
        let mut waiting = OnCall::new(poll_fn(|_| {
            asked.fetch_add(1, Ordering::Relaxed);
            Poll::<()>::Pending
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.poll(&cx).is_pending());
        assert!(waiting.itself().poll(&mut cx).is_pending());
        assert!(waiting.poll(&cx).is_pending());
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
