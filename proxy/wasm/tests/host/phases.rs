//! Which hostcall is legal in which phase. The statuses are those that Envoy 1.40 answers: SDKs panic at any other.

use crate::module::{callback, event, plugin, plugin_of};
use crate::world::{Bench, Lab, settings, start};

/// Runs `call` in every phase and says what it was answered: configure, tick, request headers, request body, response headers,
/// response body, log.
fn answers(call: &str) -> Vec<String> {
    let say = format!("(call $say {call})");
    let functions = [
        format!(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {say}
            (drop (call $set_tick_period_milliseconds (i32.const 10))) (i32.const 1))"#
        ),
        event("tick", 1, &say),
        callback("request_headers", 3, &say),
        callback("request_body", 3, &say),
        callback("response_headers", 3, &say),
        callback("response_body", 3, &say),
        event("log", 1, &say),
    ];
    let module = plugin(&functions.concat());
    let (lab, world) = Lab::new();
    let plugin = start(&module, settings(), &world).unwrap();
    lab.lines();
    let bench = Bench { lab, plugin };
    let vm = bench.vm();
    bench.lab.pass(20);
    bench.work(&vm);
    bench.pass().unwrap();
    bench.lab.lines()
}

#[test]
fn every_hostcall_answers_in_every_phase_what_envoy_answers() {
    let set = |map: u32| format!("(call $replace_header_map_value (i32.const {map}) @\"x-n\" @\"v\")");
    let add = |map: u32| format!("(call $add_header_map_value (i32.const {map}) @\"x-n\" @\"v\")");
    let all = |map: u32| format!("(call $set_header_map_pairs (i32.const {map}) @{{x-n=v}})");
    let body = |buffer: u32| {
        format!("(call $set_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 9) @\"v\")")
    };
    let read = |buffer: u32| {
        format!(
            "(call $get_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20))"
        )
    };
    let get = "(call $get_header_map_value (i32.const 0) @\"x-a\" (i32.const 16) (i32.const 20))";
    let call = "(call $http_call @\"nobody\" @{:method=GET;:path=/;:authority=a} @\"\" @{} (i32.const 9) (i32.const 16))";
    for (call, expected) in [
        (String::from("(call $set_tick_period_milliseconds (i32.const 10))"), "0 0 0 0 0 0 0"),
        (String::from("(call $define_metric (i32.const 0) @\"m\" (i32.const 16))"), "0 0 0 0 0 0 0"),
        (set(0), "2 2 0 2 2 2 2"),
        (add(0), "2 2 0 2 2 2 2"),
        (all(0), "2 2 0 2 2 2 2"),
        (set(2), "2 2 2 2 0 2 2"),
        (add(2), "2 2 2 2 0 2 2"),
        (all(2), "2 2 2 2 0 2 2"),
        (set(6), "2 2 2 2 2 2 2"),
        (body(0), "2 2 2 0 2 2 2"),
        (body(1), "2 2 2 2 2 0 2"),
        (body(4), "2 2 2 2 2 2 2"),
        (read(0), "0 0 0 0 0 0 0"),
        (read(1), "0 0 0 0 0 0 0"),
        (read(4), "1 1 1 1 1 1 1"),
        (read(9), "2 2 2 2 2 2 2"),
        (String::from(call), "2 2 2 2 2 2 2"),
        (String::from(get), "2 2 0 2 2 2 0"),
        (
            String::from("(call $call_foreign_function @\"f\" @\"\" (i32.const 16) (i32.const 20))"),
            "1 1 1 1 1 1 1",
        ),
        (String::from("(call $done)"), "1 1 1 1 1 1 1"),
        (String::from("(call $set_effective_context (i32.const 99))"), "2 2 2 2 2 2 2"),
        (String::from("(call $set_property @\"a\" @\"b\")"), "1 1 0 0 0 0 0"),
    ] {
        assert_eq!(answers(&call).join(" "), expected, "{call}");
    }
}

#[test]
fn a_pointer_out_of_bounds_is_told_and_harms_nobody() {
    let outside = "(i32.const 2000000000)";
    let far = format!("{outside} (i32.const 8)");
    let wraps = "(i32.const -8) (i32.const 16)";
    for call in [
        format!("(call $log (i32.const 2) {far})"),
        format!("(call $log (i32.const 2) {wraps})"),
        format!("(call $get_current_time_nanoseconds {outside})"),
        format!("(call $get_property @\"plugin_name\" {outside} (i32.const 20))"),
        format!("(call $get_property @\"plugin_name\" (i32.const 16) {outside})"),
        format!("(call $get_property {far} (i32.const 16) (i32.const 20))"),
        format!(
            "(call $get_buffer_bytes (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 16) {outside})"
        ),
        format!("(call $get_header_map_pairs (i32.const 0) (i32.const 16) {outside})"),
        format!("(call $set_shared_data {far} @\"v\" (i32.const 0))"),
        format!("(call $define_metric (i32.const 0) @\"m\" {outside})"),
        format!("(call $call_foreign_function {far} @\"\" (i32.const 16) (i32.const 20))"),
    ] {
        assert_eq!(answers(&call).join(" "), "6 6 6 6 6 6 6", "{call}");
    }
}

#[test]
fn an_allocator_that_has_nothing_left_is_told_as_bad_memory() {
    let module = r#"(module
      (import "env" "proxy_get_property" (func $get (param i32 i32 i32 i32) (result i32)))
      (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "plugin_name")
      (func (export "proxy_abi_version_0_2_0"))
      (func (export "malloc") (param i32) (result i32) (i32.const 0))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (i32.store8 (i32.const 40) (i32.add (i32.const 48) (call $get (i32.const 0) (i32.const 11) (i32.const 16) (i32.const 20))))
        (drop (call $log (i32.const 2) (i32.const 40) (i32.const 1))) (i32.const 0)))"#;
    let bench = Bench::of(&wat::parse_str(module).unwrap());
    bench.pass().unwrap();
    assert_eq!(bench.lab.lines(), ["6"]);
}

#[test]
fn the_oldest_abi_has_no_end_of_stream_and_a_missing_header_is_empty() {
    let get =
        "(call $say (call $get_header_map_value (i32.const 0) @\"x-none\" (i32.const 16) (i32.const 20)))";
    let old = plugin_of(
        "0_1_0",
        &callback("request_headers", 2, &format!("{get} (call $say (i32.load (i32.const 20)))")),
    );
    let bench = Bench::of(&old);
    bench.pass().unwrap();
    assert_eq!(bench.lab.lines(), ["0", "0"]);
    let bench = Bench::of(&plugin(&callback("request_headers", 3, get)));
    bench.pass().unwrap();
    assert_eq!(bench.lab.lines(), ["1"]);
}

#[test]
fn configuration_properties_and_what_was_set_are_read_back() {
    let property = |path: &str| {
        format!("(call $say (call $get_property @\"{path}\" (i32.const 16) (i32.const 20))) (call $out)")
    };
    let read = |buffer: u32| {
        format!(
            "(drop (call $get_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 99) (i32.const 16) (i32.const 20))) (call $out)"
        )
    };
    let clear = "(i32.store (i32.const 20) (i32.const 0))";
    let body = [
        read(6),
        read(7),
        property("plugin_root_id"),
        property("request\0method"),
        property("request\0url_path"),
        property("request\0headers\0x-a"),
        property("source\0address"),
        property("node\0id"),
        String::from("(drop (call $set_property @\"mine\" @\"own\"))"),
        property("mine"),
        clear.to_owned(),
        property("nothing"),
    ];
    let bench = Bench::of(&plugin(&callback("request_headers", 3, &body.concat())));
    bench.pass().unwrap();
    let expected = [
        "vm configured",
        "configured",
        "0",
        "root",
        "0",
        "POST",
        "0",
        "/path",
        "0",
        "1",
        "0",
        "10.0.0.1:99",
        "0",
        "node-1",
        "0",
        "own",
        "1",
        "",
    ];
    assert_eq!(bench.lab.lines(), expected);
}
