#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_policy::fuzzing::access_log(bytes));
