//! The part of WASI that plugins import.

use crate::world::{Bench, settings};

/// A plugin of ABI 0.2.0 that runs `body` for each request; `$say` as in the others.
fn wasi(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
      (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
      (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "one, two\n") (data (i32.const 16) "\00\00\00\00\05\00\00\00\05\00\00\00\04\00\00\00")
      (func (export "proxy_abi_version_0_2_0"))
      (func (export "malloc") (param i32) (result i32) (i32.const 4096))
      (func $say (param $n i32)
        (i32.store8 (i32.const 32) (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 10))))
        (i32.store8 (i32.const 33) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
        (drop (call $log (i32.const 2) (i32.const 32) (i32.const 2))))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body} (i32.const 0)))"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn what_is_written_to_the_standard_streams_is_logged_without_its_newline() {
    let body = "(call $say (call $fd_write (i32.const 1) (i32.const 16) (i32.const 2) (i32.const 40)))
        (call $say (i32.load (i32.const 40)))
        (call $say (call $fd_write (i32.const 7) (i32.const 16) (i32.const 2) (i32.const 40)))
        (call $say (call $fd_write (i32.const 1) (i32.const -4) (i32.const 2) (i32.const 40)))";
    let bench = Bench::of(&wasi(body));
    bench.pass().unwrap();
    assert_eq!(bench.lab.lines(), ["one, two", "00", "09", "08", "21"]);
}

#[test]
fn clocks_random_numbers_and_the_environment_are_real_and_there_are_no_files() {
    let body = "(call $say (call $clock (i32.const 1) (i64.const 0) (i32.const 40)))
        (call $say (i32.wrap_i64 (i64.div_u (i64.load (i32.const 40)) (i64.const 1000000))))
        (call $say (call $clock (i32.const 3) (i64.const 0) (i32.const 40)))
        (call $say (call $random (i32.const 48) (i32.const 64)))
        (call $say (i64.eqz (i64.or (i64.load (i32.const 48)) (i64.load (i32.const 56)))))
        (call $say (call $random (i32.const 48) (i32.const 65537)))
        (call $say (call $sizes (i32.const 40) (i32.const 44)))
        (call $say (i32.load (i32.const 40))) (call $say (i32.load (i32.const 44)))
        (call $say (call $environ (i32.const 48) (i32.const 64)))
        (drop (call $log (i32.const 2) (i32.load (i32.const 48)) (i32.const 3)))
        (call $say (call $prestat (i32.const 3) (i32.const 48)))";
    let mut settings = settings();
    settings.environment = vec![(String::from("A"), String::from("1")), (String::from("B"), String::new())];
    let bench = Bench::with(&wasi(body), settings);
    bench.lab.pass(42);
    bench.pass().unwrap();
    let expected = ["00", "42", "58", "00", "00", "28", "00", "02", "07", "00", "A=1", "08"];
    assert_eq!(bench.lab.lines(), expected);
}

#[test]
fn an_exit_ends_the_vm_and_nothing_else() {
    let bench = Bench::of(&wasi("(call $exit (i32.const 3))"));
    let fault = bench.pass().unwrap_err();
    assert_eq!(fault.to_string(), "it ended itself: proc_exit(3)");
    assert!(bench.plugin.seat().unwrap().is_new);
}
