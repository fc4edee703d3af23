//! Plugins in the text format: a prelude that has everything, and what a test wants to happen in which callback.

use std::fmt::Write as _;

/// What the prelude imports: name, parameters.
const IMPORTS: &[(&str, &str)] = &[
    ("log", "i32 i32 i32"),
    ("get_log_level", "i32"),
    ("get_current_time_nanoseconds", "i32"),
    ("set_tick_period_milliseconds", "i32"),
    ("get_property", "i32 i32 i32 i32"),
    ("set_property", "i32 i32 i32 i32"),
    ("get_buffer_bytes", "i32 i32 i32 i32 i32"),
    ("get_buffer_status", "i32 i32 i32"),
    ("set_buffer_bytes", "i32 i32 i32 i32 i32"),
    ("get_header_map_pairs", "i32 i32 i32"),
    ("set_header_map_pairs", "i32 i32 i32"),
    ("get_header_map_value", "i32 i32 i32 i32 i32"),
    ("add_header_map_value", "i32 i32 i32 i32 i32"),
    ("replace_header_map_value", "i32 i32 i32 i32 i32"),
    ("remove_header_map_value", "i32 i32 i32"),
    ("get_header_map_size", "i32 i32"),
    ("send_local_response", "i32 i32 i32 i32 i32 i32 i32 i32"),
    ("continue_stream", "i32"),
    ("close_stream", "i32"),
    ("get_status", "i32 i32 i32"),
    ("http_call", "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32"),
    ("grpc_call", "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32"),
    ("grpc_stream", "i32 i32 i32 i32 i32 i32 i32 i32 i32"),
    ("grpc_send", "i32 i32 i32 i32"),
    ("grpc_close", "i32"),
    ("grpc_cancel", "i32"),
    ("get_shared_data", "i32 i32 i32 i32 i32"),
    ("set_shared_data", "i32 i32 i32 i32 i32"),
    ("register_shared_queue", "i32 i32 i32"),
    ("enqueue_shared_queue", "i32 i32 i32"),
    ("dequeue_shared_queue", "i32 i32 i32"),
    ("define_metric", "i32 i32 i32 i32"),
    ("increment_metric", "i32 i64"),
    ("record_metric", "i32 i64"),
    ("get_metric", "i32 i32"),
    ("call_foreign_function", "i32 i32 i32 i32 i32 i32"),
    ("set_effective_context", "i32"),
    ("done", ""),
];

/// `$say` logs a number, `$out` the bytes whose pointer and length lie at 16 and 20.
const HELPERS: &str = r#"
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 65536))
  (func $malloc (export "proxy_on_memory_allocate") (param $n i32) (result i32)
    (global.get $heap) (global.set $heap (i32.add (global.get $heap) (local.get $n))))
  (func $say (param $n i32)
    (i32.store8 (i32.const 32) (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 10))))
    (i32.store8 (i32.const 33) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (if (i32.lt_u (local.get $n) (i32.const 10))
      (then (drop (call $log (i32.const 2) (i32.const 33) (i32.const 1))))
      (else (drop (call $log (i32.const 2) (i32.const 32) (i32.const 2))))))
  (func $out (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
"#;

/// A plugin of ABI 0.2.1 with `functions`. In them `@"text"` stands for pointer and length of that text, and
/// `@{name=value;name=value}` for those of a map.
pub(crate) fn plugin(functions: &str) -> Vec<u8> {
    plugin_of("0_2_1", functions)
}

pub(crate) fn plugin_of(abi: &str, functions: &str) -> Vec<u8> {
    let mut text = String::from("(module\n");
    for (name, params) in IMPORTS {
        let params = if params.is_empty() { String::new() } else { format!("(param {params})") };
        writeln!(text, r#"(import "env" "proxy_{name}" (func ${name} {params} (result i32)))"#).unwrap();
    }
    writeln!(text, r#"(func (export "proxy_abi_version_{abi}"))"#).unwrap();
    text.push_str(HELPERS);
    let (functions, data) = with_data(functions);
    text.push_str(&functions);
    text.push_str(&data);
    text.push(')');
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A callback of so many parameters that answers 0.
pub(crate) fn callback(name: &str, params: usize, body: &str) -> String {
    format!(r#"(func (export "proxy_on_{name}") {} (result i32) {body} (i32.const 0))"#, parameters(params))
}

/// The same without an answer.
pub(crate) fn event(name: &str, params: usize, body: &str) -> String {
    format!(r#"(func (export "proxy_on_{name}") {} {body})"#, parameters(params))
}

fn parameters(count: usize) -> String {
    (0..count).map(|number| format!("(param $p{number} i32) ")).collect()
}

fn with_data(functions: &str) -> (String, String) {
    let (mut out, mut data, mut at) = (String::new(), String::new(), 1024);
    let mut rest = functions;
    while let Some(place) = rest.find('@') {
        out.push_str(&rest[..place]);
        let close = if rest[place + 1..].starts_with('"') { '"' } else { '}' };
        let end = place + 2 + rest[place + 2..].find(close).unwrap();
        let text = &rest[place + 2..end];
        let bytes = if close == '"' { text.as_bytes().to_vec() } else { map(text) };
        let hex: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        writeln!(data, r#"(data (i32.const {at}) "{hex}")"#).unwrap();
        write!(out, "(i32.const {at}) (i32.const {})", bytes.len()).unwrap();
        at += bytes.len().next_multiple_of(8);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    (out, data)
}

/// In the form of the ABI.
fn map(text: &str) -> Vec<u8> {
    let pairs: Vec<(&str, &str)> =
        text.split(';').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap()).collect();
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut out = number(pairs.len()).to_vec();
    for (name, value) in &pairs {
        out.extend(number(name.len()));
        out.extend(number(value.len()));
    }
    for (name, value) in pairs {
        out.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    out
}
