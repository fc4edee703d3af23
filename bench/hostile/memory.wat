;; Takes all memory that it gets and writes to it, again and again.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "x-plugin1")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $at i32)
    (loop $grow (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (loop $again
      (i32.store (local.get $at) (i32.const 1))
      (local.set $at (i32.rem_u (i32.add (local.get $at) (i32.const 4096)) (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4))))
      (br $again))
    (i32.const 0))
)
