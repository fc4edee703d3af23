"""The suite's gRPC client, and the packages that it is made of."""

from __future__ import annotations

from typing import Any, Optional

from ..echo import protobuf
from ..golang import types as go
from ..golang.scope import Package
from ..golib.errors import Error
from ..network import Network, split_host_port
from .http_client import Http2, Response

SERVICE = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"
_NAMES = [
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
]
_FROM_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


class Code(int):
    def String(self) -> str:
        return _NAMES[self]


class EchoRequest:
    pass


class Told:
    """pb.EchoResponse and what is in it: getters on numbered fields."""

    def __init__(self, data: bytes) -> None:
        self.fields = protobuf.decode(data)

    def text(self, number: int) -> str:
        return self.fields.get(number, [b""])[0].decode()

    def inner(self, number: int) -> "Told":
        return Told(self.fields.get(number, [b""])[0])

    def GetAssertions(self) -> "Told":
        return self.inner(1)

    def GetContext(self) -> "Told":
        return self.inner(4)

    def GetFullyQualifiedMethod(self) -> str:
        return self.text(1)

    def GetAuthority(self) -> str:
        return self.text(3)

    def GetNamespace(self) -> str:
        return self.text(1)

    def GetPod(self) -> str:
        return self.text(4)

    def GetHeaders(self) -> list["HeaderTold"]:
        return [HeaderTold(each) for each in self.fields.get(2, [])]


class HeaderTold(Told):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.Key, self.Value = self.text(1), self.text(2)

    def GetKey(self) -> str:
        return self.Key

    def GetValue(self) -> str:
        return self.Value


def replaced(network: Network, load: Any) -> dict[str, Any]:
    """What stands for DefaultClient's methods: a connection for each call."""

    def send(_client: Any, _t: Any, address: str, expected: go.Value, timeout: int) -> tuple[Any, Optional[Error]]:
        package: Package = load("sigs.k8s.io/gateway-api/conformance/utils/grpc")
        made = package.member("Response").zero()
        try:
            host, port = split_host_port(address, 80)
            response = call(network, host, port, expected.fields, timeout / 1e9)
        except OSError:
            made.fields["Code"] = Code(14)
            return go.Ref(made), None
        made.fields["Code"] = Code(code_of(response))
        if made.fields["Code"] == 0:
            made.fields["Response"] = Told(protobuf.unframed(response.body))
        for part, headers in (("Headers", response.headers), ("Trailers", response.trailers)):
            made.fields[part] = go.Cell.holding({name: [value] for name, value in headers})
        return go.Ref(made), None

    return {"DefaultClient.SendRPC": send, "DefaultClient.Close": lambda _client: None}


def call(network: Network, host: str, port: int, expected: dict[str, Any], timeout: float) -> Response:
    method = next(
        name for name in ("Echo", "EchoTwo", "EchoThree") if expected[f"{name}Request"] is not None
    )
    metadata = expected["RequestMetadata"].get().fields if expected["RequestMetadata"] else {}
    authority = metadata.get("Authority") or f"{host}:{port}"
    fields = [
        (":method", "POST"), (":scheme", "http"), (":authority", authority), (":path", f"/{SERVICE}/{method}"),
        ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "grpc-go/1"),
    ]
    fields += [(name.lower(), value) for name, value in (metadata.get("Metadata") or {}).items()]
    with network.connect(host, port, timeout) as connection:
        return Http2(connection, timeout).request(fields, protobuf.framed(b""))


def code_of(response: Response) -> int:
    """The status of a call, also where it never was one (gRPC over HTTP/2, "HTTP to gRPC status code mapping")."""
    told = dict(response.headers + response.trailers)
    if "grpc-status" in told:
        return int(told["grpc-status"])
    return _FROM_HTTP.get(response.status, 2)


PACKAGES: dict[str, dict[str, Any]] = {
    "google.golang.org/grpc": {"ClientConn": object},
    "google.golang.org/grpc/codes": {"Code": Code, **{name: Code(at) for at, name in enumerate(_NAMES)}},
    "google.golang.org/grpc/metadata": {"MD": dict},
    "sigs.k8s.io/gateway-api-conformance-images/echo-basic/grpcechoserver": {
        "EchoRequest": EchoRequest, "EchoResponse": Told,
    },
}
