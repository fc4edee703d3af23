"""What a contest asks of every proxy that enters it, and where its surroundings are."""

import dataclasses
import pathlib
import typing

#: A limit nobody reaches, in requests per second and client.
NEVER = 1_000_000


@dataclasses.dataclass(frozen=True)
class Features:
    """The same for every peer; what is not said is off."""

    #: HTTP/2 with prior knowledge on both sides, else HTTP/1.1 on both.
    http2: bool = False
    #: Unary gRPC calls; with `http2`.
    grpc: bool = False
    #: TLS 1.3 ends at the proxy, without resumption.
    tls: bool = False
    #: For each client address: "never" reached, or it "trips" at the second request.
    limit: typing.Optional[str] = None
    #: Caps and a breaker for consecutive failures.
    breaker: bool = False
    #: 10 % to a second backend, and whoever sends `x-canary: always`.
    canary: bool = False
    #: An access log, to a file.
    log: bool = False
    #: How many prefixes the route of a request is found among; requests match the last.
    routes: int = 1
    #: The share of requests that is traced, in percent; two spans each, by OTLP over gRPC.
    traced: typing.Optional[float] = None
    #: A plugin of proxy-wasm that adds a header each way; False: the same route without it.
    plugin: typing.Optional[bool] = None

    @property
    def path(self):
        return f"/r{self.routes - 1:05}/" if self.routes > 1 else "/"

    @property
    def prefixes(self):
        return [f"/r{number:05}/" for number in range(self.routes)]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a peer is started: its folder, its own port, and who else is there."""

    folder: pathlib.Path
    port: int
    app: int
    canary: int
    collector: int
    #: cert.pem and key.pem for localhost.
    certificate: pathlib.Path
    #: The module of the plugin, where one is asked for.
    plugin: pathlib.Path
    #: The file of the access log.
    log: pathlib.Path
