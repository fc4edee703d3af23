"""The loopback addresses of the emulated cluster, and how its clients dial.

A run takes one /16 of 127/8: 127.N.1.x are Gateways, 127.N.2.x Services, 127.N.3.x pods, 127.N.4.x sidecars. Gateways
bind their ports moved up by an offset, so that no privilege is needed; whoever dials one has to add it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

GATEWAYS, SERVICES, PODS, SIDECARS = 1, 2, 3, 4


@dataclass
class Network:
    number: int
    port_offset: int
    claim: socket.socket
    used: dict[int, int] = field(default_factory=dict)

    @classmethod
    def claimed(cls, port_offset: int) -> "Network":
        """The first /16 that no other run on this machine has; a bound socket is the claim to it."""
        for number in range(100, 250):
            claim = socket.socket()
            try:
                claim.bind((f"127.{number}.0.1", port_offset - 1))
            except OSError:
                claim.close()
            else:
                return cls(number, port_offset, claim)
        raise OSError("every loopback network from 127.100.0.0 on is taken")

    def address(self, part: int) -> str:
        """A fresh one."""
        self.used[part] = self.used.get(part, 0) + 1
        return f"127.{self.number}.{part}.{self.used[part]}"

    def bound_port(self, host: str, port: int) -> int:
        return port + self.port_offset if host.startswith(f"127.{self.number}.{GATEWAYS}.") else port

    def connect(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = socket.create_connection((host, self.bound_port(host, port)), timeout=timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def split_host_port(address: str, default: int) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    return (host, int(port)) if colon else (address, default)
