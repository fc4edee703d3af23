"""One plugin in one proxy: what it is asked, and all that can be seen of it."""

import contextlib
import dataclasses
import pathlib
import tempfile
import time

from oracle import grpc, proxies, talk, wire

common = proxies.common
#: Nothing more comes of a request when its log has been silent for the first, some are never silent and get the second, and
#: nothing more of a connection when both ends have been silent for the third.
USUAL, PATIENT = (0.12, 0.6, 0.15), (0.6, 3.0, 0.8)
pace = USUAL


@contextlib.contextmanager
def patient():
    """Meanwhile everything is waited for longer."""
    global pace
    pace = PATIENT
    try:
        yield
    finally:
        pace = USUAL


@dataclasses.dataclass
class Answer:
    """What the backend, or who is called by a plugin, says."""

    status: int = 200
    headers: list = dataclasses.field(default_factory=list)
    body: bytes = b""
    #: `None`: with `content-length`. A list, of none if need be: in chunks.
    trailers: list | None = None


@dataclasses.dataclass
class Request:
    method: str = "GET"
    path: str = "/"
    headers: list = dataclasses.field(default_factory=list)
    body: bytes = b""
    trailers: list | None = None
    host: str = "shop.example"
    answer: Answer = dataclasses.field(default_factory=Answer)

    def __str__(self):
        return f"{self.method} {self.path}" + (f" ({len(self.body)} bytes)" if self.body else "")


@dataclasses.dataclass
class Plugin:
    module: pathlib.Path
    config: str = ""
    name: str = "plugin"
    root_id: str = ""
    vm_id: str = ""


@dataclasses.dataclass
class Exchange:
    """One request, from all sides."""

    request: Request
    answer: object
    received: list
    called: dict
    log: list

    def sides(self):
        return {"answer": self.answer, "backend": self.received}


@dataclasses.dataclass
class Record:
    refused: str = ""
    #: The plugin has failed at the last of the exchanges.
    trapped: bool = False
    started: list = dataclasses.field(default_factory=list)
    exchanges: list = dataclasses.field(default_factory=list)
    later: list = dataclasses.field(default_factory=list)
    counted: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Ports:
    listen: int
    admin: int
    app: int
    upstreams: dict
    #: What comes to `listen` is carried as a whole.
    carried: bool = False
    #: Those of the upstreams that speak gRPC; `app` is the backend.
    grpc: set = dataclasses.field(default_factory=set)


def record(kind, plugins, case, most=None):
    """Starts a proxy of that kind with the plugins and asks it all that the case says, or only what comes first."""
    numbers = common.free_ports(3 + len(case.upstreams))
    by_grpc = {name for name, answer in {"app": case.app, **case.upstreams}.items() if isinstance(answer, grpc.Grpc)}
    ports = Ports(*numbers[:3], dict(zip(case.upstreams, numbers[3:])), bool(case.talks), by_grpc)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        place = pathlib.Path(folder)
        proxy = kind(place)
        app = backend(case, ports.app)
        stack.callback(app.close)
        kinds = {name: grpc if name in ports.grpc else wire for name in case.upstreams}
        called = {name: kinds[name].Server(ports.upstreams[name], answer) for name, answer in case.upstreams.items()}
        for server in called.values():
            stack.callback(server.close)
        found = Record()
        try:
            proxy.start(stack, place, ports, plugins)
        except proxies.Refused as why:
            found.refused = str(why)
            return found
        time.sleep(case.linger_first)
        mark = settled(proxy.log)
        found.started = proxy.logged(0)
        for request in (case.talks or case.requests)[:most]:
            begun = mark
            ask = one_talk if case.talks else one
            exchange, mark = ask(proxy, ports.listen, request, app, called, mark)
            found.exchanges.append(exchange)
            if proxy.failed(begun):
                found.trapped = True
                break
        if case.linger:
            time.sleep(case.linger)
            found.later = proxy.logged(mark)
            found.called_later = {name: server.take() for name, server in called.items()}
        found.counted = proxy.counted()
        return found


def backend(case, port):
    if case.talks:
        return talk.Server(port)
    return grpc.Server(port, case.app) if case.app else wire.Server(port, Answer())


def one(proxy, port, request, app, called, mark):
    # By gRPC it says the same to each.
    if not isinstance(app, (grpc.Server, talk.Server)):
        app.answer = request.answer
    app.take()
    answer = wire.ask(port, request)
    end = settled(proxy.log)
    calls = {name: server.take() for name, server in called.items()}
    return Exchange(request, answer, app.take(), calls, proxy.logged(mark)), end


def one_talk(proxy, port, words, app, called, mark):
    client, server = talk.play(port, app, words, pace[2])
    end = settled(proxy.log)
    calls = {name: other.take() for name, other in called.items()}
    return talk.Talked(words, client, server, proxy.logged(mark), calls), end


def settled(log):
    """Waits until nothing more is written; returns how much that is."""
    quiet, longest, _ = pace
    size = log.stat().st_size
    begun = since = time.monotonic()
    while time.monotonic() - since < quiet and time.monotonic() - begun < longest:
        time.sleep(0.02)
        now = log.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
    return size
