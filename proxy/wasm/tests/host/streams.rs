//! Streams: pausing and going on, bodies, answers of the plugin's own, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use bytes::Bytes;
use tidegate_wasm::{Direction, Logged, Step};

use crate::module::{callback, event, plugin};
use crate::world::{Bench, exchange, request, response, settings};

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

const PAUSE: &str = "(return (i32.const 1))";

#[test]
fn callbacks_come_in_the_order_of_envoy_with_log_before_done() {
    let say = |text: &str| format!("(drop (call $log (i32.const 2) @\"{text}\"))");
    let functions = [
        event("context_create", 2, &say("create")),
        callback("request_headers", 3, &say("request headers")),
        callback("request_body", 3, &say("request body")),
        callback("response_headers", 3, &say("response headers")),
        callback("response_body", 3, &say("response body")),
        event("log", 1, &say("log")),
        callback("done", 1, &say("done")),
        event("delete", 1, &say("delete")),
    ];
    let bench = Bench::of(&plugin(&functions.concat()));
    let _ = bench.vm();
    bench.lab.lines();
    bench.pass().unwrap();
    let expected = [
        "create",
        "request headers",
        "request body",
        "response headers",
        "response body",
        "log",
        "done",
        "delete",
    ];
    assert_eq!(bench.lab.lines(), expected);
    assert_eq!(bench.vm().lock().streams(), 0);
}

#[test]
fn headers_are_changed_in_place_and_taken_back() {
    let change = "(drop (call $add_header_map_value (i32.const 0) @\"x-n\" @\"v\"))
        (drop (call $replace_header_map_value (i32.const 0) @\":path\" @\"/new\"))
        (drop (call $remove_header_map_value (i32.const 0) @\"x-a\"))";
    let bench = Bench::of(&plugin(&callback("request_headers", 3, change)));
    let (vm, id) = bench.open();
    let mut vm = vm.lock();
    assert_eq!(vm.request_headers(id, request(), true).unwrap(), Step::Go);
    let head = vm.take_request(id).unwrap();
    assert_eq!((head.uri.path(), head.headers.get("x-a")), ("/new", None));
    assert_eq!(head.headers["x-n"], "v");
    assert!(vm.take_request(id).is_none());
}

#[test]
fn a_paused_stream_keeps_its_rights_and_goes_on_from_a_tick() {
    // The first stream has id 2.
    let resume = "(drop (call $set_effective_context (i32.const 2)))
        (call $say (call $add_header_map_value (i32.const 0) @\"x-late\" @\"1\"))
        (drop (call $continue_stream (i32.const 0)))";
    let tick = "(drop (call $set_tick_period_milliseconds (i32.const 5)))";
    let functions = [callback("request_headers", 3, &format!("{tick} {PAUSE}")), event("tick", 1, resume)];
    let bench = Bench::of(&plugin(&functions.concat()));
    let (vm, id) = bench.open();
    assert_eq!(vm.lock().request_headers(id, request(), true).unwrap(), Step::Pause);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    assert_eq!(vm.lock().poll(id, Direction::Request, &waker).unwrap(), Step::Pause);
    bench.work(&vm);
    assert_eq!(woken.0.load(Ordering::Relaxed), 0, "its time has not come");
    bench.lab.pass(6);
    bench.work(&vm);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(vm.lock().poll(id, Direction::Request, &waker).unwrap(), Step::Go);
    assert_eq!(vm.lock().take_request(id).unwrap().headers["x-late"], "1");
    assert_eq!(bench.lab.lines(), ["0"]);
}

#[test]
fn one_that_goes_on_from_within_the_callback_that_pauses_goes_on() {
    let both = format!("(drop (call $continue_stream (i32.const 0))) {PAUSE}");
    let bench = Bench::of(&plugin(&callback("request_headers", 3, &both)));
    let (vm, id) = bench.open();
    assert_eq!(vm.lock().request_headers(id, request(), true).unwrap(), Step::Go);
    // And what it said of the headers does not count for the body.
    let early = "(drop (call $continue_stream (i32.const 0)))";
    let functions = [callback("request_headers", 3, early), callback("request_body", 3, PAUSE)];
    let bench = Bench::of(&plugin(&functions.concat()));
    let (vm, id) = bench.open();
    let mut vm = vm.lock();
    assert_eq!(vm.request_headers(id, request(), false).unwrap(), Step::Go);
    assert_eq!(vm.body(id, Direction::Request, Bytes::from_static(b"a"), false).unwrap(), Step::Pause);
}

#[test]
fn a_body_that_is_held_back_is_told_whole_and_released_whole() {
    // Pauses until the end, then puts something in front.
    let body = "(call $say (local.get $p1))
        (if (i32.eqz (local.get $p2)) (then (return (i32.const 1))))
        (drop (call $set_buffer_bytes (i32.const 0) (i32.const 0) (i32.const 0) @\">\"))";
    let bench = Bench::of(&plugin(&callback("request_body", 3, body)));
    let (vm, id) = bench.open();
    let mut vm = vm.lock();
    vm.request_headers(id, request(), false).unwrap();
    vm.take_request(id);
    let mut more = |text: &'static str, eos| vm.body(id, Direction::Request, Bytes::from(text), eos).unwrap();
    assert_eq!(more("ab", false), Step::Pause);
    assert_eq!(more("cd", false), Step::Pause);
    assert_eq!(more("", true), Step::Go);
    assert_eq!(vm.take_body(id, Direction::Request), (Bytes::from_static(b">abcd"), true));
    assert_eq!(bench.lab.lines(), ["2", "4", "4"]);
}

#[test]
fn no_more_of_a_body_is_held_back_than_the_budget_allows() {
    let mut settings = settings();
    settings.budgets.buffer = 10;
    let bench = Bench::with(&plugin(&callback("response_body", 3, PAUSE)), settings);
    let (vm, id) = bench.open();
    let mut vm = vm.lock();
    let mut more = |size| vm.body(id, Direction::Response, Bytes::from(vec![0; size]), false).unwrap();
    assert_eq!((more(6), more(4), more(1)), (Step::Pause, Step::Pause, Step::TooLarge));
}

#[test]
fn the_first_local_response_of_a_callback_counts_whatever_the_action_is() {
    let send = |code: u32| {
        format!(
            "(call $say (call $send_local_response (i32.const {code}) @\"why\" @\"no\" @{{x-l=1;bad name=2}} (i32.const -1)))"
        )
    };
    let bench = Bench::of(&plugin(&callback("request_headers", 3, &(send(403) + &send(500)))));
    let (vm, id) = bench.open();
    let mut vm = vm.lock();
    assert_eq!(vm.request_headers(id, request(), true).unwrap(), Step::Respond);
    let local = vm.local_response(id).unwrap();
    assert_eq!((local.status.as_u16(), &*local.body, local.headers.len()), (403, &b"no"[..], 1));
    assert_eq!((local.grpc_status, &*local.details), (None, "why"));
    assert!(vm.local_response(id).is_none());
    assert_eq!(bench.lab.lines(), ["0", "0"]);
    // Its own answer then passes the plugin, as others do.
    assert_eq!(vm.response_headers(id, response(), true).unwrap(), Step::Go);
}

#[test]
fn a_local_response_in_the_log_is_ignored_and_after_the_head_resets() {
    let send = "(drop (call $send_local_response (i32.const 403) @\"\" @\"\" @{} (i32.const -1)))";
    let bench = Bench::of(&plugin(&(event("log", 1, send) + &callback("response_body", 3, send))));
    let (vm, id) = bench.open();
    let mut vm = vm.lock();
    vm.response_headers(id, response(), false).unwrap();
    vm.take_response(id);
    assert_eq!(vm.body(id, Direction::Response, Bytes::from_static(b"x"), true).unwrap(), Step::Close);
    vm.close(id, Logged::default());
    assert!(vm.fault().is_none() && vm.local_response(id).is_none());
}

#[test]
fn streams_are_apart_and_ids_are_not_used_twice() {
    let bench = Bench::of(&plugin(&callback("request_headers", 3, PAUSE)));
    let (vm, first) = bench.open();
    let second = vm.lock().open(exchange()).unwrap();
    assert_ne!(first, second);
    let mut vm = vm.lock();
    vm.request_headers(first, request(), true).unwrap();
    vm.close(first, Logged::default());
    assert_eq!(vm.poll(first, Direction::Request, Waker::noop()).unwrap(), Step::Close);
    assert_eq!(vm.poll(second, Direction::Request, Waker::noop()).unwrap(), Step::Go);
    assert!(vm.open(exchange()).unwrap() > second);
}

#[test]
fn a_plugin_without_callbacks_lets_everything_pass() {
    let bench = Bench::of(&plugin(""));
    bench.pass().unwrap();
    let (vm, id) = bench.open();
    let mut vm = vm.lock();
    assert!(!vm.reads(Direction::Request) && !vm.logs());
    vm.request_headers(id, request(), true).unwrap();
    assert!(vm.take_request(id).is_some());
}

#[test]
fn the_end_says_what_a_stream_has_cost_and_whether_the_plugin_failed() {
    let trap = "(drop (call $get_header_map_value (i32.const 0) @\"x-trap\" (i32.const 16) (i32.const 20)))
        (if (i32.load (i32.const 20)) (then (unreachable)))";
    let bench = Bench::of(&plugin(&callback("request_headers", 3, trap)));
    for (traps, failed) in [(false, false), (true, true)] {
        let (vm, id) = bench.open();
        let mut head = request();
        if traps {
            head.headers.insert("x-trap", "1".parse().unwrap());
        }
        let mut vm = vm.lock();
        assert_eq!(vm.request_headers(id, head, true).is_err(), failed);
        let spent = vm.close(id, Logged::default());
        assert_eq!(spent.failed, failed, "{spent:?}");
        // What it does not export costs nothing.
        assert_eq!(spent.callbacks, 1, "{spent:?}");
    }
}
