"""The binary under test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Optional

from ..network import Network
from .store import Store


@dataclass
class Options:
    binary: Path
    gateway_class: str
    controller: str


class Process:
    """Ended by its own id, never by name."""

    def __init__(self, log: Path, arguments: list[str]) -> None:
        self.log = log
        self.arguments = arguments
        self.running: Optional[subprocess.Popen[bytes]] = None
        self.output: Optional[IO[bytes]] = None

    def start(self) -> None:
        self.output = self.log.open("ab")
        environment = {**os.environ, "NO_COLOR": "1"}
        self.running = subprocess.Popen(
            self.arguments, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, env=environment
        )

    def has_ended(self) -> bool:
        return self.running is not None and self.running.poll() is not None

    def stop(self) -> None:
        if self.running is None:
            return
        self.running.send_signal(signal.SIGTERM)
        try:
            self.running.wait(5)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()
        self.running = None


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def gateway_arguments(options: Options, store: Store, network: Network) -> list[str]:
    return [
        str(options.binary), "run", "--policies", str(store.folder), "--port-offset", str(network.port_offset),
        "--gateway-class", options.gateway_class, "--controller-name", options.controller,
        "--status-file", str(store.status_file), "--status", f"127.0.0.1:{free_port()}",
        "--admin", f"127.0.0.1:{free_port()}", "--access-log", "off", "--drain-timeout", "1s",
    ]
