//! A world for plugins: its clock stands still unless told, and what they log is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use tidegate_wasm::{
    Clock, Code, Direction, Exchange, Level, Line, Logged, Outside, Plugin, RequestHead, ResponseHead,
    Settings, SharedVm, StartError, Step, StreamView, Work, World,
};

#[derive(Debug, Default)]
pub(crate) struct Lab {
    milliseconds: AtomicU64,
    lines: Mutex<Vec<String>>,
}

#[derive(Debug)]
struct View;

impl Clock for Lab {
    fn wall(&self) -> Duration {
        Duration::from_secs(1_000_000) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }
}

impl Outside for Lab {
    fn clock(&self) -> &dyn Clock {
        self
    }

    fn log(&self, line: &Line<'_>) {
        self.lines.lock().push(line.message.to_owned());
    }

    fn log_level(&self) -> Level {
        Level::Info
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        (path == ["node", "id"]).then(|| b"node-1".to_vec())
    }
}

impl StreamView for View {
    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        (path == ["source", "address"]).then(|| b"10.0.0.1:99".to_vec())
    }
}

impl Lab {
    pub(crate) fn new() -> (Arc<Self>, World) {
        let lab = Arc::new(Self::default());
        let world = World { outside: lab.clone(), shared: Arc::default(), metrics: Arc::default() };
        (lab, world)
    }

    /// What was logged since the last time.
    pub(crate) fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock())
    }

    pub(crate) fn pass(&self, milliseconds: u64) {
        self.milliseconds.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

pub(crate) fn settings() -> Settings {
    let mut settings = Settings::named("test");
    settings.root_id = String::from("root");
    settings.configuration = Bytes::from_static(b"configured");
    settings.vm_configuration = Bytes::from_static(b"vm configured");
    settings.capabilities.upstreams = vec![String::from("known")];
    settings
}

pub(crate) fn start(module: &[u8], settings: Settings, world: &World) -> Result<Plugin, StartError> {
    Plugin::new(Code::load(module, None).unwrap(), settings, world.clone(), 1)
}

/// One plugin with its VM.
pub(crate) struct Bench {
    pub(crate) lab: Arc<Lab>,
    pub(crate) plugin: Plugin,
}

impl Bench {
    pub(crate) fn of(module: &[u8]) -> Self {
        Self::with(module, settings())
    }

    pub(crate) fn with(module: &[u8], settings: Settings) -> Self {
        let (lab, world) = Lab::new();
        let plugin = start(module, settings, &world).unwrap();
        lab.lines();
        Self { lab, plugin }
    }

    pub(crate) fn vm(&self) -> SharedVm {
        self.plugin.seat().unwrap().vm
    }

    pub(crate) fn open(&self) -> (SharedVm, u32) {
        let vm = self.vm();
        let id = vm.lock().open(exchange()).unwrap();
        (vm, id)
    }

    /// Does the work that there is beside requests.
    pub(crate) fn work(&self, vm: &SharedVm) -> Work {
        vm.lock().work(self.lab.monotonic(), Waker::noop())
    }

    /// The whole of an exchange that the plugin lets pass, in one step each.
    pub(crate) fn pass(&self) -> Result<(), tidegate_wasm::Fault> {
        let vm = self.vm();
        let mut vm = vm.lock();
        let id = vm.open(exchange())?;
        let whole = |vm: &mut tidegate_wasm::Vm| {
            assert_eq!(vm.request_headers(id, request(), false)?, Step::Go);
            let request = vm.take_request(id).map(Arc::new);
            assert_eq!(vm.body(id, Direction::Request, Bytes::from_static(b"asked"), true)?, Step::Go);
            vm.take_body(id, Direction::Request);
            assert_eq!(vm.response_headers(id, response(), false)?, Step::Go);
            let response = vm.take_response(id).map(Arc::new);
            assert_eq!(vm.body(id, Direction::Response, Bytes::from_static(b"answered"), true)?, Step::Go);
            vm.take_body(id, Direction::Response);
            Ok(Logged { request, response })
        };
        let outcome = whole(&mut vm);
        vm.close(id, outcome.clone().unwrap_or_default());
        outcome.map(drop)
    }
}

pub(crate) fn exchange() -> Arc<Exchange> {
    Arc::new(Exchange::new(View))
}

pub(crate) fn measured() -> Arc<Exchange> {
    Arc::new(Exchange::new(View).measured(true))
}

pub(crate) fn request() -> RequestHead {
    let mut headers = HeaderMap::new();
    headers.insert("host", "a.test".parse().unwrap());
    headers.insert("x-a", "1".parse().unwrap());
    RequestHead { method: Method::POST, uri: "/path?query".parse().unwrap(), https: false, headers }
}

pub(crate) fn response() -> ResponseHead {
    let mut headers = HeaderMap::new();
    headers.insert("x-b", "2".parse().unwrap());
    ResponseHead { status: http::StatusCode::OK, headers }
}
