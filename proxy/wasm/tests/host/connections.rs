//! Connections that are carried as a whole: what a plugin is told of them, and what it may do to their bytes.

use bytes::Bytes;
use tidegate_wasm::{ClosedBy, Direction, Logged, SharedVm, Step};

use crate::module::{callback, event, plugin};
use crate::world::{Bench, exchange, request, settings};

const PAUSE: &str = "(return (i32.const 1))";
const DOWN: Direction = Direction::Request;
const UP: Direction = Direction::Response;

fn connected(functions: &[String]) -> (Bench, SharedVm, u32) {
    let bench = Bench::of(&plugin(&functions.concat()));
    let vm = bench.vm();
    bench.lab.lines();
    let id = vm.lock().open_connection(exchange()).unwrap();
    (bench, vm, id)
}

fn told(vm: &SharedVm, id: u32, direction: Direction, text: &'static str, eos: bool) -> Step {
    vm.lock().data(id, direction, Bytes::from(text), eos).unwrap()
}

fn taken(vm: &SharedVm, id: u32, direction: Direction) -> String {
    String::from_utf8(vm.lock().take_body(id, direction).0.to_vec()).unwrap()
}

fn say(text: &str) -> String {
    format!("(drop (call $log (i32.const 2) @\"{text}\"))")
}

#[test]
fn callbacks_come_in_the_order_of_envoy_with_done_before_log() {
    let closed = format!("{} (call $say (local.get $p1))", say("closed"));
    let functions = [
        event("context_create", 2, &say("create")),
        callback("new_connection", 1, &say("new")),
        callback("downstream_data", 3, &say("downstream")),
        callback("upstream_data", 3, &say("upstream")),
        event("upstream_connection_close", 2, &closed),
        event("downstream_connection_close", 2, &closed),
        callback("done", 1, &say("done")),
        event("log", 1, &say("log")),
        event("delete", 1, &say("delete")),
    ];
    let (bench, vm, id) = connected(&functions);
    assert_eq!(vm.lock().new_connection(id).unwrap(), Step::Go);
    assert_eq!(told(&vm, id, DOWN, "asked", false), Step::Go);
    assert_eq!(taken(&vm, id, DOWN), "asked");
    assert_eq!(told(&vm, id, UP, "answered", true), Step::Go);
    vm.lock().connection_closed(id, UP, ClosedBy::Remote).unwrap();
    vm.lock().connection_closed(id, DOWN, ClosedBy::Local).unwrap();
    vm.lock().close(id, Logged::default());
    let expected =
        ["create", "new", "downstream", "upstream", "closed", "2", "closed", "1", "done", "log", "delete"];
    assert_eq!(bench.lab.lines(), expected);
    assert_eq!(vm.lock().streams(), 0);
}

#[test]
fn one_that_pauses_at_the_beginning_goes_on_when_it_says_so() {
    let late =
        "(drop (call $set_effective_context (i32.const 2))) (drop (call $continue_stream (i32.const 2)))";
    let tick = "(drop (call $set_tick_period_milliseconds (i32.const 5)))";
    let functions = [callback("new_connection", 1, &format!("{tick} {PAUSE}")), event("tick", 1, late)];
    let (bench, vm, id) = connected(&functions);
    assert_eq!(vm.lock().new_connection(id).unwrap(), Step::Pause);
    let poll = || vm.lock().poll(id, DOWN, std::task::Waker::noop()).unwrap();
    assert_eq!(poll(), Step::Pause);
    bench.lab.pass(6);
    bench.work(&vm);
    assert_eq!(poll(), Step::Go);
}

#[test]
fn bytes_that_are_held_back_are_told_whole_and_may_be_changed() {
    let hold = |buffer: u32| {
        format!(
            "(call $say (local.get $p1))
            (if (i32.eqz (local.get $p2)) (then (return (i32.const 1))))
            (drop (call $get_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
            (call $out)
            (call $say (call $set_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 0) @\">\"))"
        )
    };
    let functions = [callback("downstream_data", 3, &hold(2)), callback("upstream_data", 3, &hold(3))];
    let (bench, vm, id) = connected(&functions);
    for direction in [DOWN, UP] {
        assert_eq!(told(&vm, id, direction, "ab", false), Step::Pause);
        assert_eq!(told(&vm, id, direction, "cd", false), Step::Pause);
        assert_eq!(told(&vm, id, direction, "", true), Step::Go);
        assert_eq!(taken(&vm, id, direction), ">abcd");
        assert_eq!(bench.lab.lines(), ["2", "4", "4", "abcd", "0"]);
    }
}

#[test]
fn no_more_of_a_connection_is_held_back_than_the_budget_allows() {
    let mut settings = settings();
    settings.budgets.buffer = 10;
    let bench = Bench::with(&plugin(&callback("downstream_data", 3, PAUSE)), settings);
    let vm = bench.vm();
    let id = vm.lock().open_connection(exchange()).unwrap();
    let more = |size| vm.lock().data(id, DOWN, Bytes::from(vec![0; size]), false).unwrap();
    assert_eq!((more(6), more(4), more(1)), (Step::Pause, Step::Pause, Step::TooLarge));
}

#[test]
fn each_direction_goes_on_by_itself_and_a_close_ends_both() {
    // From the other direction's callback: goes on with what the client sent, and at the end of it closes.
    let resume = "(if (local.get $p2) (then (drop (call $close_stream (i32.const 3)))))
        (drop (call $continue_stream (i32.const 2)))";
    let functions = [callback("downstream_data", 3, PAUSE), callback("upstream_data", 3, resume)];
    let (_bench, vm, id) = connected(&functions);
    let poll = |direction| vm.lock().poll(id, direction, std::task::Waker::noop()).unwrap();
    assert_eq!(told(&vm, id, DOWN, "a", false), Step::Pause);
    assert_eq!(told(&vm, id, UP, "b", false), Step::Go);
    assert_eq!(poll(DOWN), Step::Go);
    assert_eq!(told(&vm, id, UP, "", true), Step::Close);
    assert_eq!(poll(DOWN), Step::Close);
}

#[test]
fn what_is_of_requests_is_nothing_to_a_connection_and_the_other_way_round() {
    // Status of: writing a body, writing the connection, going on with either; then bytes that each has.
    let probe = |own: u32, other: u32| {
        let set = |buffer| {
            format!(
                "(call $say (call $set_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 9) @\"x\"))"
            )
        };
        let size = |buffer| {
            format!(
                "(call $say (call $get_buffer_status (i32.const {buffer}) (i32.const 16) (i32.const 20)))
                (call $say (i32.load (i32.const 16)))"
            )
        };
        format!(
            "{}{}{}{} (call $say (call $continue_stream (i32.const {other}))) (call $say (call $close_stream (i32.const {other})))
            (call $say (call $close_stream (i32.const 4))) {PAUSE}",
            size(own), size(other), set(own), set(other)
        )
    };
    let functions = [callback("downstream_data", 3, &probe(2, 0)), callback("request_body", 3, &probe(0, 2))];
    let (bench, vm, id) = connected(&functions);
    let expected = ["0", "3", "0", "0", "0", "2", "0", "0", "2"];
    assert_eq!(told(&vm, id, DOWN, "abc", false), Step::Pause);
    assert_eq!(bench.lab.lines(), expected);
    let id = vm.lock().open(exchange()).unwrap();
    vm.lock().request_headers(id, request(), false).unwrap();
    assert_eq!(vm.lock().body(id, DOWN, Bytes::from_static(b"abc"), false).unwrap(), Step::Pause);
    assert_eq!(bench.lab.lines(), expected);
}

#[test]
fn outside_their_callbacks_bytes_cannot_be_had_and_not_written_either() {
    let late = "(call $say (call $get_buffer_bytes (i32.const 2) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
        (call $say (i32.load (i32.const 20)))
        (call $say (call $set_buffer_bytes (i32.const 2) (i32.const 0) (i32.const 0) @\"x\"))";
    let functions =
        [callback("downstream_data", 3, ""), callback("upstream_data", 3, late), event("log", 1, late)];
    let (bench, vm, id) = connected(&functions);
    told(&vm, id, DOWN, "abc", true);
    taken(&vm, id, DOWN);
    told(&vm, id, UP, "d", true);
    assert_eq!(bench.lab.lines(), ["0", "0", "2"]);
    vm.lock().close(id, Logged::default());
    assert_eq!(bench.lab.lines(), ["0", "0", "2"]);
}

#[test]
fn a_plugin_that_traps_at_a_byte_ends_and_those_who_wait_for_it_are_told() {
    let functions = [callback("new_connection", 1, PAUSE), callback("downstream_data", 3, "unreachable")];
    let (bench, vm, waiting) = connected(&functions);
    assert_eq!(vm.lock().new_connection(waiting).unwrap(), Step::Pause);
    let id = vm.lock().open_connection(exchange()).unwrap();
    assert!(vm.lock().data(id, DOWN, Bytes::from_static(b"a"), false).is_err());
    assert!(vm.lock().poll(waiting, DOWN, std::task::Waker::noop()).is_err());
    assert!(vm.lock().connection_closed(id, DOWN, ClosedBy::Remote).is_err());
    // What it held is not lost: whoever may do without the plugin passes it on.
    assert_eq!(taken(&vm, id, DOWN), "a");
    assert_eq!(bench.plugin.counts().traps, 1);
    assert!(vm.lock().close(id, Logged::default()).failed);
}

#[test]
fn cpu_time_is_told_of_what_is_measured_and_of_nothing_else() {
    let spin = "(local $n i32) (loop $again
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $n) (i32.const 2000000))))";
    let (_bench, vm, id) = connected(&[callback("new_connection", 1, spin)]);
    vm.lock().new_connection(id).unwrap();
    assert_eq!(vm.lock().close(id, Logged::default()).cpu, None);
    let measured = crate::world::measured();
    let id = vm.lock().open_connection(measured).unwrap();
    vm.lock().new_connection(id).unwrap();
    let spent = vm.lock().close(id, Logged::default());
    assert!(spent.cpu.is_some_and(|cpu| !cpu.is_zero()), "{spent:?}");
}
