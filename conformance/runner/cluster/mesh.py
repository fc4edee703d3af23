"""Sidecars: one `tidegate run --sidecar` for each pod that calls, started when it first does."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from ..echo.answers import Pod
from ..network import SIDECARS, split_host_port
from .process import Process, free_port

if TYPE_CHECKING:
    from .cluster import Cluster

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


class Mesh:
    def __init__(self, cluster: "Cluster") -> None:
        self.cluster = cluster
        self.sidecars: dict[str, tuple[Process, str]] = {}
        self.lock = threading.Lock()

    def sidecar(self, pod: Pod) -> str:
        """Where the sidecar of `pod` takes what the pod sends."""
        with self.lock:
            if pod.name not in self.sidecars:
                self.sidecars[pod.name] = self.start(pod)
            return self.sidecars[pod.name][1]

    def start(self, pod: Pod) -> tuple[Process, str]:
        outbound = f"{self.cluster.network.address(SIDECARS)}:15001"
        workload = pod.name.rsplit("-", 2)[0]
        process = Process(self.cluster.work / f"sidecar-{pod.namespace}-{workload}.log", [
            str(self.cluster.options.binary), "run", "--policies", str(self.cluster.store.folder), "--sidecar",
            "--namespace", pod.namespace, "--workload", workload, "--outbound", outbound,
            "--accept-proxy-protocol", "--status", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}",
            "--access-log", "off", "--drain-timeout", "1s",
        ])
        process.start()
        due = time.monotonic() + 20
        while True:
            host, port = split_host_port(outbound, 0)
            try:
                socket.create_connection((host, port), timeout=1).close()
                return process, outbound
            except OSError as error:
                if process.has_ended() or time.monotonic() > due:
                    raise RuntimeError(f"the sidecar did not start; see {process.log}") from error
                time.sleep(0.05)

    def resolve(self, pod: Pod, host: str, port: int) -> tuple[str, int]:
        """What DNS says to `pod`."""
        if host.replace(".", "").isdigit():
            return host, port
        parts = host.split(".")
        namespace = parts[1] if len(parts) > 1 else pod.namespace
        service = self.cluster.service(namespace, parts[0])
        if service is None:
            raise OSError(f"no such host: {host}")
        return service["spec"]["clusterIP"], port

    def connect(self, pod: Pod, host: str, port: int, timeout: float) -> socket.socket:
        """As an intercepted connection of `pod` would arrive at its sidecar."""
        destination = self.resolve(pod, host, port)
        connection = socket.create_connection(split_host_port(self.sidecar(pod), 0), timeout=timeout)
        connection.sendall(proxy_header((pod.address, 40000), destination))
        return connection

    def stop(self) -> None:
        for process, _ in self.sidecars.values():
            process.stop()
        self.sidecars.clear()


def proxy_header(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """PROXY protocol, version 2, TCP over IPv4."""
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    body = addresses + struct.pack(">HH", source[1], destination[1])
    return _SIGNATURE + bytes([0x21, 0x11]) + struct.pack(">H", len(body)) + body
