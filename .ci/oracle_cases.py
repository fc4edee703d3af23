"""Which plugins are asked through both proxies, how each is configured, and what it is asked.

`OWN` are built from plugins/. `OTHERS` are the examples of the public Rust SDK (proxy-wasm-rust-sdk, examples/) and the
one of AssemblyScript's (the README of @solo-io/proxy-runtime), by the file names that their own builds give them; nobody has
to have these.
"""

GET = ("GET", "/plain", {}, b"")


def get(path="/plain", **headers):
    return ("GET", path, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def post(path, body, **headers):
    return ("POST", path, {name.replace("_", "-"): value for name, value in headers.items()}, body)


TOKENS = '{"header": "x-token", "tokens": {"abc": "ann"}}'
KEYS = '{"cluster": "other", "path": "/judge", "header": "x-signature", "timeoutMs": 1000}'

#: Module, root id, configuration, requests.
OWN = [
    ("header_auth", "", TOKENS, [GET, get(x_token="abc"), get(x_token="abd"), get(x_token="abc", x_user="eve")]),
    ("redact_json", "", "card,iban", [GET, get("/json"), get("/json?deep"), post("/echo", b'{"card": 7}')]),
    ("signed_requests", "", KEYS, [GET, get(x_signature="good"), get(x_signature="bad"), post("/echo", b"x", x_signature="good")]),
    ("template", "", "", [GET, post("/echo", b"some text")]),
]
RUST = "proxy_wasm_example_"
OTHERS = [
    (RUST + "http_headers", "", "", [GET, get("/hello"), post("/hello", b"body"), get("/hello?x"), post("/echo", b"text")]),
    (RUST + "http_body", "", "", [GET, get("/secret"), post("/echo", b"a secret"), post("/echo", b"none"), get("/empty"), get("/large")]),
    (RUST + "http_config", "", "configured", [GET, get("/missing")]),
    (RUST + "http_config", "", "", [GET]),
    (RUST + "http_auth_random", "", "", [GET, GET, GET, post("/echo", b"held while it is asked")]),
    (RUST + "grpc_auth_random", "", "", [GET, post("/s.S/M", b"\0\0\0\0\0", content_type="application/json")]),
    (RUST + "envoy_filter_metadata", "", "", [GET, get("/missing")]),
    (RUST + "hello_world", "", "", [GET]),
    ("add_header", "add_header", "what ever you want", [GET]),
]
