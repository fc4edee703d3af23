//! What is refused before any of it runs, each with its reason.

use tidegate_wasm::{AbiVersion, Code, Inspection, LoadError, hostcall_names};

use crate::module::{callback, event, plugin, plugin_of};

fn refused(bytes: &[u8]) -> String {
    Code::load(bytes, None).unwrap_err().to_string()
}

fn text(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {fields})")).unwrap()
}

const ABI: &str = "(func (export \"proxy_abi_version_0_2_1\"))";
const MEMORY: &str = "(memory (export \"memory\") 1)";
const MALLOC: &str = "(func (export \"malloc\") (param i32) (result i32) (i32.const 0))";

#[test]
fn what_is_no_module_is_refused() {
    assert_eq!(refused(b""), LoadError::NotWasm.to_string());
    assert_eq!(refused(b"(module)"), LoadError::NotWasm.to_string());
    assert_eq!(refused(b"\x7fELF____"), LoadError::NotWasm.to_string());
    assert!(refused(b"\0asm\x01\0").starts_with("truncated"));
    assert_eq!(refused(b"\0asm\x0d\0\x01\0"), LoadError::Component.to_string());
    let whole = plugin("");
    for end in [9, 20, whole.len() / 2, whole.len() - 1] {
        assert!(Code::load(&whole[..end], None).is_err(), "{end} bytes");
    }
}

#[test]
fn the_abi_must_be_said_once_and_be_known() {
    let rest = format!("{MEMORY} {MALLOC}");
    assert_eq!(refused(&text(&rest)), LoadError::NoAbi.to_string());
    let future = format!("{rest} (func (export \"proxy_abi_version_0_3_0\"))");
    assert_eq!(
        refused(&text(&future)),
        "speaks an ABI that is not supported (0.3.0); supported are 0.1.0, 0.2.0, 0.2.1"
    );
    let both = format!("{rest} {ABI} (func (export \"proxy_abi_version_0_1_0\"))");
    assert!(refused(&text(&both)).starts_with("says that it speaks several ABIs"));
    for (name, version) in
        [("0_1_0", AbiVersion::V0_1_0), ("0_2_0", AbiVersion::V0_2_0), ("0_2_1", AbiVersion::V0_2_1)]
    {
        assert_eq!(Code::load(&plugin_of(name, ""), None).unwrap().abi(), version);
    }
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(refused(&text(&format!("{ABI} {MALLOC}"))), "lacks the export `memory`");
    let told = refused(&text(&format!("{ABI} {MEMORY}")));
    assert_eq!(told, "lacks the export `proxy_on_memory_allocate` (or `malloc`)");
    let imports =
        "(import \"env\" \"proxy_teleport\" (func)) (import \"wasi_snapshot_preview1\" \"sock_open\" (func))";
    let told = refused(&text(&format!("{imports} {ABI} {MEMORY} {MALLOC}")));
    assert_eq!(
        told,
        "imports what the host does not have: `env.proxy_teleport`, `wasi_snapshot_preview1.sock_open`"
    );
    let wrong = format!("(import \"env\" \"proxy_log\" (func (param i64))) {ABI} {MEMORY} {MALLOC}");
    assert!(refused(&text(&wrong)).contains("proxy_log"));
}

#[test]
fn a_callback_of_another_form_is_named_with_the_right_one() {
    let told = refused(&plugin_of("0_2_1", &callback("request_headers", 2, "")));
    assert!(told.starts_with("exports `proxy_on_request_headers` as "), "{told}");
    assert!(told.ends_with("the ABI has (func (param i32 i32 i32) (result i32))"), "{told}");
    assert!(Code::load(&plugin_of("0_1_0", &callback("request_headers", 2, "")), None).is_ok());
    let memory = "(global (export \"proxy_on_tick\") i32 (i32.const 0))";
    assert!(refused(&plugin(memory)).contains("as no function"));
}

#[test]
fn an_inspection_says_everything_that_is_wrong_at_once() {
    let bad = text("(import \"env\" \"proxy_teleport\" (func))");
    let inspection = Inspection::of(&bad).unwrap();
    assert_eq!((inspection.abi, &*inspection.missing), (None, &[String::from("`env.proxy_teleport`")][..]));
    assert_eq!(inspection.faults.len(), 4);
    let good = Inspection::of(&plugin("")).unwrap();
    assert!(good.faults.is_empty() && good.imports.contains(&String::from("env.proxy_log")));
    assert!(good.exports.contains(&String::from("proxy_abi_version_0_2_1")));
}

#[test]
fn what_a_module_has_callbacks_for_is_told() {
    let hears = |functions: &str| {
        let hears = Code::load(&plugin(functions), None).unwrap().hears();
        (hears.requests, hears.connections)
    };
    assert_eq!(hears(&callback("response_trailers", 2, "")), (true, false));
    assert_eq!(hears(&event("upstream_connection_close", 2, "")), (false, true));
    assert_eq!(
        hears(&[callback("request_body", 3, ""), callback("upstream_data", 3, "")].concat()),
        (true, true)
    );
    assert_eq!(hears(&[callback("done", 1, ""), event("tick", 1, "")].concat()), (false, false));
}

#[test]
fn all_that_the_abi_has_can_be_allowed() {
    let names = hostcall_names();
    assert!(names.len() >= 40 && names.len() <= 64, "{}", names.len());
    assert!(names.iter().all(|name| name.starts_with("proxy_")));
}
