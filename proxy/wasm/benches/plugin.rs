//! What plugins cost: a request through one that adds a header each way, a new VM, and a module of 2 MB from the cache.
//!
//! `cargo bench -p tidegate-wasm`; with `PLUGIN=module.wasm`, that one instead of the one that is written here.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

#[path = "../tests/host/module.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod module;

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method, StatusCode};
use tidegate_wasm::{
    Cache, Clock, Code, Direction, Exchange, Level, Line, Logged, Outside, Plugin, RequestHead, ResponseHead,
    Settings, StreamView, SystemClock, World,
};

use module::{callback, event, plugin};

#[derive(Debug)]
struct Here(Arc<SystemClock>);
#[derive(Debug)]
struct Nothing;

impl Outside for Here {
    fn clock(&self) -> &dyn Clock {
        &*self.0
    }

    fn log(&self, line: &Line<'_>) {
        black_box(line.message.len());
    }

    fn log_level(&self) -> Level {
        Level::Error
    }

    fn property(&self, _: &[&str]) -> Option<Vec<u8>> {
        None
    }
}

impl StreamView for Nothing {
    fn property(&self, _: &[&str]) -> Option<Vec<u8>> {
        None
    }
}

fn world() -> World {
    World { outside: Arc::new(Here(SystemClock::shared())), shared: Arc::default(), metrics: Arc::default() }
}

/// One header more each way, and every callback that the public SDKs export.
fn adds_a_header() -> Vec<u8> {
    let add = |map: u8| format!("(drop (call $add_header_map_value (i32.const {map}) @\"x-plugin\" @\"1\"))");
    let functions = [
        event("context_create", 2, ""),
        callback("request_headers", 3, &add(0)),
        callback("request_body", 3, ""),
        callback("response_headers", 3, &add(2)),
        callback("response_body", 3, ""),
        event("log", 1, ""),
        "(func (export \"proxy_on_done\") (param i32) (result i32) (i32.const 1))".to_owned(),
        event("delete", 1, ""),
    ];
    plugin(&functions.concat())
}

fn measured() -> Vec<u8> {
    std::env::var_os("PLUGIN").map_or_else(adds_a_header, |path| std::fs::read(path).unwrap())
}

fn headers(count: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", "shop.example".parse().unwrap());
    for n in 1..count {
        let name: http::HeaderName = format!("x-header-{n}").parse().unwrap();
        headers.insert(name, "a value of some length".parse().unwrap());
    }
    headers
}

fn exchange(criterion: &mut Criterion) {
    let plugin =
        Plugin::new(Code::load(&measured(), None).unwrap(), Settings::named("bench"), world(), 1).unwrap();
    let heads = || {
        let uri = "/a/path?query".parse().unwrap();
        let request = RequestHead { method: Method::GET, uri, https: false, headers: headers(10) };
        (request, ResponseHead { status: StatusCode::OK, headers: headers(8) })
    };
    criterion.bench_function("an exchange without bodies", |bencher| {
        let run = |(request, response)| {
            let vm = plugin.seat().unwrap().vm;
            let mut vm = vm.lock();
            let id = vm.open(Arc::new(Exchange::new(Nothing))).unwrap();
            black_box(vm.request_headers(id, request, true).unwrap());
            let request = vm.take_request(id).map(Arc::new);
            black_box(vm.response_headers(id, response, true).unwrap());
            let response = vm.take_response(id).map(Arc::new);
            vm.take_body(id, Direction::Response);
            vm.close(id, Logged { request: request.clone(), response: response.clone() });
            (request, response)
        };
        bencher.iter_batched(heads, run, BatchSize::SmallInput);
    });
}

fn instances(criterion: &mut Criterion) {
    let code = Code::load(&measured(), None).unwrap();
    let world = world();
    criterion.bench_function("a plugin that is started and thrown away", |bencher| {
        bencher.iter(|| Plugin::new(code.clone(), Settings::named("bench"), world.clone(), 1).unwrap());
    });
}

/// A plugin with so much code beside its callbacks that it has 2 MB.
fn large() -> Vec<u8> {
    let mut functions = callback("request_headers", 3, "");
    for n in 0..16_000_u32 {
        let _ = write!(
            functions,
            "(func $f{n} (param $a i32) (param $b i64) (result i64) (local $i i32)
            (loop $again
              (i64.store (i32.const {at}) (i64.add (local.get $b) (i64.load (i32.const {other}))))
              (local.set $b (i64.mul (i64.xor (local.get $b) (i64.const {mix})) (i64.extend_i32_u (local.get $i))))
              (i32.store8 (i32.and (local.get $a) (i32.const 65535)) (i32.wrap_i64 (i64.shr_u (local.get $b) (i64.const 7))))
              (if (i64.gt_s (local.get $b) (i64.const {mix})) (then (local.set $a (i32.rotl (local.get $a) (i32.const 3)))))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $again (i32.lt_u (local.get $i) (local.get $a))))
            (i64.add (local.get $b) (i64.extend_i32_u (i32.popcnt (local.get $a)))))",
            at = n % 1000 * 8,
            other = n * 7 % 1000 * 8,
            mix = u64::from(n) * 0x9e37_79b9 % 0x7fff_ffff,
        );
    }
    plugin(&functions)
}

fn cached(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::at(directory.path()).unwrap();
    let module = large();
    let begun = std::time::Instant::now();
    Code::load(&module, Some(&cache)).unwrap();
    let size = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum::<u64>();
    println!(
        "a module of {} kB compiled in {:?} to {} kB",
        module.len() / 1000,
        begun.elapsed(),
        size / 1000
    );
    criterion.bench_function("a module of 2 MB from the cache", |bencher| {
        bencher.iter(|| Code::load(&module, Some(&cache)).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = exchange, instances, cached
}
criterion_main!(benches);
