"""What each plugin is configured with and asked. Nobody says here what follows: Envoy does."""

import dataclasses

from oracle.grpc import Grpc
from oracle.run import Answer, Request
from oracle.talk import RESET, Talk

#: What is never the same twice: moments, numbers by chance.
TIME = r"\d{13,20}|\d{4}-\d\d-\d\d[ T][\d:.]+( UTC|Z)?"


@dataclasses.dataclass
class Case:
    config: str = ""
    #: Several plugins of one module, as (root_id, configuration); they share what a `vm_id` shares.
    roots: list = dataclasses.field(default_factory=list)
    #: Default: what all are asked.
    requests: list | None = None
    #: What both ends of a connection say that is carried as a whole; then there are no requests.
    talks: list = dataclasses.field(default_factory=list)
    #: What the backend answers by gRPC, where it speaks that.
    app: Grpc | None = None
    #: Whom the plugin may call, by the name that it uses, and what they answer.
    upstreams: dict = dataclasses.field(default_factory=dict)
    #: Seconds to listen for what a plugin does without being asked.
    linger: float = 0
    #: The same before anything is asked.
    linger_first: float = 0
    #: Patterns that are not compared, beside TIME.
    vary: list = dataclasses.field(default_factory=list)
    #: Patterns of lines that are logged by a timer, which may strike at any time of a request.
    timed: list = dataclasses.field(default_factory=list)
    #: Parts of what is compared that differ and may, and why.
    known: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.requests = usual() if self.requests is None else self.requests
        self.vary = [*self.vary, TIME]


def talks():
    """What every plugin of connections hears: each way for one to go and to end."""
    hello = [("client", b"hello\n"), ("server", b"and a secret to you\n")]
    return [
        Talk("client ends first", [*hello, ("client", b""), ("server", b"bye\n"), ("server", b"")]),
        Talk("server ends first", [*hello, ("server", b""), ("client", b"bye\n"), ("client", b"")]),
        Talk("server speaks first", [("server", b"220 ready\n"), *hello, ("client", b""), ("server", b"")]),
        Talk("in halves", [("client", b"one li"), ("client", b"ne\ntwo "), ("client", b"lines\n"), *hello,
                           ("client", b"no end"), ("client", b""), ("server", b"")]),
        Talk("client is gone", [*hello, ("client", RESET)]),
        Talk("server is gone", [*hello, ("server", RESET)]),
        Talk("a denied line", [*hello, ("client", b"SELECT 1\ndrop everything\n"), ("server", b"done\n")]),
        Talk("a denied half", [("client", b"let "), ("client", b"it be\nDR"), ("client", b"OP it\n")]),
        Talk("nobody says anything", [("client", b""), ("server", b"")]),
    ]


def by_grpc():
    """What a plugin that judges gRPC tells apart."""
    grpc = ("content-type", "application/grpc")
    call = post(b"\0\0\0\0\2hi", grpc, ("te", "trailers"), path="/shop.Cart/Get")
    return [get("/"), call, post(b"", grpc, ("te", "trailers"), ("content-length", "0"), path="/grpc.reflection.v1alpha.ServerReflection/X")]


def html():
    body = b'<html><head><title>t</title></head><body>Hello secret <a href="http://foo.com/x">x</a></body></html>'
    return Answer(headers=[("content-type", "text/html"), ("set-cookie", "a=1"), ("set-cookie", "b=2")], body=body)


def post(body, *headers, path="/post", trailers=None, answer=None):
    return Request("POST", path, list(headers), body, trailers, answer=answer or Answer(body=b"thanks"))


def get(path="/", *headers, host="shop.example", answer=None, method="GET"):
    return Request(method, path, list(headers), host=host, answer=answer or Answer(body=b"hello"))


def usual():
    """What every plugin is asked: each form of a message once."""
    cookies = ("cookie", "a=1; my_cookie=abc; policy=B; session=xyz")
    agent = ("user-agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile Safari/604.1")
    return [
        get("/hello?key=val&token=t%20x&user=ann", cookies, agent, ("authorization", "Bearer abc")),
        get("/a/b/../c", ("x-repeated", "one"), ("X-Repeated", "two"), ("x-empty", ""), answer=html()),
        get("/head", method="HEAD", answer=Answer(headers=[("content-length", "5")])),
        get("/none", answer=Answer(204)),
        get("/missing", answer=Answer(404, [("x-why", "gone")], b"not found")),
        get("/broken", answer=Answer(503, [("reply-with-error", "1")], b"broken")),
        post(b'{"id": "1", "token": "xxx", "card": "4111-1111-1111-1111"}', ("content-type", "application/json")),
        post(b"in chunks, a pattern", ("te", "trailers"), ("trailer", "x-sum"), trailers=[("x-sum", "7")],
             answer=Answer(headers=[("trailer", "x-end")], body=b"out", trailers=[("x-end", "z")])),
        post(b"", ("content-length", "0"), answer=Answer(201)),
        get("/chunks", answer=Answer(headers=[("content-type", "text/plain")], body=b"secret in chunks", trailers=[])),
    ]


def bodiless():
    return [request for request in usual() if not request.body or request.trailers is not None]


def bodies():
    """What the Go SDK's example of bodies tells apart."""
    found = [post(b"the body", ("content-length", "8"), answer=Answer(body=b"the answer")), get("/")]
    for where in ("request", "response"):
        for operation in ("append", "prepend", "replace"):
            headers = [("content-length", "8"), ("buffer-replace-at", where), ("buffer-operation", operation)]
            found.append(post(b"the body", *headers, answer=Answer(body=b"the answer")))
    return found


ENDS = "Envoy tells the end of an HTTP/1 body by one more callback, of no bytes"
GROWS = "a body that grows under its old content-length is cut in Envoy; here it has its own length"
TRIED = {"log of the start": "here a plugin that is only tried is told its end too"}


def assemblyscript(root, config, **more):
    """Its SDK logs its own doings: how many fields a head has, and by which number a call goes, is up to the proxy."""
    vary = [r"(\[object ArrayBuffer\][:,]?)+", r"token: \d+", r"headers: ?\d+"]
    return Case(roots=[(root, config)], vary=vary, known=TRIED, **more)


def queries():
    paths = ["/?key=val", "/path?k=1&key=2", "/index.php?param=1", "/V1/file.html", "/foo/bar?x=%2F&y", "/redirect/me"]
    paths += ["/v1/file.html?user=ann", "/v1/file.html?user=bob", "/v1/?user=eve", "/pre/foo-one/bar?x=/foo-two/"]
    asked = [get(path, host="foo.com") for path in paths]
    return [*usual(), *asked, get("/", host="www.example.com"), get("/", host="127.0.0.1")]


#: What runs without being asked has to be seen before anybody asks.
NONE = []
HTTPBIN = {"httpbin": Answer(headers=[("x-bin", "1")], body=b"\x02")}
FORBIDDEN = {"httpbin": Answer(503, body=b"\x03")}
WEB = {"web_service": Answer(headers=[("x-web", "1")], body=b"w", trailers=[("x-last", "1")])}

TOKENS = '{"header": "x-token", "tokens": {"abc": "ann"}}'
#: A service that judges signatures, as our own example asks it.
JUDGE = '{"cluster": "judge", "path": "/judge", "header": "x-signature", "timeoutMs": 1000}'


def signed():
    return [*usual(), get("/", ("x-signature", "s")), post(b"held while it is asked", ("x-signature", "s"))]


#: By the module's path within its folder, or its name alone. Whose name is not here is asked what all are.
CASES = {
    # Ours.
    "header_auth": Case(config=TOKENS, requests=[
        *usual(),
        get("/", ("x-token", "abc")),
        get("/", ("x-token", "abd")),
        get("/", ("x-token", "abc"), ("x-user", "eve")),
    ]),
    "redact_json": Case(config="card,iban", requests=[*usual(), get("/json", answer=Answer(
        headers=[("content-type", "application/json")], body=b'{"card": 7, "a": [{"iban": 1}, "card"], "b": "\\u00e4"}',
    ))]),
    "line_guard": Case(config='{"deny": ["DROP"], "mask": ["secret"]}', talks=talks()),
    "line_guard#unreadable": Case(config="{", talks=talks()[:1]),
    "signed_requests": Case(config=JUDGE, upstreams={"judge": Answer()}, requests=signed()),
    "signed_requests#refused": Case(config=JUDGE, upstreams={"judge": Answer(403)}, requests=signed()),
    "signed_requests#unreadable": Case(config="{"),
    # The Rust SDK's examples.
    "hello_world": Case(requests=NONE, linger=5.5),
    "http_config": Case(config="what is configured"),
    "http_auth_random": Case(upstreams=HTTPBIN),
    "http_auth_random#forbidden": Case(upstreams=FORBIDDEN),
    **{f"{name}#{title}": Case(requests=by_grpc(), app=Grpc(0, [b"thanks"]), upstreams={"grpcbin": answer})
       for name in ("grpc_auth_random", "proxy_wasm_example_grpc_auth_random")
       for title, answer in {"granted": Grpc(), "in words": Grpc(2, [], "not now"), "forbidden": Grpc(7)}.items()},
    # Calls with the headers of the request. With those of one that has a body Envoy announces it and never sends it.
    "go-sdk/http_auth_random": Case(upstreams=HTTPBIN, requests=bodiless()),
    "go-sdk/http_auth_random#forbidden": Case(upstreams=FORBIDDEN, requests=bodiless()),
    # The Go SDK's.
    "helloworld": Case(requests=NONE, linger=1.5, vary=[r"random value: \d+"]),
    "go-sdk/dispatch_call_on_tick": Case(requests=NONE, upstreams=WEB, linger=1, vary=["/(ok|fail)", r"called \d+"]),
    "foreign_call_on_tick": Case(
        requests=NONE,
        linger=0.5,
        vary=[r"called: \d+"],
        known={"log": "Envoy compresses for plugins, by a function of its own that no ABI names"},
    ),
    "http_body_chunk": Case(known={": log": ENDS}),
    "network": Case(talks=talks(), vary=[r"127\.0\.0\.1:\d+"]),
    "go-sdk/http_body": Case(requests=bodies()),
    "go-sdk/http_body#echo": Case(config="echo"),
    "go-sdk/http_headers": Case(config='{"header": "x-wasm-header", "value": "demo-wasm"}'),
    "go-sdk/http_headers#unreadable": Case(config="{"),
    "http_routing": Case(config="2"),
    "http_routing#other": Case(config="3"),
    "json_validation": Case(config='{"requiredKeys": ["id", "token"]}'),
    "metrics": Case(requests=[get("/", ("my-custom-header", value)) for value in ("foo", "foo", "bar")]),
    "multiple_dispatches": Case(upstreams=HTTPBIN),
    "postpone_requests": Case(),
    "shared_data": Case(),
    "vm_plugin_configuration": Case(requests=NONE, config="of the plugin"),
    # The C++ SDK's.
    "http_wasm_example": Case(
        vary=[r"headers: \d+"],
        timed=[r"onTick\(\)"],
        known={": answer": ENDS, "/post (58 bytes): log": ENDS},
    ),
    # The AssemblyScript SDK's.
    "addheader": assemblyscript("add_header", ""),
    "addheader#configured": assemblyscript("add_header", "from configuration"),
    "auth": assemblyscript("auth", "authority", requests=bodiless(), upstreams={"authority": Answer(body=b"yes")}),
    "auth#forbidden": assemblyscript("auth", "authority", upstreams={"authority": Answer(403, body=b"no")},
                                     requests=bodiless()),
    "auth#nobody": assemblyscript("auth", "unknown"),
    "remove-headers": assemblyscript("remove_headers", "set-,x-"),
    "remove-headers#nothing": assemblyscript("remove_headers", ""),
    "singleton": Case(
        roots=[("auth_singleton", "config"), ("auth", "")],
        upstreams={"config": Answer(body=b"abc")},
        linger_first=2.5,
        requests=[get("/", ("x-auth", "abc")), get("/", ("x-auth", "abd")), get("/")],
        known={
            "log": "in Envoy both plugins are in one VM; here each has its own, and they share data",
            "called": "how often it was time to ask again",
        },
    ),
    # Samples of a public collection, in several languages.
    "ab_testing": Case(requests=queries()),
    "config_denylist": Case(config="abc\nbad\nxyz"),
    "geo_directional_origin": Case(requests=[*usual(), get("/", ("x-country-code", "DE"))]),
    "body_chunking": Case(known={": ": GROWS}),
    "content_injection": Case(known={": answer": GROWS}),
    "log_calls": Case(known=TRIED),
    "testing": Case(vary=[r"time \d: \d+"]),
    "docs_plugin_config": Case(config="a secret"),
    "redirect": Case(requests=queries()),
    "redirect_bulk": Case(config="# from and to\nwww.example.com www.example.net\nfoo.com b.com\n", requests=queries()),
    "regex_rewrite": Case(requests=queries()),
    "set_cookie": Case(vary=[r"\d{6,20}"]),
}


def of(name):
    """The cases of a module: several, where one configuration cannot show all."""
    own = [key for key in CASES if key.split("#")[0] in (name, name.rpartition("/")[2])]
    folder = [key for key in own if "/" in key]
    return {key.rpartition("/")[2]: CASES[key] for key in folder or own} or {name.rpartition("/")[2]: Case()}
