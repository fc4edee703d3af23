"""`client URL ...` inside a pod of the mesh: through its sidecar, told as the suite's echo client tells it."""

from __future__ import annotations

import json
import socket
import urllib.parse
from typing import Any, Callable, Optional

from ..cluster.cluster import Cluster
from ..echo import protobuf
from ..echo.answers import Pod
from ..golang import types as go
from ..golib.errors import Error
from ..golib.net import canonical
from .grpc_client import Told
from .http_client import Http2, Response, http1

_PORTS = {"http": 80, "https": 443, "grpc": 7070}
_TIMEOUT = 10.0


def requester(cluster: Cluster, load: Callable[[str], Any]) -> Callable[..., Any]:
    """What stands for MeshPod.request."""

    def request(mesh_pod: go.Ref, arguments: list[str]) -> tuple[Any, Optional[Error]]:
        fields = mesh_pod.get().fields
        package = load("sigs.k8s.io/gateway-api/conformance/utils/echo")
        pod = cluster.workloads.pod(fields["Namespace"], fields["Name"])
        if pod is None:
            return package.member("Response").zero(), Error(f"no pod {fields['Name']}")
        try:
            text = run(cluster, pod, arguments)
        except (OSError, RuntimeError) as error:
            return package.member("Response").zero(), Error(str(error))
        return package.member("ParseResponse")(text), None

    return request


def run(cluster: Cluster, pod: Pod, arguments: list[str]) -> str:
    url = urllib.parse.urlsplit(arguments[1])
    method, count, headers = "GET", 1, []
    rest = iter(arguments[2:])
    for argument in rest:
        if argument == "-H":
            name, _, value = next(rest).partition(":")
            headers.append((name, value))
        elif argument.startswith("--method="):
            method = argument.partition("=")[2]
        elif argument.startswith("--count="):
            count = int(argument.partition("=")[2])
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    told = []
    for _ in range(count):
        # A Host of its own (`-H Host:`) names the request, not where it goes.
        authority = next((value for name, value in headers if name.lower() == "host"), url.netloc)
        sent = [(name, value) for name, value in headers if name.lower() != "host"]
        with cluster.mesh.connect(pod, host, port, _TIMEOUT) as connection:
            if url.scheme == "grpc":
                told.append(grpc(connection, authority, sent))
            else:
                target = (url.path or "/") + (f"?{url.query}" if url.query else "")
                told.append(http(http1(connection, method, target, authority, sent, b"", _TIMEOUT), method))
    return "\n\n".join(told)


def http(response: Response, method: str) -> str:
    lines = [f"StatusCode={response.status}"]
    lines += [f"ResponseHeader={canonical(name)}:{value}" for name, value in response.headers]
    if response.body.startswith(b"{") and response.status < 300:
        seen: dict[str, Any] = json.loads(response.body)
        lines += [f"Hostname={seen['pod']}", f"Host={seen['host']}", f"Method={method}", f"URL={seen['path']}"]
        lines += [f"RequestHeader={name}:{value}" for name, values in seen["headers"].items() for value in values]
    return "\n".join(lines)


def grpc(connection: socket.socket, authority: str, headers: list[tuple[str, str]]) -> str:
    fields = [
        (":method", "POST"), (":scheme", "http"), (":authority", authority),
        (":path", "/proto.EchoTestService/Echo"), ("content-type", "application/grpc"), ("te", "trailers"),
    ]
    fields += [(name.lower(), value) for name, value in headers]
    response = Http2(connection, _TIMEOUT).request(fields, protobuf.framed(b""))
    code = dict(response.headers + response.trailers).get("grpc-status", "")
    if response.status != 200 or code != "0":
        raise OSError(f"rpc error: HTTP {response.status}, code {code}")
    assertions = Told(protobuf.unframed(response.body)).GetAssertions()
    lines = ["StatusCode=200", f"Hostname={assertions.GetContext().GetPod()}", f"Host={assertions.GetAuthority()}"]
    lines += [f"RequestHeader={canonical(each.Key)}:{each.Value}" for each in assertions.GetHeaders()]
    return "\n".join(lines)

