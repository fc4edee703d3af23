//! What a plugin may cost, what happens when it costs more, and how VMs come and go.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tidegate_wasm::{Direction, FaultKind, OffenceLimits, StartError, Step, Unavailable, Work};

use crate::module::{callback, event, plugin};
use crate::world::{Bench, Lab, exchange, request, settings, start};

const LOOP: &str = "(loop $again (br $again))";
const PAUSE: &str = "(return (i32.const 1))";

fn limits(count: usize) -> OffenceLimits {
    OffenceLimits { count, within: Duration::from_secs(60), quarantine: Duration::from_secs(10) }
}

#[test]
fn a_callback_that_never_ends_is_ended_and_the_next_request_gets_a_new_vm() {
    let mut settings = settings();
    settings.budgets.callback = Duration::from_millis(20);
    let bench = Bench::with(&plugin(&callback("request_headers", 3, LOOP)), settings);
    let (vm, id) = bench.open();
    let fault = vm.lock().request_headers(id, request(), true).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Overrun);
    assert!(!vm.lock().is_live());
    let next = bench.plugin.seat().unwrap();
    assert!(next.is_new && !Arc::ptr_eq(&next.vm, &vm));
    let counts = bench.plugin.counts();
    assert_eq!((counts.overruns, counts.traps), (1, 0));
}

#[test]
fn a_flood_of_hostcalls_is_ended_too() {
    let mut settings = settings();
    settings.budgets.callback = Duration::from_millis(20);
    let flood = "(loop $again (drop (call $log (i32.const 2) @\"spam\")) (br $again))";
    let bench = Bench::with(&plugin(&callback("request_headers", 3, flood)), settings);
    let (vm, id) = bench.open();
    assert_eq!(vm.lock().request_headers(id, request(), true).unwrap_err().kind, FaultKind::Overrun);
    assert_eq!(bench.lab.lines().len(), 100);
    assert!(bench.plugin.counts().lines_dropped > 1000);
}

#[test]
fn memory_grows_to_the_budget_and_no_further() {
    // Grows page by page until it is refused, and says how many it has.
    let grow = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (call $say (memory.size))";
    let mut settings = settings();
    (settings.budgets.memory, settings.budgets.soft_memory) = (10 << 16, 10 << 16);
    let bench = Bench::with(&plugin(&callback("request_headers", 3, grow)), settings);
    bench.pass().unwrap();
    assert_eq!(bench.lab.lines(), ["10"]);
    let counts = bench.plugin.counts();
    assert_eq!((counts.memory, counts.memory_refused, counts.instances), (10 << 16, 1, 1));
    drop(bench.plugin.seat());
}

#[test]
fn a_vm_that_has_grown_is_replaced_and_goes_with_its_last_stream() {
    let functions = [
        callback("request_headers", 3, "(drop (memory.grow (i32.const 4)))"),
        event("delete", 1, "(call $say (local.get $p0))"),
    ];
    let mut settings = settings();
    settings.budgets.soft_memory = 5 << 16;
    let bench = Bench::with(&plugin(&functions.concat()), settings);
    let (old, id) = bench.open();
    old.lock().request_headers(id, request(), true).unwrap();
    let next = bench.plugin.seat().unwrap();
    assert!(next.is_new && bench.plugin.counts().recycled == 1);
    assert!(matches!(bench.work(&old), Work::Wait(_)));
    bench.lab.lines();
    old.lock().close(id, tidegate_wasm::Logged::default());
    assert!(matches!(bench.work(&old), Work::Over));
    assert_eq!(bench.lab.lines(), ["2", "1"], "first the stream, then the root");
    drop((old, next));
    bench.plugin.retire();
    assert_eq!(bench.plugin.counts().instances, 0);
    assert_eq!(bench.plugin.counts().memory, 0);
}

#[test]
fn a_trap_ends_all_streams_of_its_vm_at_once() {
    let functions = [callback("request_headers", 3, PAUSE), callback("response_headers", 3, "(unreachable)")];
    let bench = Bench::of(&plugin(&functions.concat()));
    let (vm, waiting) = bench.open();
    let trapping = vm.lock().open(exchange()).unwrap();
    assert_eq!(vm.lock().request_headers(waiting, request(), true).unwrap(), Step::Pause);
    let fault = vm.lock().response_headers(trapping, crate::world::response(), true).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Trap);
    assert_eq!(vm.lock().poll(waiting, Direction::Request, Waker::noop()).unwrap_err(), fault);
    vm.lock().close(waiting, tidegate_wasm::Logged::default());
    assert!(matches!(bench.work(&vm), Work::Over));
}

#[test]
fn who_fails_too_often_is_left_out_and_tried_again_later() {
    let mut settings = settings();
    settings.offences = limits(3);
    let bench = Bench::with(&plugin(&callback("request_headers", 3, "(unreachable)")), settings);
    for _ in 0..3 {
        assert!(bench.pass().is_err());
    }
    let unavailable = bench.plugin.seat().unwrap_err();
    assert!(
        matches!(&unavailable, Unavailable::Quarantined(why) if why.contains("trapped")),
        "{unavailable}"
    );
    let standing = bench.plugin.standing();
    assert_eq!((standing.quarantined_until, standing.quarantines), (Some(Duration::from_secs(10)), 1));
    bench.lab.pass(10_000);
    assert!(bench.pass().is_err());
    assert_eq!(bench.plugin.standing().quarantined_until, Some(Duration::from_secs(30)), "twice as long");
    assert!(bench.plugin.seat().is_err());
    assert_eq!(bench.plugin.counts().instances, 0, "what is left out keeps nothing");
}

#[test]
fn a_plugin_that_does_not_start_is_refused_with_the_reason() {
    let (_, world) = Lab::new();
    let mut settings = settings();
    settings.budgets.start = Duration::from_millis(20);
    let refused = |functions: &str| start(&plugin(functions), settings.clone(), &world).unwrap_err();
    let configure = |body: &str| callback("configure", 2, body);
    assert_eq!(refused(&configure("")), StartError::Refused("proxy_on_configure"));
    assert_eq!(refused(&callback("vm_start", 2, "")), StartError::Refused("proxy_on_vm_start"));
    let told = refused(&configure("(unreachable)")).to_string();
    assert!(told.starts_with("`proxy_on_configure` failed: it trapped: wasm `unreachable`"), "{told}");
    let told = refused(&format!("(func (export \"_start\") {LOOP})")).to_string();
    assert_eq!(told, "`_start` failed: it ran for longer than its budget");
    let told = refused(&format!("(func $s {LOOP}) (start $s)")).to_string();
    assert_eq!(told, "cannot be instantiated: it ran for longer than its budget");
    let told = refused("(func $s (unreachable)) (start $s)").to_string();
    assert!(told.starts_with("cannot be instantiated: it trapped"), "{told}");
    let told = refused("(func $s (drop (call $done))) (start $s)").to_string();
    assert!(told.contains("`proxy_done` is called before the plugin was started"), "{told}");
    let told = refused(
        &configure("(drop (call $deep)) ")
            .replace("(func (export", "(func $deep (result i32) (call $deep)) (func (export"),
    )
    .to_string();
    assert!(told.contains("call stack exhausted"), "{told}");
}

#[test]
fn what_is_not_allowed_fails_without_harm() {
    let mut settings = settings();
    settings.capabilities.hostcalls = Some(vec![String::from("proxy_log")]);
    let body = "(call $say (call $set_shared_data @\"k\" @\"v\" (i32.const 0)))";
    let bench = Bench::with(&plugin(&callback("request_headers", 3, body)), settings);
    bench.pass().unwrap();
    assert_eq!(bench.lab.lines(), ["10"]);
}

#[test]
fn a_root_that_is_not_done_is_waited_for_until_it_says_so() {
    let functions = [
        callback("done", 1, "(drop (call $set_tick_period_milliseconds (i32.const 10)))"),
        event("tick", 1, "(call $say (call $done)) (call $say (call $done))"),
        event("delete", 1, "(drop (call $log (i32.const 2) @\"deleted\"))"),
    ];
    let bench = Bench::of(&plugin(&functions.concat()));
    let vm = bench.vm();
    bench.plugin.retire();
    assert_eq!(bench.plugin.seat().unwrap_err(), Unavailable::Retired);
    assert!(matches!(bench.work(&vm), Work::Wait(Some(_))));
    bench.lab.pass(10);
    bench.work(&vm);
    assert!(matches!(bench.work(&vm), Work::Over));
    assert_eq!(bench.lab.lines(), ["0", "1", "deleted"]);
}

#[test]
fn shared_data_outlives_the_vm_that_wrote_it() {
    let body = "(call $say (call $get_shared_data @\"k\" (i32.const 16) (i32.const 20) (i32.const 24)))
        (call $say (i32.load (i32.const 24))) (drop (call $set_shared_data @\"k\" @\"v\" (i32.const 0))) (unreachable)";
    let bench = Bench::of(&plugin(&callback("request_headers", 3, body)));
    assert!(bench.pass().is_err() && bench.pass().is_err());
    assert_eq!(bench.lab.lines(), ["1", "0", "0", "1"]);
}

#[test]
fn ten_thousand_versions_leave_nothing_behind() {
    let (_, world) = Lab::new();
    let code = tidegate_wasm::Code::load(&plugin(&callback("request_headers", 3, "")), None).unwrap();
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let mut before = 0;
    for round in 0..10_000 {
        let bench = tidegate_wasm::Plugin::new(code.clone(), settings(), world.clone(), 1).unwrap();
        bench.seat().unwrap();
        if round == 2000 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
}
