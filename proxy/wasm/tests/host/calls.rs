//! Side calls, ticks, queues and metrics: what goes out, what comes back, and what is bounded.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tidegate_wasm::{Answer, Asked, Direction, GrpcAnswer, Outgoing, Step, Work};

use crate::module::{callback, event, plugin};
use crate::world::{Bench, exchange, request, response, settings};

const PAUSE: &str = "(return (i32.const 1))";
const CALL: &str = "(call $say (call $http_call @\"known\" @{:method=POST;:path=/check?a;:authority=auth;x-c=1} @\"body\" @{} (i32.const 250) (i32.const 48)))";

fn sent(bench: &Bench, vm: &tidegate_wasm::SharedVm) -> Vec<tidegate_wasm::CallOut> {
    match bench.work(vm) {
        Work::Calls { send, .. } => send,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_goes_out_after_the_callback_and_its_answer_resumes_the_stream() {
    let told = "(call $say (local.get $p2)) (call $say (local.get $p3))
        (drop (call $get_header_map_value (i32.const 6) @\":status\" (i32.const 16) (i32.const 20))) (call $out)
        (drop (call $get_buffer_bytes (i32.const 4) (i32.const 0) (i32.const 99) (i32.const 16) (i32.const 20))) (call $out)
        (drop (call $set_effective_context (i32.const 2)))
        (drop (call $add_header_map_value (i32.const 0) @\"x-checked\" @\"yes\"))
        (drop (call $continue_stream (i32.const 0)))";
    let functions =
        [callback("request_headers", 3, &format!("{CALL} {PAUSE}")), event("http_call_response", 5, told)];
    let bench = Bench::of(&plugin(&functions.concat()));
    let (vm, id) = bench.open();
    assert_eq!(vm.lock().request_headers(id, request(), true).unwrap(), Step::Pause);
    let calls = sent(&bench, &vm);
    assert_eq!((calls.len(), &*calls[0].upstream), (1, "known"));
    assert_eq!(calls[0].timeout, Some(Duration::from_millis(250)));
    let Asked::Http { head, body, .. } = &calls[0].request else { panic!() };
    assert_eq!((head.method.as_str(), head.uri.to_string()), ("POST", String::from("/check?a")));
    assert_eq!((head.headers["host"].as_bytes(), &**body), (&b"auth"[..], &b"body"[..]));
    let answer =
        || Answer { head: response(), body: Bytes::from_static(b"fine"), trailers: HeaderMap::new() };
    vm.lock().answered(calls[0].id, Some(answer())).unwrap();
    assert_eq!(vm.lock().poll(id, Direction::Request, std::task::Waker::noop()).unwrap(), Step::Go);
    assert_eq!(vm.lock().take_request(id).unwrap().headers["x-checked"], "yes");
    assert_eq!(bench.lab.lines(), ["0", "2", "4", "200", "fine"]);
    // Once is enough.
    vm.lock().answered(calls[0].id, Some(answer())).unwrap();
    assert!(bench.lab.lines().is_empty());
}

#[test]
fn a_call_that_failed_has_no_headers_and_one_may_follow_another() {
    let told = format!("(call $say (local.get $p2)) {CALL}");
    let functions = [callback("request_headers", 3, CALL), event("http_call_response", 5, &told)];
    let bench = Bench::of(&plugin(&functions.concat()));
    let (vm, id) = bench.open();
    vm.lock().request_headers(id, request(), true).unwrap();
    let first = sent(&bench, &vm);
    // The stream is gone; its call is the root context's.
    vm.lock().close(id, tidegate_wasm::Logged::default());
    vm.lock().answered(first[0].id, None).unwrap();
    let second = sent(&bench, &vm);
    assert_ne!(first[0].id, second[0].id);
    assert_eq!(bench.lab.lines(), ["0", "0", "0"]);
}

#[test]
fn no_more_calls_are_open_than_the_budget_allows() {
    let mut settings = settings();
    settings.budgets.calls = 2;
    let bench = Bench::with(&plugin(&callback("request_headers", 3, &[CALL; 3].concat())), settings);
    let (vm, id) = bench.open();
    vm.lock().request_headers(id, request(), true).unwrap();
    assert_eq!(bench.lab.lines(), ["0", "0", "10"]);
    assert_eq!(sent(&bench, &vm).len(), 2);
}

#[test]
fn a_call_needs_a_method_a_path_and_an_authority() {
    let call = |pairs: &str| {
        format!(
            "(call $say (call $http_call @\"known\" @{{{pairs}}} @\"\" @{{}} (i32.const 0) (i32.const 48)))"
        )
    };
    let calls = [
        call(":method=GET;:path=/"),
        call(":method=GET;:authority=a"),
        call(":path=/;:authority=a"),
        call(":method=GET;:path=;:authority=a"),
        call(":method=GET;:path=nowhere;:authority=a"),
        call(":method=GET;:path=/;:authority=a"),
    ];
    let bench = Bench::of(&plugin(&callback("request_headers", 3, &calls.concat())));
    let (vm, id) = bench.open();
    vm.lock().request_headers(id, request(), true).unwrap();
    assert_eq!(bench.lab.lines(), ["2", "2", "2", "2", "2", "0"]);
}

#[test]
fn the_authority_of_a_call_may_be_empty_and_is_sent_so() {
    let call = CALL.replace("authority=auth", "authority=");
    let bench = Bench::of(&plugin(&callback("request_headers", 3, &call)));
    let (vm, id) = bench.open();
    vm.lock().request_headers(id, request(), true).unwrap();
    assert_eq!(bench.lab.lines(), ["0"]);
    let Asked::Http { head, .. } = &sent(&bench, &vm)[0].request else { panic!("a gRPC call") };
    assert_eq!(head.headers["host"], "");
}

#[test]
fn a_grpc_call_is_answered_by_its_message_or_its_status_and_can_be_cancelled() {
    let call = "(call $say (call $grpc_call @\"known\" @\"pkg.S\" @\"M\" @{k=v} @\"msg\" (i32.const 0) (i32.const 48)))";
    let receive = "(drop (call $get_buffer_bytes (i32.const 5) (i32.const 0) (i32.const 99) (i32.const 16) (i32.const 20))) (call $out)";
    let close =
        "(call $say (local.get $p2)) (drop (call $get_status (i32.const 24) (i32.const 16) (i32.const 20)))
        (call $say (i32.load (i32.const 24))) (call $out)";
    let cancel = "(call $say (call $grpc_cancel (i32.load (i32.const 48)))) (call $say (call $grpc_cancel (i32.const 77)))";
    let functions = [
        callback("request_headers", 3, call),
        callback("response_headers", 3, &format!("{call} {cancel}")),
        event("grpc_receive", 3, receive),
        event("grpc_close", 3, close),
    ];
    let bench = Bench::of(&plugin(&functions.concat()));
    let (vm, id) = bench.open();
    vm.lock().request_headers(id, request(), true).unwrap();
    let calls = sent(&bench, &vm);
    let Asked::Grpc { service, method, metadata, message } = &calls[0].request else { panic!() };
    assert_eq!((&**service, &**method, &**message), ("pkg.S", "M", &b"msg"[..]));
    assert_eq!(metadata["k"], "v");
    let answer = |status: u32, message: Option<&'static str>| GrpcAnswer {
        message: message.map(Bytes::from),
        status,
        status_message: String::from("gone"),
    };
    vm.lock().grpc_answered(calls[0].id, answer(0, Some("reply"))).unwrap();
    assert_eq!(bench.lab.lines(), ["0", "reply"], "as in Envoy, nothing is told of its end");
    for (status, message, expected) in
        [(5, Some("granted"), ["5", "5", "gone"]), (0, None, ["13", "13", "no message"])]
    {
        let id = vm.lock().open(exchange()).unwrap();
        vm.lock().request_headers(id, request(), true).unwrap();
        let calls = sent(&bench, &vm);
        bench.lab.lines();
        vm.lock().grpc_answered(calls[0].id, answer(status, message)).unwrap();
        assert_eq!(bench.lab.lines(), expected);
    }
    vm.lock().response_headers(id, response(), true).unwrap();
    let Work::Calls { send, cancel } = bench.work(&vm) else { panic!() };
    assert_eq!((send.len(), cancel.len()), (0, 1));
    assert_eq!(bench.lab.lines(), ["0", "0", "1"]);
}

#[test]
fn ticks_come_every_period_and_those_that_were_missed_do_not() {
    let start = "(drop (call $set_tick_period_milliseconds (i32.const 100)))";
    let functions = [callback("request_headers", 3, start), event("tick", 1, "(call $say (local.get $p0))")];
    let bench = Bench::of(&plugin(&functions.concat()));
    let vm = bench.vm();
    assert!(matches!(bench.work(&vm), Work::Wait(None)));
    bench.pass().unwrap();
    assert!(matches!(bench.work(&vm), Work::Wait(Some(at)) if at == Duration::from_millis(100)));
    bench.lab.pass(99);
    bench.work(&vm);
    assert!(bench.lab.lines().is_empty());
    bench.lab.pass(1);
    bench.work(&vm);
    bench.lab.pass(1000);
    bench.work(&vm);
    assert_eq!(bench.lab.lines(), ["1", "1"]);
}

#[test]
fn an_item_in_a_queue_is_told_after_the_callback() {
    let fill = "(drop (call $register_shared_queue @\"q\" (i32.const 48)))
        (drop (call $enqueue_shared_queue (i32.load (i32.const 48)) @\"item\")) (drop (call $log (i32.const 2) @\"filled\"))";
    let ready =
        "(call $say (call $dequeue_shared_queue (local.get $p1) (i32.const 16) (i32.const 20))) (call $out)
        (call $say (call $dequeue_shared_queue (local.get $p1) (i32.const 16) (i32.const 20)))";
    let functions = [callback("request_headers", 3, fill), event("queue_ready", 2, ready)];
    let bench = Bench::of(&plugin(&functions.concat()));
    let vm = bench.vm();
    bench.pass().unwrap();
    assert_eq!(bench.lab.lines(), ["filled"]);
    bench.work(&vm);
    assert_eq!(bench.lab.lines(), ["0", "item", "7"]);
}

/// Messages that wait to be sent, and whether there will be more.
fn waiting(messages: &Outgoing) -> (Vec<Bytes>, bool) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut found = Vec::new();
    loop {
        match messages.poll_next(&mut cx) {
            Poll::Ready(Some(message)) => found.push(message),
            Poll::Ready(None) => return (found, false),
            Poll::Pending => return (found, true),
        }
    }
}

#[test]
fn a_grpc_stream_takes_messages_until_our_half_ends_and_tells_of_those_that_come() {
    let stream = "(call $say (call $grpc_stream @\"known\" @\"pkg.S\" @\"M\" @{k=v} (i32.const 48)))
        (call $say (call $grpc_stream @\"stranger\" @\"pkg.S\" @\"M\" @{} (i32.const 52)))
        (call $say (call $grpc_send (i32.load (i32.const 48)) @\"one\" (i32.const 0)))
        (call $say (call $grpc_send (i32.const 77) @\"none\" (i32.const 0)))";
    let receive = "(drop (call $get_buffer_bytes (i32.const 5) (i32.const 0) (i32.const 99) (i32.const 16) (i32.const 20))) (call $out)
        (call $say (call $grpc_send (local.get $p1) @\"two\" (i32.const 1)))
        (call $say (call $grpc_send (local.get $p1) @\"three\" (i32.const 0)))
        (call $say (call $grpc_close (local.get $p1)))";
    let close =
        "(call $say (local.get $p2)) (call $say (call $grpc_send (local.get $p1) @\"late\" (i32.const 0)))";
    let functions = [
        callback("request_headers", 3, stream),
        event("grpc_receive", 3, receive),
        event("grpc_close", 3, close),
    ];
    let bench = Bench::of(&plugin(&functions.concat()));
    let (vm, id) = bench.open();
    vm.lock().request_headers(id, request(), true).unwrap();
    assert_eq!(bench.lab.lines(), ["0", "4", "0", "1"]);
    let calls = sent(&bench, &vm);
    let Asked::GrpcStream { service, metadata, messages, .. } = &calls[0].request else {
        panic!("{calls:?}")
    };
    assert_eq!((&**service, &metadata["k"]), ("pkg.S", &"v".parse::<http::HeaderValue>().unwrap()));
    assert_eq!(waiting(messages), (vec![Bytes::from("one")], true));
    vm.lock().grpc_received(calls[0].id, Bytes::from_static(b"answer")).unwrap();
    assert_eq!(bench.lab.lines(), ["answer", "0", "2", "0"]);
    assert_eq!(waiting(messages), (vec![Bytes::from("two")], false));
    vm.lock().grpc_closed(calls[0].id, (5, String::from("gone"))).unwrap();
    assert_eq!(bench.lab.lines(), ["5", "2"]);
    vm.lock().grpc_received(calls[0].id, Bytes::from_static(b"late")).unwrap();
    assert_eq!(bench.lab.lines(), [""; 0], "it is over");
}

#[test]
fn what_nobody_takes_of_a_grpc_stream_is_not_kept_without_end() {
    let stream = "(drop (call $grpc_stream @\"known\" @\"pkg.S\" @\"M\" @{} (i32.const 48)))
        (call $say (call $grpc_send (i32.load (i32.const 48)) (i32.const 0) (i32.const 900) (i32.const 0)))
        (call $say (call $grpc_send (i32.load (i32.const 48)) (i32.const 0) (i32.const 0) (i32.const 0)))
        (call $say (call $grpc_send (i32.load (i32.const 48)) (i32.const 0) (i32.const 0) (i32.const 0)))
        (call $say (call $grpc_cancel (i32.load (i32.const 48))))";
    let mut settings = settings();
    settings.budgets.buffer = 1050;
    let bench = Bench::with(&plugin(&callback("request_headers", 3, stream)), settings);
    let (vm, id) = bench.open();
    vm.lock().request_headers(id, request(), true).unwrap();
    assert_eq!(bench.lab.lines(), ["0", "0", "10", "0"]);
    assert!(sent(&bench, &vm).is_empty(), "it was cancelled before it was sent");
}
