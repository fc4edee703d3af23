use super::*;
use crate::config::ProxyConfig;
use crate::telemetry::{LogTarget, Telemetry, TelemetryConfig};
use std::fs;
use std::sync::atomic::AtomicU8;
use tidegate_policy::Timestamp;
use tidegate_policy::state::{Body, Moved, Persist, StateKey};
use tokio::time::sleep;

/// A limit, as far as this module knows.
#[derive(Default)]
struct Count(AtomicU8);

impl Persist for Count {
    fn save(&self, _: Timestamp) -> Option<Body> {
        let count = self.0.load(Ordering::Relaxed);
        (count > 0).then(|| Body { bytes: vec![count], items: 1 })
    }

    fn restore(&self, body: &[u8], _: Moved) {
        self.0.store(body[0], Ordering::Relaxed);
    }
}

fn proxy(directory: &Path) -> Arc<ProxyState> {
    let config = TelemetryConfig { access_log: LogTarget::Off, ..TelemetryConfig::default() };
    let (telemetry, _guard) = Telemetry::start(config, &Handle::current());
    ProxyState::new(ProxyConfig { state_dir: Some(directory.into()), ..ProxyConfig::default() }, telemetry)
}

fn count(proxy: &ProxyState) -> Arc<Count> {
    proxy.store.state().get_or_restore(StateKey::new("policy", "limit"), Count::default)
}

async fn some_turns() {
    sleep(EVERY * 2).await;
}

#[tokio::test(start_paused = true)]
async fn counters_are_written_every_few_seconds_while_they_change() {
    let directory = tempfile::tempdir().unwrap();
    let (proxy, file) = (proxy(directory.path()), CountersFile::of(directory.path()));
    let _counters = Counters::keep(&proxy, &Handle::current(), CancellationToken::new()).unwrap();
    some_turns().await;
    assert!(file.load().unwrap().is_none(), "nothing is counted");
    for counted in [1, 2] {
        count(&proxy).0.store(counted, Ordering::Relaxed);
        some_turns().await;
        assert_eq!(file.load().unwrap().unwrap().pieces[0].body, [counted]);
        fs::remove_file(&file.0.path).unwrap();
        some_turns().await;
        assert!(file.load().unwrap().is_none(), "nothing has changed");
    }
    count(&proxy).0.store(0, Ordering::Relaxed);
    some_turns().await;
    assert!(
        file.load().unwrap().unwrap().pieces.is_empty(),
        "what is full again is forgotten on disk as well"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    fs::write(&path, "in the way").unwrap();
    let proxy = proxy(&path);
    let counters = Counters::keep(&proxy, &Handle::current(), CancellationToken::new()).unwrap();
    count(&proxy).0.store(1, Ordering::Relaxed);
    some_turns().await;
    assert!(counters.failing.load(Ordering::Relaxed));
    fs::remove_file(&path).unwrap();
    some_turns().await;
    assert!(CountersFile::of(&path).load().unwrap().is_some());
    assert!(!counters.failing.load(Ordering::Relaxed), "the next failure is told of again");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_not_waited_for_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = proxy(directory.path());
    let counters = Counters::keep(&proxy, &Handle::current(), CancellationToken::new()).unwrap();
    count(&proxy).0.store(1, Ordering::Relaxed);
    let hangs = counters.clone();
    let (begun, release) = (tokio::sync::oneshot::channel(), std::sync::mpsc::channel::<()>());
    // A thread of its own: tokio's clock stands still while one of its helpers is at work.
    let hanging = std::thread::spawn(move || {
        let _writing = hangs.written.lock();
        begun.0.send(()).unwrap();
        release.1.recv().unwrap();
    });
    begun.1.await.unwrap();
    tokio::time::resume();
    counters.finish_within(Duration::from_millis(1), proxy).await;
    release.0.send(()).unwrap();
    hanging.join().unwrap();
}
